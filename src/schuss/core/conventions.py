"""How frameworks differ in one and the same optimizer, chosen by ``convention=``.

The tables are in the rule files (:mod:`schuss_kernels.lang.convention`); a class names its own as ``_conventions``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schuss_kernels.lang.convention import Conventions

from .validate import did_you_mean


def checked(name: Any, known: Conventions, where: str) -> str:
    """The name of a convention.

    Raises
    ------
    ValueError
        When it is none of those that the optimizer has, with the nearest.
    """
    if not isinstance(name, str) or name not in known:
        near = did_you_mean(name, known) if isinstance(name, str) else ""
        raise ValueError(f"{where}: {known.unknown(name)}{near}")
    return name


def filled(options: Mapping[str, Any], known: Conventions, where: str) -> dict[str, Any]:
    """The options, each that is None replaced by the default of their convention."""
    if not known:
        return dict(options)
    defaults = known[checked(options["convention"], known, where)].defaults
    return {name: defaults.get(name) if value is None else value for name, value in options.items()}
