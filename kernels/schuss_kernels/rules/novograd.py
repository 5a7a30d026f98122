"""NovoGrad: momentum on gradients that are divided by a running norm of their tensor.

Ginsburg et al. 2019, "Training Deep Networks with Stochastic Gradient Normalized by Layerwise Adaptive Second Moments",
Algorithm 1::

    v   = beta2 * v + (1 - beta2) * ||g||^2             one number a tensor; first step: v = ||g||^2
    d   = g / (sqrt(v) + eps) + weight_decay * p
    m   = beta1 * m + d                                 with grad_averaging: beta1 * m + (1 - beta1) * d
    p   = p - lr * m

Where there is nothing to divide by, the gradient is all zeros, and so is its share of d. ``grad_averaging`` is an
option of NVIDIA's code.

Conventions. ``paper``: the first step has no eps; betas = (0.95, 0.98) and eps = 1e-8 are those of NVIDIA's code.
``optax``: eps is there from the first step on, as in NVIDIA's code; betas = (0.9, 0.25), eps = 1e-6.
"""

import math
from collections import namedtuple

from ..lang.convention import Convention, Conventions
from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import decayed, decayed_by

State = namedtuple("State", ["exp_avg"])
Scalars = namedtuple("Scalars", ["lr", "beta1", "beta2", "eps", "weight_decay", "scale", "share"])
Sums = namedtuple("Sums", ["squares"])
Found = namedtuple("Found", ["scale"])
Running = namedtuple("Running", ["exp_avg_sq"], defaults=[0.0])


def scalars(step, *, lr, betas, eps, weight_decay, grad_averaging):
    return scalars_optax(
        step,
        lr=lr,
        betas=betas,
        eps=0.0 if step == 1 else eps,
        weight_decay=weight_decay,
        grad_averaging=grad_averaging,
    )


def scalars_optax(step, *, lr, betas, eps, weight_decay, grad_averaging):
    beta1, beta2 = betas
    return Scalars(lr, beta1, beta2, eps, weight_decay, 1.0, 1.0 - beta1 if grad_averaging else 1.0)


def measure(p, g, s, h):
    return Sums(g * g)


def finish(h, sums, step, running):
    v = sums.squares if step == 1 else h.beta2 * running.exp_avg_sq + (1.0 - h.beta2) * sums.squares
    return Found(1.0 / (math.sqrt(v) + h.eps) if v != 0.0 or h.eps > 0.0 else 0.0), Running(v)


def update(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.share * decayed(g * h.scale, h.weight_decay, p)
    return p - h.lr * m, State(m)


def reference_measure(p, g, s, step, **_):
    return Sums(g * g)


def reference(p, g, s, step, *, running, sums, lr, betas, eps, weight_decay, grad_averaging):
    return _reference(p, g, s, step, running, sums, lr, betas, 0.0 if step == 1 else eps, weight_decay, grad_averaging)


def reference_optax(p, g, s, step, *, running, sums, lr, betas, eps, weight_decay, grad_averaging):
    return _reference(p, g, s, step, running, sums, lr, betas, eps, weight_decay, grad_averaging)


def _reference(p, g, s, step, running, sums, lr, betas, eps, weight_decay, grad_averaging):
    """Both conventions."""
    beta1, beta2 = betas
    v = sums.squares if step == 1 else beta2 * running.exp_avg_sq + (1.0 - beta2) * sums.squares
    norm = math.sqrt(v) + eps
    d = decayed_by(g * (1.0 / norm if norm != 0.0 else 0.0), weight_decay, p)
    m = beta1 * s.exp_avg + (1.0 - beta1 if grad_averaging else 1.0) * d
    return p - lr * m, State(m)


_PAPER = "Ginsburg et al. 2019, Algorithm 1"
NOVOGRAD = Rule(
    "novograd",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper=_PAPER,
    running=Running,
    Sums=Sums,
    measure=measure,
    finish=finish,
    reference_measure=reference_measure,
)
NOVOGRAD_OPTAX = NOVOGRAD.variant(
    "novograd_optax", scalars=scalars_optax, reference=reference_optax, paper=f"{_PAPER}, as in Optax"
)

CONVENTIONS = Conventions(
    paper=Convention({"betas": (0.95, 0.98), "eps": 1e-8}, NOVOGRAD),
    optax=Convention({"betas": (0.9, 0.25), "eps": 1e-6}, NOVOGRAD_OPTAX),
)
