"""Adding gradients up over micro-batches: ``p = p + g``, where ``p`` is the sum so far.

No optimizer; written as a rule, so that one launch adds up the whole model.
"""

from collections import namedtuple

from ..lang.rule import Rule

State = namedtuple("State", [])
Scalars = namedtuple("Scalars", [])


def scalars(step):
    return Scalars()


def update(p, g, s, h):
    return p + g, State()


def reference(p, g, s, step):
    return p + g, s


ACCUMULATE = Rule("accumulate", State, Scalars, scalars, update, reference)
