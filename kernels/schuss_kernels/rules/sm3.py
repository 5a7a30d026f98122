"""SM3: Adagrad whose sums are kept for the slices of a tensor: one number for each index of each axis.

Anil, Gupta, Koren & Singer 2019, "Memory-Efficient Adaptive Optimization", Algorithm SM3-II, with the slices of its
section 4 (rows and columns of a matrix, each index of each axis of any tensor)::

    v   = min over the axes of their accumulator + g^2
    u   = g / sqrt(v + eps)                                   0 where v is
    m   = momentum * m + (1 - momentum) * u
    p   = p - lr * m                                          - lr * u without momentum
    accumulator of an axis = max of v over all other axes

Convention: the paper's, eps = 0 and 0/0 = 0, with the running mean of its experiments. Optax has eps = 1e-8.
"""

from collections import namedtuple

import numpy as np

from ..lang.matrix_rule import MatrixRule, long_loops
from ..lang.rule import FRACTION, NOT_NEGATIVE

State = namedtuple("State", ["accumulators"])
MomentumState = namedtuple("MomentumState", ["accumulators", "momentum_buffer"])


def total_of(shape):
    """Numbers that all axes have together; a number by itself has one."""
    return (sum(shape) if shape else 1,)


def _axes(accumulators, shape):
    """The accumulators (one axis's after the other's), each so that it meets the tensor."""
    done = 0
    for axis, extent in enumerate(shape):
        yield accumulators[done : done + extent].reshape([extent if a == axis else 1 for a in range(len(shape))])
        done += extent


def _least(accumulators, like):
    """The smallest accumulator of each element."""
    least = np.full_like(like, np.inf)
    for part in _axes(accumulators, like.shape):
        np.minimum(least, part, out=least)
    return least


def _largest(v):
    """For each axis the largest over all other axes. (NumPy takes the first axis, or all but the first, quickly.)"""
    while v.ndim > 1:
        yield v.reshape(len(v), -1).max(axis=1)
        v = v.max(axis=0)
    yield v


def reference(p, g, s, step, *, lr, momentum, eps):
    shape = p.shape or (1,)
    g = long_loops(g.reshape(shape))
    v = _least(s.accumulators, g) + g * g
    u = np.where(v > 0.0, g / np.sqrt(v + eps), 0.0 * v).reshape(p.shape)
    kept = np.concatenate(list(_largest(np.ascontiguousarray(v))))
    if not hasattr(s, "momentum_buffer"):
        return p - lr * u, State(kept)
    m = momentum * s.momentum_buffer + (1.0 - momentum) * u
    return p - lr * m, MomentumState(kept, m)


def shapes(shape):
    return [total_of(shape)]


def shapes_momentum(shape):
    return [total_of(shape), None]


SM3 = MatrixRule(
    "sm3",
    State,
    reference,
    shapes=shapes,
    limits={"momentum": FRACTION, "eps": NOT_NEGATIVE},
    paper="Anil et al. 2019, SM3-II",
    not_negative=("accumulators",),
    side_by_side=True,
)
SM3_MOMENTUM = SM3.variant("sm3_momentum", State=MomentumState, shapes=shapes_momentum)


def rule_for(*, momentum, **_):
    """The rule that runs for a group's options."""
    return SM3 if momentum == 0.0 else SM3_MOMENTUM
