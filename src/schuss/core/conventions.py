"""How frameworks differ in one and the same optimizer, chosen by ``convention=``.

A class says what it knows: the conventions' names, and for each the defaults that are not the same in all of them. The
rule that a convention runs is the rule file's matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .validate import did_you_mean

Conventions = Mapping[str, Mapping[str, Any]]
"""Name -> the defaults of this convention, of the options whose default in the signature is None."""


def checked(name: Any, known: Conventions, where: str) -> str:
    """The name of a convention.

    Raises
    ------
    ValueError
        When it is none of those that the optimizer has, with the nearest.
    """
    if not isinstance(name, str) or name not in known:
        near = did_you_mean(name, known) if isinstance(name, str) else ""
        names = ", ".join(map(repr, known))
        raise ValueError(f"{where}: convention: expected one of {names}; got {name!r}{near}")
    return name


def filled(options: Mapping[str, Any], known: Conventions, where: str) -> dict[str, Any]:
    """The options, each that is None replaced by the default of their convention."""
    if not known:
        return dict(options)
    defaults = known[checked(options["convention"], known, where)]
    return {name: defaults.get(name) if value is None else value for name, value in options.items()}
