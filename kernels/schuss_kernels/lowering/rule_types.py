"""A rule's functions and namedtuples as numba types and functions."""

from __future__ import annotations

from typing import Any

from numba import njit, types
from numba.extending import intrinsic

from ..lang.rule import Rule
from ..lang.specialize import specialize
from ..plan.spec import Spec
from . import primitives

_FUNCTIONS: dict[tuple[str, str], Any] = {}
"""(function's digest, name of the compute type) -> numba function."""


# LLVM leaves a long update, and a helper that is called twice, a call, which keeps the loop from being vectorised.
_compiled_inline = njit(error_model="numpy", forceinline=True)


_PRIMITIVES = primitives.intrinsics(intrinsic)


def inlined(function: Any) -> Any:
    """Compile a helper of a rule so that LLVM inlines it into the kernel."""
    return _PRIMITIVES.get(getattr(function, "primitive", "")) or _compiled_inline(function)


def number_type(spec: Spec) -> Any:
    """Return the numba type that a kernel computes in."""
    return types.float32 if spec.compute.itemsize == 4 else types.float64


def tuple_type(cls: Any, spec: Spec) -> Any:
    """Return the numba type of a rule's ``State`` or ``Scalars``, its fields in the compute type."""
    return types.BaseTuple.from_types([number_type(spec)] * len(cls._fields), cls)


def compiled_update(spec: Spec, rule: Rule) -> Any:
    """Return the rule's update as a numba function on numbers of the compute type."""
    key = (rule.key, spec.compute.name)
    if key not in _FUNCTIONS:
        _FUNCTIONS[key] = specialize(rule.update, spec.compute.type, inlined)
    return _FUNCTIONS[key]


def compiled_measure(spec: Spec, rule: Rule) -> Any:
    """Return the rule's measure as a numba function on numbers of the compute type."""
    key = (f"{rule.key}.measure", spec.compute.name)
    if key not in _FUNCTIONS:
        assert rule.measure is not None
        _FUNCTIONS[key] = specialize(rule.measure, spec.compute.type, inlined)
    return _FUNCTIONS[key]
