"""Adafactor: second moments kept as a row and a column for each matrix, and steps relative to the size of the weights.

Shazeer & Stern 2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", Algorithms 4 and 5::

    beta  = 1 - step^beta2_decay
    row   = beta * row + (1 - beta) * mean of g^2 + eps1 over the row         one number a row
    col   = beta * col + (1 - beta) * mean of g^2 + eps1 over the column      one number a column
    v     = row * col / mean(row)                                             an outer product
    v     = beta * v + (1 - beta) * (g^2 + eps1)                              of a vector, which is not factored
    u     = g / sqrt(v)
    u     = u / max(1, rms(u) / d)
    p     = p - max(eps2, rms(p)) * min(lr, 1 / sqrt(step)) * u

Conventions. ``paper``: as above (with means for the paper's sums, which is the same v), lr = 1e-2, eps = (1e-30, 1e-3).
``keras``: the same with lr = 1e-3, and a decay, ``p = p * (1 - lr * weight_decay)``, before all else. ``torch``: eps1
is not added but a floor, under ``mean(row)`` and, squared, under v; 0 stands for the spacing of the dtype at 1. The
decay comes after rms(p) was taken. ``optax``: lr is taken as it is, without the limit 1 / sqrt(step); the decay is not
multiplied by lr; beta and the kept running mean are rounded to float32 (here too). It factors the two largest axes, and
only where both have 128 elements; the others the last two, of any size. A running mean of the steps (``momentum``,
before the decay) is Optax's; the paper does without.
"""

import functools
import math
from collections import namedtuple

import numpy as np

from ..lang.matrix_rule import MatrixRule, long_loops
from ..lang.rule import FRACTION, NOT_NEGATIVE

State = namedtuple("State", ["row_var", "col_var"])
MomentumState = namedtuple("MomentumState", ["row_var", "col_var", "exp_avg"])
FullState = namedtuple("FullState", ["variance"])
FullMomentumState = namedtuple("FullMomentumState", ["variance", "exp_avg"])


def mean(x, axis):
    """The mean along an axis, which stays; added up in float64."""
    return np.mean(x, axis=axis, dtype=np.float64, keepdims=True).astype(x.dtype)


def rms(x):
    """The root mean square of a tensor."""
    return math.sqrt(np.mean(x * x, dtype=np.float64))


def last_two(shape):
    """The axes of rows and columns."""
    return len(shape) - 2, len(shape) - 1


def largest_two(shape):
    """Optax's axes of rows and columns."""
    return tuple(sorted(int(axis) for axis in np.argsort(shape)[-2:]))


def _quick(p, g, s):
    """The same arrays, as NumPy is quickest with them."""
    return long_loops(p), long_loops(g), type(s)(*map(long_loops, s))


def _moved(p, s, step, u, new, *, lr, eps2, d, scale_parameter, momentum, optax=False):
    """The step (to be taken away), and the new state."""
    size = max(eps2, rms(p)) if scale_parameter else 1.0
    rate = lr if optax else min(lr, 1.0 / math.sqrt(step))
    u = (size * rate / max(1.0, rms(u) / d)) * u
    if hasattr(s, "exp_avg"):
        kept = np.asarray(s.exp_avg, np.float32) if optax else s.exp_avg
        u = (1.0 - momentum) * u + momentum * kept
        new["exp_avg"] = u.astype(kept.dtype).astype(u.dtype)
    return u, type(s)(**new)


def _averaged(squares, s, beta, axes):
    """The new averages by name: of rows and columns where the state keeps them."""
    if not hasattr(s, "row_var"):
        return {"variance": beta * s.variance + (1.0 - beta) * squares}
    rows, cols = axes(squares.shape)
    return {
        "row_var": beta * s.row_var + (1.0 - beta) * mean(squares, cols),
        "col_var": beta * s.col_var + (1.0 - beta) * mean(squares, rows),
    }


def _second_moment(new, axes, shape, floor=0.0):
    """v; the floor is that under the mean of the rows."""
    if "variance" in new:
        return new["variance"]
    rows, _ = axes(shape)
    return new["row_var"] / np.maximum(mean(new["row_var"], rows), floor) * new["col_var"]


