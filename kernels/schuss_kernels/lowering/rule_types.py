"""A rule's functions and namedtuples as numba types and functions."""

from __future__ import annotations

from typing import Any

from numba import njit, types
from numba.extending import intrinsic

from ..lang import scalar_math
from ..lang.rule import Rule
from ..lang.specialize import specialize
from ..plan.spec import Spec
from . import element as lowering_element

_UPDATES: dict[tuple[str, str], Any] = {}


# LLVM leaves a long update, and a helper that is called twice, a call, which keeps the loop from being vectorised.
_compiled_inline = njit(error_model="numpy", forceinline=True)


@intrinsic
def first_guess_intrinsic(typing, x):
    def build(context, builder, signature, args):
        return lowering_element.first_guess(builder, args[0])

    return types.float32(types.float32), build


def inlined(function: Any) -> Any:
    """A Python function as part of a kernel."""
    return (
        first_guess_intrinsic if function.__name__ == scalar_math.first_guess.__name__ else _compiled_inline(function)
    )


def number_type(spec: Spec) -> Any:
    """The numba type a kernel computes in."""
    return types.float32 if spec.compute.itemsize == 4 else types.float64


def tuple_type(cls: Any, spec: Spec) -> Any:
    """The numba type of a rule's ``State`` or ``Scalars``."""
    return types.BaseTuple.from_types([number_type(spec)] * len(cls._fields), cls)


def compiled_update(spec: Spec, rule: Rule) -> Any:
    """The rule's update as a numba function of the spec's compute type."""
    key = (rule.key, spec.compute.name)
    if key not in _UPDATES:
        _UPDATES[key] = specialize(rule.update, spec.compute.type, inlined)
    return _UPDATES[key]


def compiled_measure(spec: Spec, rule: Rule) -> Any:
    """The rule's measure as a numba function of the spec's compute type."""
    key = (f"{rule.key}.measure", spec.compute.name)
    if key not in _UPDATES:
        assert rule.measure is not None
        _UPDATES[key] = specialize(rule.measure, spec.compute.type, inlined)
    return _UPDATES[key]
