"""The built-in rules: one file per family. ``RULES`` finds them by name."""

from ..rule import Rule
from . import accumulate, adagrad, adam, rmsprop, sgd

_FAMILIES = (sgd, adagrad, rmsprop, adam)

RULES: dict[str, Rule] = {
    value.name: value for family in _FAMILIES for value in vars(family).values() if isinstance(value, Rule)
}

COMPILED: dict[str, Rule] = {**RULES, accumulate.ACCUMULATE.name: accumulate.ACCUMULATE}
"""What is compiled ahead of time: the optimizers, and the sum of gradients."""
