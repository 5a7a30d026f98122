"""How frameworks define one and the same optimizer differently: a table in the rule file of each optimizer that has it.

The optimizer's class takes the defaults from it, the check of ``convention=`` the names, and ``rule_for`` the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from .rule import Rule


class Convention(NamedTuple):
    """An optimizer as one framework, or the paper, defines it."""

    defaults: Mapping[str, Any]
    """Option -> default, for those whose default in the class's signature is None: the same options everywhere."""
    rule: Rule
    """What moves the parameters."""
    forms: Mapping[str, Rule] = MappingProxyType({})
    """The rules of the optimizer's other forms, such as ``"amsgrad"`` and ``"nesterov"``, by name."""


class Conventions(dict[str, Convention]):
    """The conventions of an optimizer by name. A name that is none of them raises a ValueError that lists them."""

    def __missing__(self, name: Any) -> Convention:
        raise ValueError(self.unknown(name))

    def unknown(self, name: Any) -> str:
        """What to say of a name that is no convention."""
        return f"convention: expected one of {', '.join(map(repr, self))}; got {name!r}"

    def rule_for(self, *, convention: str, **options: Any) -> Rule:
        """The rule that runs for a group's options, where nothing but the convention chooses it."""
        return self[convention].rule
