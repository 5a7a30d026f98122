"""Prodigy: Adam that estimates its learning rate, as the distance from the start to the solution.

Mishchenko & Defazio 2023, "Prodigy: An Expeditiously Adaptive Parameter-Free Learner", the Adam version,
with what the authors' code adds; norms and products go over all tensors of a group::

    dlr = d * lr * [sqrt(1 - beta2^step) / (1 - beta1^step)]              [use_bias_correction]
    g'  = g + weight_decay * p                                            decouple=False
    m   = beta1 * m + d * (1 - beta1) * g'
    v   = beta2 * v + d^2 * (1 - beta2) * g'^2
    n   = beta3 * n + d / d0 * dlr * <g', p0 - p>
    s   = beta3 * s + d / d0 * dlr * g'                                   safeguard_warmup: d in place of dlr
    d   = max(d, d_coef * n / ||s||_1)                                    d starts as d0
    p   = p * (1 - weight_decay * dlr)                                    decouple=True
    p   = p - dlr * m / (sqrt(v) + d * eps)                               dlr with d as it was, eps with the new one

With ``growth_rate`` d becomes at most growth_rate times what it was (but for the step in which it first leaves d0). A
step where s is still zero moves nothing. Optax has the bias correction always on, decouple=True and no growth_rate.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, PARAMETER, Rule
from ..lang.scalar_math import decayed, decayed_by, difference, difference_of

State = namedtuple("State", ["exp_avg", "exp_avg_sq", "grad_sum", "p0"])
Scalars = namedtuple(
    "Scalars",
    [
        "step_size",
        "beta1",
        "add1",
        "beta2",
        "add2",
        "beta3",
        "add3",
        "eps",
        "weight_decay",
        "keep",
        "weight",
        "d0",
        "d_coef",
        "growth_rate",
    ],
)
Sums = namedtuple("Sums", ["numerator", "denominator"])
Running = namedtuple("Running", ["d", "d_max", "numerator"], defaults=[0.0, 0.0, 0.0])


def initial():
    return State(0.0, 0.0, 0.0, PARAMETER)


def scalars(
    step,
    running,
    *,
    lr,
    betas,
    beta3,
    eps,
    weight_decay,
    decouple,
    use_bias_correction,
    safeguard_warmup,
    d0,
    d_coef,
    growth_rate,
):
    beta1, beta2 = betas
    d = running.d or d0
    dlr = d * lr * (math.sqrt(1.0 - beta2**step) / (1.0 - beta1**step) if use_bias_correction else 1.0)
    coupled, keep = (0.0, 1.0 - weight_decay * dlr) if decouple else (weight_decay, 1.0)
    h = Scalars(
        step_size=dlr,
        beta1=beta1,
        add1=d * (1.0 - beta1),
        beta2=beta2,
        add2=d * d * (1.0 - beta2),
        beta3=beta3 or math.sqrt(beta2),
        add3=d / d0 * (d if safeguard_warmup else dlr),
        eps=eps,
        weight_decay=coupled,
        keep=keep,
        weight=d / d0 * dlr,
        d0=d0,
        d_coef=d_coef,
        growth_rate=growth_rate,
    )
    return h, Running(d, running.d_max or d0, running.numerator)


def measure(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    return Sums(g * difference(s.p0, p), abs(h.beta3 * s.grad_sum + h.add3 * g))


def finish(h, sums, step, running):
    d, d_max, numerator = running
    if sums.denominator == 0.0:  # no gradient was anything but zero so far
        return h._replace(step_size=0.0, keep=1.0, eps=d * h.eps), running
    numerator = h.beta3 * numerator + h.weight * sums.numerator
    if h.step_size > 0.0:
        found = h.d_coef * numerator / sums.denominator
        d = max(d, found) if d == h.d0 else d
        d_max = max(d_max, found)
        d = min(d_max, d * h.growth_rate) if h.growth_rate else d_max
    return h._replace(eps=d * h.eps), Running(d, d_max, numerator)


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    m = h.beta1 * s.exp_avg + h.add1 * g
    v = h.beta2 * s.exp_avg_sq + h.add2 * (g * g)
    total = h.beta3 * s.grad_sum + h.add3 * g
    return p * h.keep - h.step_size * (m / (math.sqrt(v) + h.eps)), State(m, v, total, s.p0)


def _rate(step, d, lr, betas, use_bias_correction):
    """dlr of a reference."""
    beta1, beta2 = betas
    return d * lr * (math.sqrt(1.0 - beta2**step) / (1.0 - beta1**step) if use_bias_correction else 1.0)


def reference_measure(
    p,
    g,
    s,
    step,
    *,
    running,
    lr,
    betas,
    beta3,
    eps,
    weight_decay,
    decouple,
    use_bias_correction,
    safeguard_warmup,
    d0,
    d_coef,
    growth_rate,
):
    d = running.d or d0
    dlr = _rate(step, d, lr, betas, use_bias_correction)
    g = decayed_by(g, 0.0 if decouple else weight_decay, p)
    total = (beta3 or math.sqrt(betas[1])) * s.grad_sum + d / d0 * (d if safeguard_warmup else dlr) * g
    return Sums(g * difference_of(s.p0, p), np.abs(total))


def reference(
    p,
    g,
    s,
    step,
    *,
    running,
    sums,
    lr,
    betas,
    beta3,
    eps,
    weight_decay,
    decouple,
    use_bias_correction,
    safeguard_warmup,
    d0,
    d_coef,
    growth_rate,
):
    beta1, beta2 = betas
    beta3 = beta3 or math.sqrt(beta2)
    d = running.d or d0
    dlr = _rate(step, d, lr, betas, use_bias_correction)
    g = decayed_by(g, 0.0 if decouple else weight_decay, p)
    m = beta1 * s.exp_avg + d * (1.0 - beta1) * g
    v = beta2 * s.exp_avg_sq + d * d * (1.0 - beta2) * (g * g)
    total = beta3 * s.grad_sum + d / d0 * (d if safeguard_warmup else dlr) * g

    following = d
    if sums.denominator == 0.0:  # no gradient was anything but zero so far: nothing moves
        dlr = 0.0
    elif dlr > 0.0:
        n = beta3 * running.numerator + d / d0 * dlr * sums.numerator
        found = d_coef * n / sums.denominator
        following = d_max = max(running.d_max or d0, found)
        if growth_rate:
            following = min(d_max, (max(d, found) if d == d0 else d) * growth_rate)
    p = p * (1.0 - weight_decay * dlr if decouple else 1.0)
    return p - dlr * (m / (np.sqrt(v) + following * eps)), State(m, v, total, s.p0)


PRODIGY = Rule(
    "prodigy",
    State,
    Scalars,
    scalars,
    update,
    reference,
    initial,
    limits={
        "betas": FRACTION,
        "beta3": FRACTION,
        "eps": NOT_NEGATIVE,
        "weight_decay": NOT_NEGATIVE,
        "d0": NOT_NEGATIVE,
        "d_coef": NOT_NEGATIVE,
        "growth_rate": NOT_NEGATIVE,
    },
    paper="Mishchenko & Defazio 2023, the Adam version",
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
    return PRODIGY
