"""Sums in LLVM, the same bits for any vector width: over lanes, which are then added up in halves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from ..plan.reduce import LANES
from ..storage.dtypes import Storage
from .conversions import widen
from .llvm import INT64, pointer_to, stored_type


def squares(builder: Any, storage: Storage, address: Any, count: Any) -> tuple[Any, Any]:
    """Sum the squares of ``count`` dense gradients in float64; also 0.0, or NaN where one of them is not finite.

    Element ``i`` is added in lane ``i % LANES``; the lanes are then added up in halves.
    """
    zeros = ir.Constant(ir.VectorType(ir.DoubleType(), LANES), [0.0] * LANES)
    sums = cgutils.alloca_once_value(builder, zeros)
    differences = cgutils.alloca_once_value(builder, zeros)  # of each value to itself: 0.0, or NaN
    may_overflow = storage.itemsize == 8  # squares of smaller numbers never do

    def add(_: int, value: Any, lane: Any) -> None:
        add_to(builder, sums, builder.fmul(value, value), lane)
        if may_overflow:
            add_to(builder, differences, builder.fsub(value, value), lane)

    each_in_lanes(builder, storage, [address], count, add)
    total = fold(builder, builder.load(sums))
    nonfinite = fold(builder, builder.load(differences)) if may_overflow else builder.fsub(total, total)
    return total, nonfinite


def each_in_lanes(
    builder: Any, storage: Storage, addresses: Sequence[Any], count: Any, add: Callable[..., None]
) -> None:
    """Emit a loop over rows of ``count`` dense numbers, one row at each address, which are converted to float64.

    The loop calls ``add(row, values, None)`` for every LANES neighbours, a vector, and ``add(row, value, lane)`` for
    each number of the rest.
    """
    whole, size = builder.sdiv(count, INT64(LANES)), INT64(storage.itemsize)

    def load(place: Any, type_: Any, lane: Any) -> None:
        offset = builder.mul(place, size)
        for row, address in enumerate(addresses):
            value = builder.load(pointer_to(builder, address, offset, type_), align=1)
            add(row, widen(builder, value, storage, np.dtype(np.float64)), lane)

    with cgutils.for_range(builder, whole) as loop:
        load(builder.mul(loop.index, INT64(LANES)), stored_type(storage, LANES), None)
    done = builder.mul(whole, INT64(LANES))
    with cgutils.for_range(builder, builder.sub(count, done)) as loop:
        load(builder.add(done, loop.index), stored_type(storage), loop.index)


def add_to(builder: Any, sums: Any, value: Any, lane: Any) -> None:
    """Add a value to one of the LANES sums at ``sums``; where ``lane`` is None, a vector to all of them."""
    before = builder.load(sums)
    if lane is None:
        builder.store(builder.fadd(before, value), sums)
    else:
        sum_ = builder.fadd(builder.extract_element(before, lane), value)
        builder.store(builder.insert_element(before, sum_, lane), sums)


def fold(builder: Any, vector: Any) -> Any:
    """Add up the lanes of a vector: the second half to the first, until one is left."""
    count = vector.type.count
    while count > 1:
        count //= 2
        low, high = ([ir.IntType(32)(first + n) for n in range(count)] for first in (0, count))
        halves = [
            builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), count), places))
            for places in (low, high)
        ]
        vector = builder.fadd(*halves)
    return builder.extract_element(vector, INT64(0))
