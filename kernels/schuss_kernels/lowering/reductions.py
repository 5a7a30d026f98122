"""Sums over lanes in LLVM."""

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
    """The sum of the squares of ``count`` dense gradients in float64, and 0.0, or NaN where one is not finite.

    Element ``i`` goes to sum ``i % LANES``; the sums are then added up in halves.
    """
    kind = ir.VectorType(ir.DoubleType(), LANES)
    total = cgutils.alloca_once_value(builder, ir.Constant(kind, [0.0] * LANES))
    odd = cgutils.alloca_once_value(builder, ir.Constant(kind, [0.0] * LANES))
    wide = storage.itemsize == 8  # squares of smaller numbers never overflow

    def take(_: int, value: Any, lane: Any) -> None:
        add_to(builder, total, builder.fmul(value, value), lane)
        if wide:
            add_to(builder, odd, builder.fsub(value, value), lane)

    each_in_lanes(builder, storage, [address], count, take)
    squares_ = fold(builder, builder.load(total))
    rest = fold(builder, builder.load(odd)) if wide else builder.fsub(squares_, squares_)
    return squares_, rest


def each_in_lanes(
    builder: Any, storage: Storage, addresses: Sequence[Any], count: Any, take: Callable[..., None]
) -> None:
    """Call ``take(row, values, None)`` for every LANES of ``count`` dense numbers at each address, in float64, and
    ``take(row, value, lane)`` for each of the rest."""
    whole, size = builder.sdiv(count, INT64(LANES)), INT64(storage.itemsize)

    def load(place: Any, kind: Any, lane: Any) -> None:
        offset = builder.mul(place, size)
        for row, address in enumerate(addresses):
            value = builder.load(pointer_to(builder, address, offset, kind), align=1)
            take(row, widen(builder, value, storage, np.dtype(np.float64)), lane)

    with cgutils.for_range(builder, whole) as loop:
        load(builder.mul(loop.index, INT64(LANES)), stored_type(storage, LANES), None)
    done = builder.mul(whole, INT64(LANES))
    with cgutils.for_range(builder, builder.sub(count, done)) as loop:
        load(builder.add(done, loop.index), stored_type(storage), loop.index)


def add_to(builder: Any, sums: Any, value: Any, lane: Any) -> None:
    """Add to the LANES sums at ``sums``: to all of them, where ``lane`` is None."""
    before = builder.load(sums)
    if lane is None:
        builder.store(builder.fadd(before, value), sums)
    else:
        sum_ = builder.fadd(builder.extract_element(before, lane), value)
        builder.store(builder.insert_element(before, sum_, lane), sums)


def fold(builder: Any, vector: Any) -> Any:
    """The sum of a vector's lanes, halves first."""
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
