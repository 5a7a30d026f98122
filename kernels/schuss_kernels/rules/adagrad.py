"""AdaGrad: a learning rate per element, falling with the squared gradients seen so far.

Duchi, Hazan & Singer 2011, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization" (JMLR 12),
Figure 1 with the diagonal matrix::

    g'  = g + weight_decay * p
    sum = sum + g'^2
    p   = p - lr / (1 + (step - 1) * lr_decay) * g' / (sqrt(sum) + eps)

Conventions. ``torch``: as above; eps stands outside the root and the accumulator starts at 0
(``initial_accumulator_value``). ``paper``: the same, its delta stands outside the root too. ``keras`` and ``optax``
start the accumulator at 0.1 and put eps = 1e-7 *inside* the root::

    p   = p - lr * g' / sqrt(sum + eps)                           0 where the sum is 0

(Optax leaves an element alone whose sum is 0; Keras divides by sqrt(eps), the same unless eps is 0.) Keras's weight
decay is decoupled: ``p = p * (1 - lr * weight_decay)`` and ``g' = g``. ``lr_decay`` is torch's own; it took it from Lua
Torch.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.convention import Convention, Conventions
from ..lang.rule import NOT_NEGATIVE, Rule
from ..lang.scalar_math import decayed, decayed_by

State = namedtuple("State", ["sum"])
Scalars = namedtuple("Scalars", ["lr", "weight_decay", "eps"])
InsideScalars = namedtuple("InsideScalars", ["lr", "weight_decay", "eps", "keep"])


def scalars(step, *, lr, lr_decay, weight_decay, eps):
    return Scalars(lr / (1.0 + (step - 1) * lr_decay), weight_decay, eps)


def scalars_optax(step, *, lr, weight_decay, eps):
    return InsideScalars(lr, weight_decay, eps, 1.0)


def scalars_keras(step, *, lr, weight_decay, eps):
    return InsideScalars(lr, 0.0, eps, 1.0 - lr * weight_decay)


def initial(*, initial_accumulator_value):
    return State(initial_accumulator_value)


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    total = s.sum + g * g
    return p - h.lr * (g / (math.sqrt(total) + h.eps)), State(total)


def update_inside(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    total = s.sum + g * g
    d = 0.0 if total == 0.0 else g / math.sqrt(total + h.eps)
    return p * h.keep - h.lr * d, State(total)


def reference(p, g, s, step, *, lr, lr_decay, weight_decay, eps):
    g = decayed_by(g, weight_decay, p)
    total = s.sum + g * g
    return p - lr / (1.0 + (step - 1) * lr_decay) * (g / (np.sqrt(total) + eps)), State(total)


def _inside(g, s, eps):
    """The step with eps inside the root, before it is multiplied by lr, and the new state."""
    total = s.sum + g * g
    return np.where(total == 0.0, 0.0, g / np.sqrt(total + eps)), State(total)


def reference_optax(p, g, s, step, *, lr, weight_decay, eps):
    d, s = _inside(decayed_by(g, weight_decay, p), s, eps)
    return p - lr * d, s


def reference_keras(p, g, s, step, *, lr, weight_decay, eps):
    d, s = _inside(g, s, eps)
    return p * (1.0 - lr * weight_decay) - lr * d, s


_PAPER = "Duchi, Hazan & Singer 2011"

ADAGRAD = Rule(
    "adagrad",
    State,
    Scalars,
    scalars,
    update,
    reference,
    initial,
    limits=dict.fromkeys(("lr_decay", "weight_decay", "eps", "initial_accumulator_value"), NOT_NEGATIVE),
    paper=f"{_PAPER}, Figure 1",
    not_negative=("sum",),
)
OPTAX = ADAGRAD.variant(
    "adagrad_optax",
    Scalars=InsideScalars,
    scalars=scalars_optax,
    update=update_inside,
    reference=reference_optax,
    paper=f"{_PAPER}, as in Optax",
)
KERAS = OPTAX.variant("adagrad_keras", scalars=scalars_keras, reference=reference_keras, paper=f"{_PAPER}, as in Keras")

CONVENTIONS = Conventions(
    torch=Convention({"lr": 1e-2, "eps": 1e-10, "initial_accumulator_value": 0.0}, ADAGRAD),
    keras=Convention({"lr": 1e-3, "eps": 1e-7, "initial_accumulator_value": 0.1}, KERAS),
    optax=Convention({"lr": 1e-2, "eps": 1e-7, "initial_accumulator_value": 0.1}, OPTAX),
    paper=Convention({"lr": 1e-2, "eps": 1e-10, "initial_accumulator_value": 0.0}, ADAGRAD),
)


def rule_for(*, lr_decay, convention, **_):
    """The rule that runs for a group's options."""
    if lr_decay != 0.0 and convention != "torch":
        raise ValueError(f"lr_decay is torch's; with convention={convention!r} it is 0, got {lr_decay}")
    return CONVENTIONS[convention].rule
