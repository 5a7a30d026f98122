"""Compile a rule's ``finish()``, which runs between the measure pass and the update pass: the intrinsics of its kernel.

As in :mod:`.intrinsics`, a kernel closes over nothing but a string, which stands for a rule.
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
"""Key of a kernel -> the rule whose ``finish`` it calls; filled before the kernel is compiled."""


def call_finish(text, h, sums, step, running):
    """Return what the rule's ``finish`` returns: a namedtuple of scalars, and the running numbers."""
    raise RuntimeError("only for compiled kernels")


@overload(call_finish, prefer_literal=True)
def _call_finish(text, h, sums, step, running):
    rule = FINISHERS[text.literal_value]
    finish = specialize(rule.finish, float, inlined)
    if rule.running is None:
        return lambda text, h, sums, step, running: (finish(h, sums, step), running)
    return lambda text, h, sums, step, running: finish(h, sums, step, running)


def _reader(part: str) -> Any:
    """Return the intrinsic that reads one of the rule's namedtuples, ``part``, from float64 numbers at an address."""

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


read_scalars, read_sums, read_running = _reader("Scalars"), _reader("Sums"), _reader("running")


@intrinsic(prefer_literal=True)
def store_finished(typing, text, returned, scalars64, scalars32, running):
    """Store what ``finish`` returned: scalars in float64 and float32, and running numbers in float64.

    ``finish`` may return some of the rule's scalars: the others stay as they are.
    """
    rule = FINISHERS[text.literal_value]
    new_scalars, new_running = returned.types
    columns = [rule.Scalars._fields.index(field) for field in new_scalars.instance_class._fields]
    for number_type in (*new_scalars.types, *new_running.types):
        if number_type is not types.float64:
            raise TypeError(f"rule {rule.name!r}: finish() must return floats; it returned {number_type}")

    def build(context, builder, signature, args):
        numbers, rest = cgutils.unpack_tuple(builder, args[1], 2)
        for column, value in zip(columns, cgutils.unpack_tuple(builder, numbers, len(columns)), strict=True):
            store_double(builder, args[2], INT64(column), value)
            float32 = element.ir.FloatType()
            pointer = pointer_to(builder, args[3], INT64(4 * column), float32)
            builder.store(builder.fptrunc(value, float32), pointer, align=4)
        for column, value in enumerate(cgutils.unpack_tuple(builder, rest, len(new_running.types))):
            store_double(builder, args[4], INT64(column), value)
        return context.get_dummy_value()

    return types.void(text, returned, types.int64, types.int64, types.int64), build
