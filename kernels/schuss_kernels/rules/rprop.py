"""Rprop: every element has a step size of its own, which grows while the gradient keeps its sign and else shrinks.

Riedmiller & Braun 1993, "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP Algorithm"; without
going back Igel & Huesken 2003, "Empirical Evaluation of the Improved Rprop Learning Algorithms", iRprop-. With eta-,
eta+ the ``etas`` and s for the step size, which starts at lr::

    g * prev > 0:   s = min(s * eta+, largest) ;  p = p - sign(g) * s ;  prev = g
    g * prev < 0:   s = max(s * eta-, smallest);  p stays             ;  prev = 0
    g * prev = 0:                                 p = p - sign(g) * s ;  prev = g

Only signs of gradients count: they should be of all the data, not of batches. lr matters at the start alone, which is
the first step with a rate above 0: with lr = 0 nothing moves before it.

Conventions. ``torch``: as above, iRprop- (s is kept between its limits in the third case too). ``paper``: where the
sign has changed, the last step is taken back, ``p = p + sign(prev) * s`` with the s of that step; lr = 0.1. ``optax``:
what step t works out moves p in step t + 1, where the sign has not changed by then; the first step moves nothing. Its
state is the step to come::

    p = p - pending                                  nothing where g * pending < 0
    pending = sign(g) * s                            0 where g * pending < 0
"""

from collections import namedtuple

import numpy as np

from ..lang.convention import Convention, Conventions
from ..lang.rule import NOT_NEGATIVE, Rule
from ..lang.scalar_math import select, sign

State = namedtuple("State", ["prev", "step_size"])
PendingState = namedtuple("PendingState", ["pending", "step_size"])
Scalars = namedtuple("Scalars", ["lr", "shrink", "grow", "smallest", "largest", "back"])


def scalars(step, *, lr, etas, step_sizes):
    return Scalars(lr, *etas, *step_sizes, 0.0)


def scalars_paper(step, *, lr, etas, step_sizes):
    return Scalars(lr, *etas, *step_sizes, 1.0)


def initial(*, lr):
    return State(0.0, lr)


def within(x, smallest, largest):
    """x between its limits; NaN stays NaN."""
    x = smallest if x < smallest else x
    return largest if x > largest else x


def begun(size, lr):
    """The step size; the learning rate where there has been none but 0."""
    return select(size == 0.0, lr, size)


def update(p, g, s, h):
    same = g * s.prev
    factor = h.grow if same > 0.0 else (h.shrink if same < 0.0 else 1.0 + same)  # 1, or NaN
    start = begun(s.step_size, h.lr)
    size = select(start == 0.0, 0.0, within(start * factor, h.smallest, h.largest))
    move = -h.back * (sign(s.prev) * s.step_size) if same < 0.0 else sign(g) * size
    return p - move, State(select(start == 0.0, 0.0, select(same < 0.0, 0.0, g)), size)


def update_optax(p, g, s, h):
    same = g * s.pending
    factor = h.grow if same > 0.0 else h.shrink
    start = begun(s.step_size, h.lr)
    size = start if same == 0.0 else within(start * factor, h.smallest, h.largest)
    move = 0.0 if same < 0.0 else s.pending
    return p - move, PendingState(0.0 if same < 0.0 else size * sign(g), size)


def _limited(x, limits):
    smallest, largest = limits
    x = np.where(x < smallest, smallest, x)
    return np.where(x > largest, largest, x)


def _reference(p, g, s, lr, etas, step_sizes, back):
    """Stays where the sign has changed, or goes ``back`` (1.0)."""
    shrink, grow = etas
    same = g * s.prev
    factor = np.where(same > 0.0, grow, np.where(same < 0.0, shrink, 1.0 + same))
    start = np.where(s.step_size == 0.0, p.dtype.type(lr), s.step_size)
    size = np.where(start == 0.0, 0.0, _limited(start * factor, step_sizes))
    move = np.where(same < 0.0, -back * (np.sign(s.prev) * s.step_size), np.sign(g) * size)
    return p - move, State(np.where((same < 0.0) | (start == 0.0), 0.0, g), size)


def reference(p, g, s, step, *, lr, etas, step_sizes):
    return _reference(p, g, s, lr, etas, step_sizes, 0.0)


def reference_paper(p, g, s, step, *, lr, etas, step_sizes):
    return _reference(p, g, s, lr, etas, step_sizes, 1.0)


def reference_optax(p, g, s, step, *, lr, etas, step_sizes):
    shrink, grow = etas
    same = g * s.pending
    start = np.where(s.step_size == 0.0, p.dtype.type(lr), s.step_size)
    size = _limited(start * np.where(same > 0.0, p.dtype.type(grow), p.dtype.type(shrink)), step_sizes)
    size = np.where(same == 0.0, start, size)
    move = np.where(same < 0.0, 0.0, s.pending)
    return p - move, PendingState(np.where(same < 0.0, 0.0, size * np.sign(g)), size)


RPROP = Rule(
    "rprop",
    State,
    Scalars,
    scalars,
    update,
    reference,
    initial,
    limits={"etas": NOT_NEGATIVE, "step_sizes": NOT_NEGATIVE},
    paper="Igel & Huesken 2003, iRprop-",
    not_negative=("step_size",),
)
_PAPER = "Riedmiller & Braun 1993"
RPROP_PAPER = RPROP.variant("rprop_paper", scalars=scalars_paper, reference=reference_paper, paper=_PAPER)
RPROP_OPTAX = RPROP.variant(
    "rprop_optax", State=PendingState, update=update_optax, reference=reference_optax, paper=f"{_PAPER}, as in Optax"
)

CONVENTIONS = Conventions(
    torch=Convention({"lr": 1e-2}, RPROP),
    optax=Convention({"lr": 1e-2}, RPROP_OPTAX),
    paper=Convention({"lr": 0.1}, RPROP_PAPER),
)


def _two_numbers(value):
    return isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(x, (int, float)) for x in value)


def rule_for(*, etas, step_sizes, convention, **_):
    """The rule that runs for a group's options."""
    if _two_numbers(etas) and not 0.0 < etas[0] < 1.0 < etas[1]:
        raise ValueError(f"etas: expected one between 0 and 1 and one above 1; got {etas}")
    if _two_numbers(step_sizes) and not 0.0 <= step_sizes[0] <= step_sizes[1]:
        raise ValueError(f"step_sizes: expected the smallest, at least 0, before the largest; got {step_sizes}")
    return CONVENTIONS[convention].rule
