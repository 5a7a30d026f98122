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

from ..lang.convention import Convention, Conventions
from ..lang.matrix_rule import MatrixRule, long_loops
from ..lang.rule import FRACTION, NOT_NEGATIVE
from ..lang.scalar_math import decayed_by, finite_part_of

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
    size = max(eps2, rms(finite_part_of(p))) if scale_parameter else 1.0
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


def reference_torch(p, g, s, step, *, lr, beta2_decay, eps, d, weight_decay, scale_parameter, momentum):
    p, g, s = _quick(p, g, s)
    eps1 = eps[0] if eps[0] > 0.0 else float(np.finfo(p.dtype).eps)
    new = _averaged(g * g, s, 1.0 - step**beta2_decay, last_two)
    v = np.maximum(_second_moment(new, last_two, p.shape, eps1), eps1 * eps1)
    u, s = _moved(
        p, s, step, g / np.sqrt(v), new, lr=lr, eps2=eps[1], d=d, scale_parameter=scale_parameter, momentum=momentum
    )
    return p * (1.0 - lr * weight_decay) - u, s


def reference(p, g, s, step, *, lr, beta2_decay, eps, d, weight_decay, scale_parameter, momentum):
    p, g, s = _quick(p, g, s)
    p = p * (1.0 - lr * weight_decay)
    new = _averaged(g * g + eps[0], s, 1.0 - step**beta2_decay, last_two)
    u = g / np.sqrt(_second_moment(new, last_two, p.shape))
    u, s = _moved(p, s, step, u, new, lr=lr, eps2=eps[1], d=d, scale_parameter=scale_parameter, momentum=momentum)
    return p - u, s


def reference_optax(p, g, s, step, *, lr, beta2_decay, eps, d, weight_decay, scale_parameter, momentum):
    p, g, s = _quick(p, g, s)
    beta = float(np.float32(1.0) - np.float32(float(step) ** float(np.float32(beta2_decay))))
    new = _averaged(g * g + eps[0], s, beta, largest_two)
    u, s = _moved(
        p,
        s,
        step,
        g / np.sqrt(_second_moment(new, largest_two, p.shape)),
        new,
        lr=lr,
        eps2=eps[1],
        d=d,
        scale_parameter=scale_parameter,
        momentum=momentum,
        optax=True,
    )
    return p - decayed_by(u, weight_decay, p), s


def is_matrix(shape):
    """Whether there are rows and columns."""
    return len(shape) >= 2


def shapes_along(axes):
    """The shapes of the averages of rows and columns."""

    def shapes(shape):
        rows, cols = axes(shape)
        return [(*shape[:axis], 1, *shape[axis + 1 :]) for axis in (cols, rows)]

    return shapes


FULL = MatrixRule(
    "adafactor",
    FullState,
    reference_torch,
    limits=dict.fromkeys(("eps", "d", "weight_decay", "min_dim"), NOT_NEGATIVE) | {"momentum": FRACTION},
    paper="Shazeer & Stern 2018, Algorithms 4 and 5",
    not_negative=("variance",),
    side_by_side=True,
)
ADAFACTOR = FULL.variant(
    "adafactor",
    State=State,
    not_negative=("row_var", "col_var"),
    shapes=shapes_along(last_two),
    fits=is_matrix,
    otherwise=FULL,
)


def _defined(name, reference, axes):
    """Adafactor with another reference, for matrices and for all else."""
    return ADAFACTOR.variant(
        name, reference=reference, shapes=shapes_along(axes), otherwise=FULL.variant(name, reference=reference)
    )


KERAS = _defined("adafactor_keras", reference, last_two)
OPTAX = _defined("adafactor_optax", reference_optax, largest_two)
PAPER = _defined("adafactor_paper", reference, last_two)


def _with_momentum(rule):
    """The rule that also keeps a mean of the steps."""
    name = f"{rule.name}_momentum"
    return rule.variant(
        name,
        State=MomentumState,
        shapes=lambda shape: [*rule.shapes(shape), None],
        otherwise=rule.otherwise.variant(name, State=FullMomentumState),
    )


_EPS = (1e-30, 1e-3)
CONVENTIONS = Conventions(
    torch=Convention(
        {"lr": 1e-2, "eps": (0.0, 1e-3), "min_dim": 0.0}, ADAFACTOR, {"momentum": _with_momentum(ADAFACTOR)}
    ),
    keras=Convention({"lr": 1e-3, "eps": _EPS, "min_dim": 0.0}, KERAS, {"momentum": _with_momentum(KERAS)}),
    optax=Convention({"lr": 1e-2, "eps": _EPS, "min_dim": 128.0}, OPTAX, {"momentum": _with_momentum(OPTAX)}),
    paper=Convention({"lr": 1e-2, "eps": _EPS, "min_dim": 0.0}, PAPER, {"momentum": _with_momentum(PAPER)}),
)
AXES = {"torch": last_two, "keras": last_two, "optax": largest_two, "paper": last_two}
"""Convention -> the axes of rows and columns."""


@functools.cache
def _of_sides(convention, with_momentum, min_dim):
    """The rule for matrices whose sides have at least ``min_dim`` elements."""
    found, axes = CONVENTIONS[convention], AXES[convention]
    rule = found.forms["momentum"] if with_momentum else found.rule

    def fits(shape):
        return is_matrix(shape) and min(shape[axis] for axis in axes(shape)) >= min_dim

    return rule.variant(rule.name, fits=fits)


def rule_for(*, beta2_decay, d, momentum, min_dim, convention, **_):
    """The rule that runs for a group's options."""
    if beta2_decay > 0.0:
        raise ValueError(f"beta2_decay: expected a number of at most 0, got {beta2_decay!r}")
    if d == 0.0:
        raise ValueError("d, the limit of a step's root mean square, must be above 0; got 0.0")
    return _of_sides(convention, momentum != 0.0, min_dim)
