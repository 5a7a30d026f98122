"""Adam with D-Adaptation: its learning rate is an estimate of the distance from the start to the solution.

Defazio & Mishchenko 2023, "Learning-Rate-Free Learning by D-Adaptation", the Adam version, with what the
authors' code adds; norms and products go over all tensors of a group, and ``root = sqrt(beta2)``::

    dlr = d * lr * [sqrt(1 - beta2^step) / (1 - beta1^step)]              [use_bias_correction]
    g'  = g + weight_decay * p                                            decouple=False
    n   = root * n + (1 - root) * dlr * <g', s / (sqrt(v) + eps)>         s and v as they were
    m   = beta1 * m + (1 - beta1) * dlr * g'
    v   = beta2 * v + (1 - beta2) * g'^2
    s   = root * s + (1 - root) * dlr * g'
    d   = max(d, min(n / ((1 - root) * ||s||_1), growth_rate * d))        d starts as d0
    p   = p * (1 - weight_decay * dlr)                                    decouple=True
    p   = p - m / (sqrt(v) + eps)

The learning rate stands inside m. A step where s is still zero moves nothing. The authors' defaults are here; Optax's
``dadapt_adamw`` has the bias correction and decouple=True always on, and no growth_rate.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule

State = namedtuple("State", ["exp_avg", "exp_avg_sq", "grad_sum"])
Scalars = namedtuple(
    "Scalars",
    [
        "step_size", "beta1", "add1", "beta2", "one_minus_beta2", "root", "add3", "eps", "weight_decay", "keep",
        "dlr", "growth_rate",
    ],
)  # fmt: skip
Sums = namedtuple("Sums", ["numerator", "denominator"])
Running = namedtuple("Running", ["d", "numerator"], defaults=[0.0, 0.0])


def scalars(
    step, running, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decouple=False, use_bias_correction=False,
    d0=1e-6, growth_rate=0.0,
):  # fmt: skip
    beta1, beta2 = betas
    root, d = math.sqrt(beta2), running.d or d0
    dlr = d * lr * (math.sqrt(1.0 - beta2**step) / (1.0 - beta1**step) if use_bias_correction else 1.0)
    coupled, keep = (0.0, 1.0 - weight_decay * dlr) if decouple else (weight_decay, 1.0)
    h = Scalars(
        1.0, beta1, dlr * (1.0 - beta1), beta2, 1.0 - beta2, root, dlr * (1.0 - root), eps, coupled, keep, dlr,
        growth_rate,
    )  # fmt: skip
    return h, Running(d, running.numerator)


def measure(p, g, s, h):
    g = g + h.weight_decay * p
    return Sums(g * (s.grad_sum / (math.sqrt(s.exp_avg_sq) + h.eps)), abs(h.root * s.grad_sum + h.add3 * g))


def finish(h, sums, step, running):
    d, numerator = running
    below = (1.0 - h.root) * sums.denominator
    if below == 0.0:  # no gradient was anything but zero so far
        return h._replace(step_size=0.0, keep=1.0), running
    numerator = h.root * numerator + (1.0 - h.root) * (h.dlr * sums.numerator)
    if h.dlr > 0.0:
        found = numerator / below
        d = max(d, min(found, d * h.growth_rate) if h.growth_rate else found)
    return h, Running(d, numerator)


def update(p, g, s, h):
    g = g + h.weight_decay * p
    m = h.beta1 * s.exp_avg + h.add1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    total = h.root * s.grad_sum + h.add3 * g
    return p * h.keep - h.step_size * (m / (math.sqrt(v) + h.eps)), State(m, v, total)


def reference_measure(p, g, s, step, *, running, **options):
    h, _ = scalars(step, running, **options)
    g = g + h.weight_decay * p
    return Sums(g * (s.grad_sum / (np.sqrt(s.exp_avg_sq) + h.eps)), np.abs(h.root * s.grad_sum + h.add3 * g))


def reference(p, g, s, step, *, running, sums, **options):
    h, running = scalars(step, running, **options)
    h, _ = finish(h, sums, step, running)
    g = g + h.weight_decay * p
    m = h.beta1 * s.exp_avg + h.add1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    total = h.root * s.grad_sum + h.add3 * g
    return p * h.keep - h.step_size * (m / (np.sqrt(v) + h.eps)), State(m, v, total)


LIMITS = {
    "betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE, "d0": NOT_NEGATIVE,
    "growth_rate": NOT_NEGATIVE,
}  # fmt: skip

DADAPT_ADAM = Rule(
    "dadapt_adam", State, Scalars, scalars, update, reference, limits=LIMITS,
    paper="Defazio & Mishchenko 2023, the Adam version", not_negative=("exp_avg_sq",), running=Running, Sums=Sums,
    measure=measure, finish=finish, over="all", reference_measure=reference_measure,
)  # fmt: skip


def select(*, d0, eps, growth_rate, **_):
    """The rule that runs for a group's options."""
    for name, value in (("d0", d0), ("eps", eps)):
        if value == 0.0:
            raise ValueError(f"{name}: expected a number above 0; got {value!r}")
    if isinstance(growth_rate, (int, float)) and 0.0 < growth_rate < 1.0:
        raise ValueError(f"growth_rate: expected a number of at least 1, or 0 for no limit; got {growth_rate!r}")
    return DADAPT_ADAM
