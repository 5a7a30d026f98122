"""The built-in rules: one file per family, imported when it is used.

``RULES`` finds the optimizers' by name, ``COMPILED`` also what else is compiled ahead of time; asking for either
imports all families.
"""

import functools
import importlib
import pkgutil
import sys
from typing import Any

from ..rule import Rule

_NO_OPTIMIZERS = ("accumulate",)
"""Files of rules that are part of what every optimizer does."""


def __getattr__(name: str) -> Any:
    if name == "COMPILED":
        return _all()
    if name == "RULES":
        return {rule.name: rule for rule in _all().values() if rule.name not in _NO_OPTIMIZERS}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _all() -> dict[str, Rule]:
    made = {}
    for found in pkgutil.iter_modules(__path__):
        for rule in vars(importlib.import_module(f"{__name__}.{found.name}")).values():
            if isinstance(rule, Rule):
                made[rule.name] = rule
    return made


def is_built_in(rule: Rule) -> bool:
    """Whether a rule is one of these, and not a user's."""
    module = rule.update.__module__
    return module.startswith(f"{__name__}.") and any(value is rule for value in vars(sys.modules[module]).values())
