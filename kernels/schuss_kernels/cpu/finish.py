"""What is between the two passes of a step, compiled: the words of a kernel that finishes a row of a two-pass table.

As in :mod:`.intrinsics`, a kernel closes over strings alone: each stands for a rule.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from ..lang.rule import Rule
from ..lang.specialize import specialize
from ..lowering import element
from ..lowering.llvm import INT64, load_scalar, pointer_to, store_double
from ..lowering.rule_types import inlined

FINISHERS: dict[str, Rule] = {}
"""Text -> the rule whose ``finish`` it stands for."""


def finished(text, h, sums, step, running):
    """What the rule's ``finish`` returns."""
    raise RuntimeError("only for compiled kernels")


@overload(finished, prefer_literal=True)
def _finished(text, h, sums, step, running):
    rule = FINISHERS[text.literal_value]
    finish = specialize(rule.finish, float, inlined)
    if rule.running is None:
        return lambda text, h, sums, step, running: (finish(h, sums, step), running)
    return lambda text, h, sums, step, running: finish(h, sums, step, running)


def _numbers(part: str) -> Any:
    """An intrinsic that reads a part of the rule in float64."""

    @intrinsic(prefer_literal=True)
    def read(typing, text, address):
        cls = getattr(FINISHERS[text.literal_value], part)
        result = types.Tuple(()) if cls is None else types.BaseTuple.from_types([types.float64] * len(cls._fields), cls)

        def build(context, builder, signature, args):
            double = np.dtype(np.float64)
            return context.make_tuple(
                builder, result, [load_scalar(builder, double, args[1], n) for n in range(len(result))]
            )

        return result(text, types.int64), build

    return read


all_scalars, all_sums, all_running = _numbers("Scalars"), _numbers("Sums"), _numbers("running")


@intrinsic(prefer_literal=True)
def write_finished(typing, text, made, scalars, singles, running):
    """Write what ``finish`` has found: scalars in both types, and running numbers."""
    rule = FINISHERS[text.literal_value]
    found, after = made.types
    places = [rule.Scalars._fields.index(field) for field in found.instance_class._fields]
    for kind in (*found.types, *after.types):
        if kind is not types.float64:
            raise TypeError(f"rule {rule.name!r}: finish() must return floats; it returned {kind}")

    def build(context, builder, signature, args):
        numbers, rest = cgutils.unpack_tuple(builder, args[1], 2)
        for place, value in zip(places, cgutils.unpack_tuple(builder, numbers, len(places)), strict=True):
            store_double(builder, args[2], INT64(place), value)
            single = element.ir.FloatType()
            at = pointer_to(builder, args[3], INT64(4 * place), single)
            builder.store(builder.fptrunc(value, single), at, align=4)
        for place, value in enumerate(cgutils.unpack_tuple(builder, rest, len(after.types))):
            store_double(builder, args[4], INT64(place), value)
        return context.get_dummy_value()

    return types.void(text, made, types.int64, types.int64, types.int64), build
