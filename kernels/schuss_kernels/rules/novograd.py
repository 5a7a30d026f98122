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

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule

State = namedtuple("State", ["exp_avg"])
Scalars = namedtuple("Scalars", ["lr", "beta1", "beta2", "eps", "weight_decay", "scale", "share"])
Sums = namedtuple("Sums", ["squares"])
Found = namedtuple("Found", ["scale"])
Running = namedtuple("Running", ["exp_avg_sq"], defaults=[0.0])


def scalars(step, *, lr, betas=(0.95, 0.98), eps=1e-8, weight_decay=0.0, grad_averaging=False):
    beta1, beta2 = betas
    share = 1.0 - beta1 if grad_averaging else 1.0
    return Scalars(lr, beta1, beta2, 0.0 if step == 1 else eps, weight_decay, 1.0, share)


def scalars_optax(step, *, lr, betas=(0.9, 0.25), eps=1e-6, weight_decay=0.0, grad_averaging=False):
    h = scalars(step, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, grad_averaging=grad_averaging)
    return h._replace(eps=eps)


def measure(p, g, s, h):
    return Sums(g * g)


def second_moment(running, sums, step, beta2):
    """The tensor's running squared norm."""
    return sums.squares if step == 1 else beta2 * running.exp_avg_sq + (1.0 - beta2) * sums.squares


def scale(v, eps):
    """What the gradient is multiplied by; it is all zeros where there is nothing to divide by."""
    return 1.0 / (math.sqrt(v) + eps) if v != 0.0 or eps > 0.0 else 0.0


def finish(h, sums, step, running):
    v = second_moment(running, sums, step, h.beta2)
    return Found(scale(v, h.eps)), Running(v)


def update(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.share * (g * h.scale + h.weight_decay * p)
    return p - h.lr * m, State(m)


def reference_measure(
    p, g, s, step, *, running, lr, betas=(0.95, 0.98), eps=1e-8, weight_decay=0.0, grad_averaging=False
):
    return Sums(g * g)


def _reference(p, g, s, step, running, sums, lr, betas, eps, weight_decay, grad_averaging):
    beta1, beta2 = betas
    d = g * scale(second_moment(running, sums, step, beta2), eps) + weight_decay * p
    m = beta1 * s.exp_avg + (1.0 - beta1 if grad_averaging else 1.0) * d
    return p - lr * m, State(m)


def reference(
    p, g, s, step, *, running, sums, lr, betas=(0.95, 0.98), eps=1e-8, weight_decay=0.0, grad_averaging=False
):
    eps = 0.0 if step == 1 else eps
    return _reference(p, g, s, step, running, sums, lr, betas, eps, weight_decay, grad_averaging)


def reference_optax(
    p, g, s, step, *, running, sums, lr, betas=(0.9, 0.25), eps=1e-6, weight_decay=0.0, grad_averaging=False
):
    return _reference(p, g, s, step, running, sums, lr, betas, eps, weight_decay, grad_averaging)


def _rule(name, scalars, reference, paper):
    return Rule(
        name, State, Scalars, scalars, update, reference, paper=paper, running=Running, Sums=Sums, measure=measure,
        limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE}, finish=finish,
        reference_measure=reference_measure,
    )  # fmt: skip


NOVOGRAD = _rule("novograd", scalars, reference, "Ginsburg et al. 2019, Algorithm 1")
NOVOGRAD_OPTAX = _rule(
    "novograd_optax", scalars_optax, reference_optax, "Ginsburg et al. 2019, Algorithm 1, as in Optax"
)  # fmt: skip


def select(*, convention="paper", **_):
    """The rule that runs for a group's options."""
    return NOVOGRAD_OPTAX if convention == "optax" else NOVOGRAD