def reference_torch(
    p, g, s, step, *, lr, beta2_decay=-0.8, eps=(0.0, 1e-3), d=1.0, weight_decay=0.0, scale_parameter=True, momentum=0.0
):
    p, g, s = _quick(p, g, s)
    eps1 = eps[0] if eps[0] > 0.0 else float(np.finfo(p.dtype).eps)
    new = _averaged(g * g, s, 1.0 - step**beta2_decay, last_two)
    v = np.maximum(_second_moment(new, last_two, p.shape, eps1), eps1 * eps1)
    u, s = _moved(
        p, s, step, g / np.sqrt(v), new, lr=lr, eps2=eps[1], d=d, scale_parameter=scale_parameter, momentum=momentum
    )
    return p * (1.0 - lr * weight_decay) - u, s


def reference(
    p, g, s, step, *, lr, beta2_decay=-0.8, eps=(1e-30, 1e-3), d=1.0, weight_decay=0.0, scale_parameter=True,
    momentum=0.0,
):  # fmt: skip
    p, g, s = _quick(p, g, s)
    p = p * (1.0 - lr * weight_decay)
    new = _averaged(g * g + eps[0], s, 1.0 - step**beta2_decay, last_two)
    u = g / np.sqrt(_second_moment(new, last_two, p.shape))
    u, s = _moved(p, s, step, u, new, lr=lr, eps2=eps[1], d=d, scale_parameter=scale_parameter, momentum=momentum)
    return p - u, s


def reference_optax(
    p, g, s, step, *, lr, beta2_decay=-0.8, eps=(1e-30, 1e-3), d=1.0, weight_decay=0.0, scale_parameter=True,
    momentum=0.0,
):  # fmt: skip
    p, g, s = _quick(p, g, s)
    beta = float(np.float32(1.0) - np.float32(float(step) ** float(np.float32(beta2_decay))))
    new = _averaged(g * g + eps[0], s, beta, largest_two)
    u, s = _moved(
        p, s, step, g / np.sqrt(_second_moment(new, largest_two, p.shape)), new, lr=lr, eps2=eps[1], d=d,
        scale_parameter=scale_parameter, momentum=momentum, optax=True,
    )  # fmt: skip
    return p - (u + weight_decay * p), s


LIMITS = {
    "eps": NOT_NEGATIVE,
    "d": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "momentum": FRACTION,
    "min_dim": NOT_NEGATIVE,
}
PAPER = "Shazeer & Stern 2018, Algorithms 4 and 5"
_BY_CONVENTION = {
    "torch": ("adafactor", reference_torch, last_two),
    "keras": ("adafactor_keras", reference, last_two),
    "optax": ("adafactor_optax", reference_optax, largest_two),
    "paper": ("adafactor_paper", reference, last_two),
}


@functools.cache
def _rule(convention, with_momentum, min_dim):
    name, function, axes = _BY_CONVENTION[convention]
    name += "_momentum" if with_momentum else ""
    positive = ("variance",)
    full = MatrixRule(
        name, FullMomentumState if with_momentum else FullState, function, limits=LIMITS, paper=PAPER,
        not_negative=positive, side_by_side=True,
    )  # fmt: skip

    def fits(shape):
        return len(shape) >= 2 and min(shape[axis] for axis in axes(shape)) >= min_dim

    def shapes(shape):
        rows, cols = axes(shape)
        kept = [(*shape[:axis], 1, *shape[axis + 1 :]) for axis in (cols, rows)]
        return [*kept, None] if with_momentum else kept

    return MatrixRule(
        name, MomentumState if with_momentum else State, function, shapes=shapes, fits=fits, otherwise=full,
        limits=LIMITS, paper=PAPER, not_negative=("row_var", "col_var"), side_by_side=True,
    )  # fmt: skip


def select(*, beta2_decay, d, momentum, min_dim, convention="torch", **_):
    """The rule that runs for a group's options."""
    if beta2_decay > 0.0:
        raise ValueError(f"beta2_decay: expected a number of at most 0, got {beta2_decay!r}")
    if d == 0.0:
        raise ValueError("d, the limit of a step's root mean square, must be above 0; got 0.0")
    return _rule(convention, momentum != 0.0, min_dim)
