"""The built-in rules: one file per family, imported when it is used.

``RULES`` finds the optimizers' by name, ``COMPILED`` also what else is compiled ahead of time; asking for either
imports all families. Matrix rules are in neither: no kernel runs them.
"""

import functools
import importlib
import sys
from typing import Any

from ..lang.rule import Rule

_NO_OPTIMIZERS = ("accumulate", "sophia_hessian")
"""Rules that are a part of what optimizers do."""


def __getattr__(name: str) -> Any:
    if name == "COMPILED":
        return _all()
    if name == "RULES":
        return {rule.name: rule for rule in _all().values() if rule.name not in _NO_OPTIMIZERS}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@functools.cache
def _all() -> dict[str, Rule]:
    import pkgutil  # here: a step needs no list of all rules

    made = {}
    for found in pkgutil.iter_modules(__path__):
        for rule in vars(importlib.import_module(f"{__name__}.{found.name}")).values():
            if isinstance(rule, Rule) and not rule.matrix:
                made[rule.name] = rule
    return made


def is_built_in(rule: Rule) -> bool:
    """Whether a rule is one of these, and not a user's."""
    module = rule.update.__module__ or ""  # what is made by exec may have none
    return module.startswith(f"{__name__}.") and _is_here(rule)


@functools.cache
def _is_here(rule: Rule) -> bool:
    own = rule.update.__module__
    families = [module for name, module in list(sys.modules.items()) if name.startswith(f"{__name__}.")]
    # Mostly it is in its update's file; that of a rule for what another one leaves may be elsewhere.
    return any(value is rule for family in (sys.modules[own], *families) for value in vars(family).values())
