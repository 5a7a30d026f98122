"""The intrinsics of a compiled CUDA kernel with quantized states: a warp processes a block of 256 elements.

Each thread takes every 32nd element, so that neighbouring threads read and write neighbours. The new values of the
quantized states stay in registers until the block's scales are known. Threads find the largest of them by exchanging
registers: no shared memory, and no barrier that other warps would have to reach.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.cuda import cgutils
from numba.cuda.extending import intrinsic

from ..lowering import conversions, llvm
from ..lowering import element as lowering_element
from ..lowering.element import FIRST_STATE
from ..lowering.llvm import GLOBAL, INT64
from ..lowering.quantized import larger_magnitude, load_scale, store_codes, store_scale
from ..lowering.random_bits import Draw
from ..plan.chunk_table import GRAD, PARAM
from ..plan.riders import RIDERS, Riders
from ..plan.spec import Spec
from ..storage.quantization import QUANT_BLOCK
from .kernels import WARP, locator

PER_THREAD = QUANT_BLOCK // WARP
"""Elements of a block that one thread processes."""

_I32 = ir.IntType(32)


def intrinsics(
    spec: Spec, new_values: Callable[..., list[Any]], load_int64: Any, places: Any, riders: Any, scalars: Any
) -> tuple[Any, Any, Any]:
    """Make the intrinsics ``open_block``, ``block_peaks`` and ``close_block``.

    ``new_values(context, builder, values, scalars)``: emits the update of an element. ``load_int64``: the intrinsic.
    ``places``, ``riders``, ``scalars``: numba types, of the addresses after the gradient's and of a row's numbers.
    """
    rest, count = spec.streams[FIRST_STATE:], len(spec.quantized_states)
    # Of a thread's first element all quantized states, then those of the next.
    values_type = types.UniTuple(types.float32, PER_THREAD * count)
    peaks_type = types.UniTuple(types.int32, count)
    # Elements that are loaded before the first is used, so that many loads are in flight: as registers allow.
    batch = PER_THREAD // (2 if spec.strided else 1) // (spec.compute.itemsize // 4)
    locate, locate_type = locator(load_int64), types.UniTuple(types.int64, 2)(types.int64, types.int64)
    compiled: list[Any] = []

    def parameter_and_gradient(context: Any, builder: Any, row: Any, index: Any, n: int) -> list[Any]:
        """The addresses of the parameter and the gradient of the thread's ``n``-th element."""
        if spec.strided:
            if not compiled:
                compiled.append(context.compile_subroutine(builder, locate, locate_type, caching=False))
            arguments = [row, builder.add(index, INT64(WARP * n))]
            found = context.call_internal(builder, compiled[0].fndesc, locate_type, arguments)
            return cgutils.unpack_tuple(builder, found, 2)
        addresses = []
        for column, size in ((PARAM, spec.parameter.itemsize), (GRAD, spec.gradient.itemsize)):
            base = llvm.load_int64(builder, row, INT64(column), GLOBAL)
            first = builder.add(base, builder.mul(index, INT64(size)))
            addresses.append(builder.add(first, INT64(WARP * n * size)))
        return addresses

    def element(
        builder: Any, addresses: Any, others: Any, index: Any, last: Any, n: int
    ) -> tuple[lowering_element.Element, Any]:
        """The thread's ``n``-th element, if there are so many, and its index in the row.

        ``addresses``: of its parameter and gradient. ``others``: of the row's other streams.
        """
        here = builder.add(index, INT64(WARP * n))
        tails = [(base, builder.mul(here, INT64(s.storage.itemsize))) for base, s in zip(others, rest, strict=True)]
        exists, places = builder.icmp_signed("<", here, last), [*((address, INT64(0)) for address in addresses), *tails]
        return lowering_element.Element(builder, spec, places, 1, True, GLOBAL, exists=exists), here

    def draw(one: lowering_element.Element, key: Any, start: Any, index: Any) -> Draw | None:
        return Draw(one.builder, one.spec, one.lanes, key, start, index) if spec.stochastic else None

    @intrinsic
    def open_block(typing, row, others, index, last, numbers, h, key, start):
        """Update the thread's elements of a block: those from ``index`` of the row on, before ``last``.

        Everything is stored but the quantized states: their new values are returned, 0 where there is no element.
        """

        def build(context, builder, signature, args):
            row, others, index, last, numbers, h, key, start = args
            bases = cgutils.unpack_tuple(builder, others, len(rest))
            riders_ = Riders(*cgutils.unpack_tuple(builder, numbers, RIDERS))
            number = builder.sdiv(index, INT64(QUANT_BLOCK))
            scales = [load_scale(builder, base, number, GLOBAL) for base in bases[spec.scales]]
            quantized: list[Any] = []

            def collect(builder: Any, _: int, value: Any) -> None:
                quantized.append(value)

            for first in range(0, PER_THREAD, batch):
                part = [
                    element(builder, parameter_and_gradient(context, builder, row, index, n), bases, index, last, n)
                    for n in range(first, first + batch)
                ]
                for one, _ in part:
                    one.block = lowering_element.QuantBlock(scales, collect)
                loaded = [lowering_element.load_element(one, riders_) for one, _ in part]
                for (one, here), values in zip(part, loaded, strict=True):
                    new = new_values(context, builder, values, h)
                    lowering_element.store_element(one, new, riders_, draw(one, key, start, here))
                    zeroed = [builder.select(one.exists, value, value.type(0.0)) for value in quantized[-count:]]
                    quantized[-count:] = zeroed
            return context.make_tuple(builder, values_type, quantized)

        where = (types.int64, places, types.int64, types.int64)
        return values_type(*where, riders, scalars, types.int32, types.int64), build

    @intrinsic
    def block_peaks(typing, values):
        """Find for each quantized state the largest magnitude among the values of all threads of the warp, as bits."""

        def build(context, builder, signature, args):
            values, peaks = cgutils.unpack_tuple(builder, args[0], PER_THREAD * count), []
            for state in range(count):
                peak = _I32(0)
                for value in values[state::count]:
                    peak = larger_magnitude(builder, value, peak)
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
        """Store the codes of the thread's elements; the first thread stores the scales.

        All threads have loaded the old scales by then: what they exchanged was computed with them.
        """

        def build(context, builder, signature, args):
            others, index, last, values, peaks, key, start = args
            bases = cgutils.unpack_tuple(builder, others, len(rest))
            values = cgutils.unpack_tuple(builder, values, PER_THREAD * count)
            made = [conversions.scale_of(builder, peak) for peak in cgutils.unpack_tuple(builder, peaks, count)]
            first = builder.icmp_signed("==", builder.and_(index, INT64(QUANT_BLOCK - 1)), INT64(0))
            with builder.if_then(first):
                number = builder.sdiv(index, INT64(QUANT_BLOCK))
                for (scale, _, _), base in zip(made, bases[spec.scales], strict=True):
                    store_scale(builder, scale, base, number, GLOBAL)
            factors, unused = [factor for _, *factor in made], [INT64(0)] * 2  # parameter and gradient are done
            for n in range(PER_THREAD):
                one, here = element(builder, unused, bases, index, last, n)
                mine = values[n * count : (n + 1) * count]
                store_codes(one, mine, factors, draw(one, key, start, here))
            return context.get_dummy_value()

        where = (places, types.int64, types.int64)
        return types.void(*where, values_type, peaks_type, types.int32, types.int64), build

    return open_block, block_peaks, close_block


def _exchanged(builder: Any, value: Any, distance: int) -> Any:
    """Exchange an int32 with the thread of the warp whose number differs in the bit ``distance``.

    All threads of the warp have to execute it.
    """
    type_ = ir.FunctionType(ir.LiteralStructType((_I32, ir.IntType(1))), (_I32,) * 5)
    shuffle = cgutils.get_or_insert_function(builder.module, type_, "llvm.nvvm.shfl.sync.i32")
    all_threads, butterfly, clamp = _I32(-1), _I32(3), _I32(WARP - 1)
    return builder.extract_value(builder.call(shuffle, (all_threads, butterfly, value, _I32(distance), clamp)), 0)
