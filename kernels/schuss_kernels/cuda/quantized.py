"""The words of a compiled CUDA kernel for states in 8 bits: what a warp does with a block of 256 elements.

Its threads take every 32nd element each, so that they read and write neighbours. What waits until the block's scale is
known, the new values of such states, waits in registers. Threads agree on the largest of them by exchanging registers:
no shared memory, and no barrier that other warps would have to come to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types
from numba.cuda import cgutils
from numba.cuda.extending import intrinsic

from ..lowering import conversions
from ..lowering import element as lowering_element
from ..lowering.element import FIRST_STATE
from ..lowering.llvm import GLOBAL, INT64, load_int64
from ..lowering.quantized import larger, load_scale, store_codes, store_scale
from ..lowering.random_bits import Draw
from ..plan.chunk_table import GRAD, PARAM
from ..plan.riders import RIDERS, Riders
from ..plan.spec import Spec
from ..storage.quantization import SIZE
from .kernels import WARP, walker

SHARE = SIZE // WARP
"""Elements of a thread."""

_I32 = lowering_element.ir.IntType(32)


def words(
    spec: Spec, new_values: Callable[..., list[Any]], table: Any, places: Any, riders: Any, scalars: Any
) -> tuple[Any, Any, Any]:
    """The words ``open_block``, ``largest`` and ``close_block``.

    ``new_values(context, builder, values, scalars)``: emits the update of an element. ``table``: the word. ``places``,
    ``riders``, ``scalars``: numba types, of the addresses after the gradient's and of a row's numbers.
    """
    rest, count = spec.streams[FIRST_STATE:], len(spec.in_blocks)
    values_type = types.UniTuple(types.float32, SHARE * count)  # all states in blocks of an element, then the next's
    peaks_type = types.UniTuple(types.int32, count)
    # What is loaded before the first of it is needed, so that memory is kept busy: as many as there are registers for.
    together = SHARE // (2 if spec.strided else 1) // (spec.compute.itemsize // 4)
    place, place_type = walker(table), types.UniTuple(types.int64, 2)(types.int64, types.int64)
    compiled: list[Any] = []

    def head(context: Any, builder: Any, row: Any, index: Any, turn: int) -> list[Any]:
        """Where the parameter and the gradient of the thread's element number ``turn`` lie."""
        if spec.strided:
            if not compiled:
                compiled.append(context.compile_subroutine(builder, place, place_type, caching=False))
            arguments = [row, builder.add(index, INT64(WARP * turn))]
            found = context.call_internal(builder, compiled[0].fndesc, place_type, arguments)
            return cgutils.unpack_tuple(builder, found, 2)
        addresses = []
        for column, size in ((PARAM, spec.parameter.itemsize), (GRAD, spec.gradient.itemsize)):
            base = load_int64(builder, row, INT64(column), GLOBAL)
            first = builder.add(base, builder.mul(index, INT64(size)))
            addresses.append(builder.add(first, INT64(WARP * turn * size)))
        return addresses

    def element(
        builder: Any, head: Any, others: Any, index: Any, last: Any, turn: int
    ) -> tuple[lowering_element.Element, Any]:
        """The thread's element number ``turn``, if there are so many, and its number in the row."""
        here = builder.add(index, INT64(WARP * turn))
        tails = [(base, builder.mul(here, INT64(s.storage.itemsize))) for base, s in zip(others, rest, strict=True)]
        there, streams = builder.icmp_signed("<", here, last), [*((address, INT64(0)) for address in head), *tails]
        return lowering_element.Element(builder, spec, streams, 1, True, GLOBAL, there=there), here

    def draw(one: lowering_element.Element, key: Any, start: Any, index: Any) -> Draw | None:
        return Draw(one.builder, one.spec, one.lanes, key, start, index) if spec.stochastic else None

    @intrinsic
    def open_block(typing, row, others, index, last, numbers, h, key, start):
        """Update the thread's elements of a block, from number ``index`` of the row on, before number ``last``: all of
        them but the states in 8 bits, whose new values are returned, 0 where there is no element."""

        def build(context, builder, signature, args):
            row, others, index, last, numbers, h, key, start = args
            bases = cgutils.unpack_tuple(builder, others, len(rest))
            ride = Riders(*cgutils.unpack_tuple(builder, numbers, RIDERS))
            number = builder.sdiv(index, INT64(SIZE))
            scales = [load_scale(builder, base, number, GLOBAL) for base in bases[spec.scales]]
            kept: list[Any] = []

            def keep(builder: Any, _: int, value: Any) -> None:
                kept.append(value)

            for turn in range(0, SHARE, together):
                part = [
                    element(builder, head(context, builder, row, index, n), bases, index, last, n)
                    for n in range(turn, turn + together)
                ]
                for one, _ in part:
                    one.block = lowering_element.Block(scales, keep)
                loaded = [lowering_element.load_element(one, ride) for one, _ in part]
                for (one, here), values in zip(part, loaded, strict=True):
                    new = new_values(context, builder, values, h)
                    lowering_element.store_element(one, new, ride, draw(one, key, start, here))
                    kept[-count:] = [builder.select(one.there, value, value.type(0.0)) for value in kept[-count:]]
            return context.make_tuple(builder, values_type, kept)

        where = (types.int64, places, types.int64, types.int64)
        return values_type(*where, riders, scalars, types.int32, types.int64), build

    @intrinsic
    def largest(typing, values):
        """The largest magnitudes among the values of all threads of the warp, as bits: of each state in 8 bits."""

        def build(context, builder, signature, args):
            values, peaks = cgutils.unpack_tuple(builder, args[0], SHARE * count), []
            for state in range(count):
                peak = _I32(0)
                for value in values[state::count]:
                    peak = larger(builder, value, peak)
                distance = WARP // 2
                while distance:
                    theirs = _exchanged(builder, peak, distance)
                    peak = builder.select(builder.icmp_signed(">", theirs, peak), theirs, peak)
                    distance //= 2
                peaks.append(peak)
            return context.make_tuple(builder, peaks_type, peaks)

        return peaks_type(values_type), build

    @intrinsic
    def close_block(typing, others, index, last, values, peaks, key, start):
        """Write the codes of the thread's elements, and by the first thread the scales. All threads have read the old
        ones: what they exchanged was made with them."""

        def build(context, builder, signature, args):
            others, index, last, values, peaks, key, start = args
            bases = cgutils.unpack_tuple(builder, others, len(rest))
            values = cgutils.unpack_tuple(builder, values, SHARE * count)
            made = [conversions.scale_of(builder, peak) for peak in cgutils.unpack_tuple(builder, peaks, count)]
            first = builder.icmp_signed("==", builder.and_(index, INT64(SIZE - 1)), INT64(0))
            with builder.if_then(first):
                number = builder.sdiv(index, INT64(SIZE))
                for (scale, _, _), base in zip(made, bases[spec.scales], strict=True):
                    store_scale(builder, scale, base, number, GLOBAL)
            factors, nowhere = [factor for _, *factor in made], [INT64(0)] * 2  # parameter and gradient are done
            for turn in range(SHARE):
                one, here = element(builder, nowhere, bases, index, last, turn)
                mine = values[turn * count : (turn + 1) * count]
                store_codes(one, mine, factors, draw(one, key, start, here))
            return context.get_dummy_value()

        where = (places, types.int64, types.int64)
        return types.void(*where, values_type, peaks_type, types.int32, types.int64), build

    return open_block, largest, close_block


def _exchanged(builder: Any, value: Any, distance: int) -> Any:
    """The value of the thread whose number in the warp differs by a bit; all of the warp's threads come here."""
    kind = lowering_element.ir.FunctionType(
        lowering_element.ir.LiteralStructType((_I32, lowering_element.ir.IntType(1))), (_I32,) * 5
    )
    shuffle = cgutils.get_or_insert_function(builder.module, kind, "llvm.nvvm.shfl.sync.i32")
    everyone, butterfly, clamp = _I32(-1), _I32(3), _I32(WARP - 1)
    return builder.extract_value(builder.call(shuffle, (everyone, butterfly, value, _I32(distance), clamp)), 0)
