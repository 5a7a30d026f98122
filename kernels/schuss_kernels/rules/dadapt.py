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
from ..lang.scalar_math import decayed, decayed_by

State = namedtuple("State", ["exp_avg", "exp_avg_sq", "grad_sum"])
Scalars = namedtuple(
    "Scalars",
    [
        "step_size",
        "beta1",
        "add1",
        "beta2",
        "one_minus_beta2",
        "root",
        "add3",
        "eps",
        "weight_decay",
        "keep",
        "dlr",
        "growth_rate",
    ],
)
Sums = namedtuple("Sums", ["numerator", "denominator"])
Running = namedtuple("Running", ["d", "numerator"], defaults=[0.0, 0.0])


def scalars(step, running, *, lr, betas, eps, weight_decay, decouple, use_bias_correction, d0, growth_rate):
    beta1, beta2 = betas
    root, d = math.sqrt(beta2), running.d or d0
    dlr = d * lr * (math.sqrt(1.0 - beta2**step) / (1.0 - beta1**step) if use_bias_correction else 1.0)
    coupled, keep = (0.0, 1.0 - weight_decay * dlr) if decouple else (weight_decay, 1.0)
    h = Scalars(
        1.0,
        beta1,
        dlr * (1.0 - beta1),
        beta2,
        1.0 - beta2,
        root,
        dlr * (1.0 - root),
        eps,
        coupled,
        keep,
        dlr,
        growth_rate,
    )
    return h, Running(d, running.numerator)


def measure(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
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
    g = decayed(g, h.weight_decay, p)
    m = h.beta1 * s.exp_avg + h.add1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    total = h.root * s.grad_sum + h.add3 * g
    return p * h.keep - h.step_size * (m / (math.sqrt(v) + h.eps)), State(m, v, total)


def _before(g, p, step, running, lr, betas, weight_decay, decouple, use_bias_correction, d0):
    """What both passes start from: root, dlr, the decayed gradient."""
    beta1, beta2 = betas
    correction = math.sqrt(1.0 - beta2**step) / (1.0 - beta1**step) if use_bias_correction else 1.0
    return math.sqrt(beta2), (running.d or d0) * lr * correction, decayed_by(g, 0.0 if decouple else weight_decay, p)


def reference_measure(p, g, s, step, *, running, lr, betas, eps, weight_decay, decouple, use_bias_correction, d0, **_):
    root, dlr, g = _before(g, p, step, running, lr, betas, weight_decay, decouple, use_bias_correction, d0)
    total = root * s.grad_sum + (dlr * (1.0 - root)) * g
    return Sums(g * (s.grad_sum / (np.sqrt(s.exp_avg_sq) + eps)), np.abs(total))


def reference(
    p, g, s, step, *, running, sums, lr, betas, eps, weight_decay, decouple, use_bias_correction, d0, growth_rate
):
    root, dlr, g = _before(g, p, step, running, lr, betas, weight_decay, decouple, use_bias_correction, d0)
    beta1, beta2 = betas
    m = beta1 * s.exp_avg + (dlr * (1.0 - beta1)) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    total = root * s.grad_sum + (dlr * (1.0 - root)) * g
    moves = (1.0 - root) * sums.denominator != 0.0  # not while no gradient was anything but zero
    keep = 1.0 - weight_decay * dlr if decouple and moves else 1.0
    return p * keep - (1.0 if moves else 0.0) * (m / (np.sqrt(v) + eps)), State(m, v, total)


DADAPT_ADAM = Rule(
    "dadapt_adam",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={
        "betas": FRACTION,
        "eps": NOT_NEGATIVE,
        "weight_decay": NOT_NEGATIVE,
        "d0": NOT_NEGATIVE,
        "growth_rate": NOT_NEGATIVE,
    },
    paper="Defazio & Mishchenko 2023, the Adam version",
    not_negative=("exp_avg_sq",),
    running=Running,
    Sums=Sums,
    measure=measure,
    finish=finish,
    over="all",
    reference_measure=reference_measure,
)


def rule_for(*, d0, eps, growth_rate, **_):
    """The rule that runs for a group's options."""
    for name, value in (("d0", d0), ("eps", eps)):
        if value == 0.0:
            raise ValueError(f"{name}: expected a number above 0; got {value!r}")
    if isinstance(growth_rate, (int, float)) and 0.0 < growth_rate < 1.0:
        raise ValueError(f"growth_rate: expected a number of at least 1, or 0 for no limit; got {growth_rate!r}")
    return DADAPT_ADAM
