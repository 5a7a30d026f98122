"""Muon: the running mean of a matrix's gradients, made orthogonal. AdamW for what is no matrix.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", and its code::

    m   = momentum * m + (1 - momentum) * g
    u   = momentum * m + (1 - momentum) * g                   Nesterov; u = m without
    o   = newton_schulz(u)                                    about U V^T of u = U S V^T
    p   = p * (1 - lr * weight_decay) - lr * scale * o

    x   = u / ||u||;  ns_steps times:  a = x x^T,  x = c0 x + (c1 a + c2 a a) x

``scale`` is sqrt(max(1, rows / columns)), or with ``rms_scale`` that of Liu et al. 2025, "Muon is Scalable for LLM
Training": rms_scale * sqrt(max(rows, columns)).

Conventions. ``torch``: as above, eps = 1e-7 a floor under the norm. The iteration is in bfloat16, whatever the
parameters are in: matrices are rounded to it after each product. Here the products are in float64, where sums of
products of such numbers are exact but for very wide ranges: the same bits on every machine. Where torch refuses arrays
of more than two axes, the rows here are the first axis and the columns all others, as in Jordan's code. ``keras``: the
iteration is in the parameter's type, eps = 1e-7 is added to the norm, and the mean is a sum: ``m = momentum * m + g``,
``u = g + momentum * m``; rms_scale = 0.2. ``optax``: the iteration is in the parameter's type, eps = 1e-8 is added to
the norm; both terms of u have their bias corrected; rows and columns are swapped in scale, as JAX's matrices are.

What is no matrix gets AdamW: torch's form, Keras's or Optax's (there with Nesterov's momentum, where Muon has it). The
iteration in the parameter's type goes through the BLAS that NumPy was built with: the last bits are its own.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.convention import Convention, Conventions
from ..lang.matrix_rule import MatrixRule
from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from . import adam, nadam

State = namedtuple("State", ["momentum_buffer"])
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def bfloat16(x):
    """The nearest bfloat16 to each number (of its nearest float32), as float64."""
    single = np.asarray(x, np.float32)
    bits = single.view(np.uint32)
    nearest = (bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(single), single, nearest.view(np.float32)).astype(np.float64)


def newton_schulz(x, steps, coefficients, rounded):
    """The iteration, for a matrix whose norm is at most 1; ``rounded`` to what it is kept in."""
    c0, c1, c2 = coefficients
    for _ in range(steps):
        a = rounded(x @ x.T)
        x = rounded(c0 * x + rounded(c1 * a + c2 * (a @ a)) @ x)
    return x


def orthogonal(u, steps, coefficients, eps, floor=False, rounded=lambda x: x):
    """About U V^T of the matrix U S V^T. ``floor``: eps is the least norm; else it is added to it."""
    tall = u.shape[0] > u.shape[1]
    x = rounded(u.T if tall else u)
    norm = rounded(np.sqrt(np.sum(x * x, dtype=np.float64)))
    x = rounded(x / (np.maximum(norm, rounded(eps)) if floor else norm.astype(u.dtype) + eps))
    x = newton_schulz(x, steps, coefficients, rounded)
    return (x.T if tall else x).astype(u.dtype)


def scale(rows, columns, rms_scale):
    """What the orthogonal matrix is multiplied by."""
    return rms_scale * math.sqrt(max(rows, columns)) if rms_scale > 0.0 else math.sqrt(max(1.0, rows / columns))


def reference(p, g, s, step, *, lr, momentum, nesterov, weight_decay, rms_scale, ns_steps, ns_coefficients, eps):
    m = momentum * s.momentum_buffer + (1.0 - momentum) * g
    u = momentum * m + (1.0 - momentum) * g if nesterov else m
    u = u.reshape(len(u), -1)
    singles = tuple(float(np.float32(c)) for c in ns_coefficients)
    o = orthogonal(u, int(ns_steps), singles, eps, floor=True, rounded=bfloat16)
    return p * (1.0 - lr * weight_decay) - (lr * scale(*u.shape, rms_scale)) * o.reshape(p.shape), State(m)


def reference_keras(p, g, s, step, *, lr, momentum, nesterov, weight_decay, rms_scale, ns_steps, ns_coefficients, eps):
    m = momentum * s.momentum_buffer + g
    u = g + momentum * m if nesterov else m
    o = orthogonal(u, int(ns_steps), ns_coefficients, eps)
    return p * (1.0 - lr * weight_decay) - (lr * scale(*u.shape, rms_scale)) * o, State(m)


def reference_optax(p, g, s, step, *, lr, momentum, nesterov, weight_decay, rms_scale, ns_steps, ns_coefficients, eps):
    m = momentum * s.momentum_buffer + (1.0 - momentum) * g
    if nesterov:
        ahead = momentum / (1.0 - momentum ** (step + 1))
        u = ahead * m + ((1.0 - momentum) / (1.0 - momentum**step)) * g
    else:
        u = m / (1.0 - momentum**step)
    o = orthogonal(u, int(ns_steps), ns_coefficients, eps)
    return p * (1.0 - lr * weight_decay) - (lr * scale(*u.shape[::-1], rms_scale)) * o, State(m)


# ------------------------------------------------------------------------------------------- what is no matrix


def scalars_adam(step, *, lr, betas, adam_eps, adam_weight_decay, adam_lr_ratio):
    return adam.scalars(step, lr=lr * adam_lr_ratio, betas=betas, eps=adam_eps, weight_decay=adam_weight_decay)


def scalars_adam_keras(step, *, lr, betas, adam_eps, adam_weight_decay, adam_lr_ratio):
    h = adam.scalars_keras(step, lr=lr * adam_lr_ratio, betas=betas, eps=adam_eps, weight_decay=0.0)
    return h._replace(keep=1.0 - lr * adam_weight_decay)


def scalars_nadam(step, *, lr, betas, adam_eps, adam_weight_decay, adam_lr_ratio):
    beta1, beta2 = betas
    rate = lr * adam_lr_ratio
    of_mean, of_gradient = rate * beta1 / (1.0 - beta1 ** (step + 1)), rate * (1.0 - beta1) / (1.0 - beta1**step)
    averages = beta1, 1.0 - beta1, beta2, 1.0 - beta2
    correction2 = 1.0 / math.sqrt(1.0 - beta2**step)
    return nadam.Scalars(of_mean, of_gradient, *averages, correction2, adam_eps, 0.0, 1.0 - rate * adam_weight_decay)


def reference_adam(p, g, s, step, *, lr, betas, adam_eps, adam_weight_decay, adam_lr_ratio):
    return adam.reference_adamw(
        p, g, s, step, lr=lr * adam_lr_ratio, betas=betas, eps=adam_eps, weight_decay=adam_weight_decay
    )


def reference_adam_keras(p, g, s, step, *, lr, betas, adam_eps, adam_weight_decay, adam_lr_ratio):
    beta1, beta2 = betas
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    alpha = lr * adam_lr_ratio * math.sqrt(1.0 - beta2**step) / (1.0 - beta1**step)
    return p * (1.0 - lr * adam_weight_decay) - alpha * (m / (np.sqrt(v) + adam_eps)), adam.State(m, v)


def reference_nadam(p, g, s, step, *, lr, betas, adam_eps, adam_weight_decay, adam_lr_ratio):
    beta1, beta2 = betas
    lr = lr * adam_lr_ratio
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    n = lr * beta1 / (1.0 - beta1 ** (step + 1)) * m + lr * (1.0 - beta1) / (1.0 - beta1**step) * g
    denominator = np.sqrt(v) * (1.0 / math.sqrt(1.0 - beta2**step)) + adam_eps
    return p * (1.0 - lr * adam_weight_decay) - n / denominator, nadam.State(m, v)


LIMITS = {
    "momentum": FRACTION,
    "weight_decay": NOT_NEGATIVE,
    "rms_scale": NOT_NEGATIVE,
    "ns_steps": NOT_NEGATIVE,
    "eps": NOT_NEGATIVE,
    "betas": FRACTION,
    "adam_eps": NOT_NEGATIVE,
    "adam_weight_decay": NOT_NEGATIVE,
    "adam_lr_ratio": NOT_NEGATIVE,
}
PAPER = "Jordan et al. 2024"


def two_axes(shape):
    return len(shape) == 2


def two_axes_or_more(shape):
    return len(shape) >= 2


ADAM = Rule(
    "muon_adamw",
    adam.State,
    adam.Scalars,
    scalars_adam,
    adam.update_adamw,
    reference_adam,
    limits=LIMITS,
    paper=f"what is no matrix beside Muon, {PAPER}",
    not_negative=("exp_avg_sq",),
)
ADAM_KERAS = ADAM.variant("muon_adamw_keras", scalars=scalars_adam_keras, reference=reference_adam_keras)
ADAM_OPTAX = ADAM.variant("muon_adamw_optax")
NADAM_OPTAX = ADAM.variant(
    "muon_nadamw_optax",
    State=nadam.State,
    Scalars=nadam.Scalars,
    scalars=scalars_nadam,
    update=nadam.update,
    reference=reference_nadam,
)
MUON = MatrixRule("muon", State, reference, fits=two_axes_or_more, otherwise=ADAM, limits=LIMITS, paper=PAPER)
MUON_KERAS = MUON.variant("muon_keras", reference=reference_keras, fits=two_axes, otherwise=ADAM_KERAS)
MUON_OPTAX = MUON.variant("muon_optax", reference=reference_optax, fits=two_axes, otherwise=ADAM_OPTAX)
MUON_OPTAX_NESTEROV = MUON_OPTAX.variant("muon_optax_nesterov", otherwise=NADAM_OPTAX)

CONVENTIONS = Conventions(
    torch=Convention(
        {"weight_decay": 0.1, "rms_scale": 0.0, "eps": 1e-7, "adam_eps": 1e-8, "adam_weight_decay": 1e-2},
        MUON,
        {"nesterov": MUON},
    ),
    keras=Convention(
        {"weight_decay": 4e-3, "rms_scale": 0.2, "eps": 1e-7, "adam_eps": 1e-7, "adam_weight_decay": 4e-3},
        MUON_KERAS,
        {"nesterov": MUON_KERAS},
    ),
    optax=Convention(
        {"weight_decay": 0.0, "rms_scale": 0.0, "eps": 1e-8, "adam_eps": 1e-8, "adam_weight_decay": 0.0},
        MUON_OPTAX,
        {"nesterov": MUON_OPTAX_NESTEROV},
    ),
)


def rule_for(*, nesterov, ns_steps, only_adam, convention, **_):
    """The rule that runs for a group's options."""
    if ns_steps != int(ns_steps):
        raise ValueError(f"ns_steps: expected a whole number, got {ns_steps!r}")
    found = CONVENTIONS[convention]
    rule = found.forms["nesterov"] if nesterov else found.rule
    return rule.otherwise if only_adam else rule
