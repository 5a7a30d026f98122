"""The intrinsics that CPU kernels are written in: numba functions on plain addresses.

Each takes the kernel's spec as a literal string, so a kernel closes over nothing but strings. That is what lets numba's
disk cache find it again in another process: the string (rule name, digest, storages) is its whole identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from ..lang.rule import Rule
from ..lowering import element as lowering_element
from ..lowering import quantized, random_bits
from ..lowering.llvm import INT64, load_int64, load_scalar, pointer_to, set_alias_scope, store_double, stored_type
from ..lowering.quantized import ValueBuffer, load_scale
from ..lowering.random_bits import Draw
from ..lowering.reductions import add_to, each_in_lanes, fold, squares
from ..lowering.rule_types import compiled_measure, compiled_update, number_type, tuple_type
from ..plan.chunk_table import REDUCE_BLOCK, STATES, TENSOR
from ..plan.reduce import LANES
from ..plan.riders import RIDERS, Riders
from ..plan.spec import Spec
from ..storage.dtypes import F32, F64, STORAGES, Storage
from ..storage.quantization import QUANT_BLOCK

GRADIENTS: dict[str, Storage] = {storage.code: storage for storage in STORAGES.values()}
"""Storage code -> storage, for kernels that add up squares."""

KNOWN: dict[str, tuple[Spec, Rule]] = {}
"""Spec text -> the spec and its rule; filled before a kernel is compiled."""


def update_element(spec, p, g, s, h):
    """Return what the rule's ``update`` returns for one element."""
    raise RuntimeError("only for compiled kernels")


def measure_element(spec, p, g, s, h):
    """Return what the rule's ``measure`` returns for one element."""
    raise RuntimeError("only for compiled kernels")


@overload(measure_element, prefer_literal=True, jit_options={"forceinline": True})
def _measure_element(spec, p, g, s, h):
    measure = compiled_measure(*KNOWN[spec.literal_value])
    return lambda spec, p, g, s, h: measure(p, g, s, h)


@overload(update_element, prefer_literal=True, jit_options={"forceinline": True})
def _update_element(spec, p, g, s, h):
    update = compiled_update(*KNOWN[spec.literal_value])
    return lambda spec, p, g, s, h: update(p, g, s, h)


@intrinsic(prefer_literal=True)
def addresses(typing, spec, row):
    """Return the addresses of a row's streams after the gradient, a tuple of int64."""
    count = len(KNOWN[spec.literal_value][0].streams) - lowering_element.FIRST_STATE
    result = types.UniTuple(types.int64, count) if count else types.Tuple(())

    def build(context, builder, signature, args):
        columns = [INT64(STATES + number) for number in range(count)]
        return context.make_tuple(builder, result, [load_int64(builder, args[1], c) for c in columns])

    return result(spec, types.int64), build


@intrinsic(prefer_literal=True)
def rider_numbers(typing, spec, address):
    """Load the numbers of the riders, which stand before the rule's scalars: see :mod:`.riders`."""
    kernel_spec, _ = KNOWN[spec.literal_value]
    result = types.UniTuple(number_type(kernel_spec), RIDERS)

    def build(context, builder, signature, args):
        numbers = [load_scalar(builder, kernel_spec.compute, args[1], n) for n in range(RIDERS)]
        return context.make_tuple(builder, result, numbers)

    return result(spec, types.int64), build


@intrinsic(prefer_literal=True)
def rule_scalars(typing, spec, address):
    """Load the rule's ``Scalars`` of a row."""
    kernel_spec, rule = KNOWN[spec.literal_value]
    result = tuple_type(rule.Scalars, kernel_spec)

    def build(context, builder, signature, args):
        numbers = [load_scalar(builder, kernel_spec.compute, args[1], RIDERS + n) for n in range(len(result))]
        return context.make_tuple(builder, result, numbers)

    return result(spec, types.int64), build


@intrinsic(prefer_literal=True)
def row_key(typing, spec, riders, row):
    """Return the key of a row's random bits; 0 where nothing is rounded stochastically."""
    kernel_spec, _ = KNOWN[spec.literal_value]

    def build(context, builder, signature, args):
        if not kernel_spec.stochastic:
            return ir.IntType(32)(0)
        tensor = load_int64(builder, args[2], INT64(TENSOR))
        numbers = Riders(*cgutils.unpack_tuple(builder, args[1], RIDERS))
        return random_bits.row_key(builder, numbers, tensor)

    return types.int32(spec, riders, types.int64), build


def _block_type(spec: Spec) -> Any:
    """Return the numba type of what :func:`open_block` returns."""
    count = len(spec.quantized_states)
    return types.Tuple([types.int64, *[types.float32] * count]) if count else types.Tuple(())


@intrinsic(prefer_literal=True)
def open_block(typing, spec, others, buffer, first):
    """Begin the block of quantized states that starts at element ``first`` of the row.

    Returns the address at which new values are buffered and the scales of the old ones; an empty tuple where no state
    is quantized.
    """
    kernel_spec, _ = KNOWN[spec.literal_value]
    result = _block_type(kernel_spec)

    def build(context, builder, signature, args):
        count = len(kernel_spec.quantized_states)
        if not count:
            return context.make_tuple(builder, result, [])
        number = builder.sdiv(args[3], INT64(QUANT_BLOCK))
        scales = cgutils.unpack_tuple(builder, args[1], len(others))[kernel_spec.scales]
        loaded = [load_scale(builder, address, number) for address in scales]
        base = builder.sub(args[2], builder.mul(args[3], INT64(4)))
        return context.make_tuple(builder, result, [base, *loaded])

    return result(spec, others, types.int64, types.int64), build


@intrinsic(prefer_literal=True)
def close_block(typing, spec, others, block, first, last, key, start):
    """Store the codes and scales of a block of quantized states, elements ``first`` to ``last`` of the row."""
    kernel_spec, _ = KNOWN[spec.literal_value]

    def build(context, builder, signature, args):
        if kernel_spec.quantized_states:
            _, streams, block_, first_, last_, key_, start_ = args
            buffer = ValueBuffer(kernel_spec, builder.extract_value(block_, 0))

            def draws(element, index):
                return (
                    Draw(element.builder, element.spec, element.lanes, key_, start_, index)
                    if kernel_spec.stochastic
                    else None
                )

            unpacked = cgutils.unpack_tuple(builder, streams, len(others))
            quantized.store_block(builder, kernel_spec, buffer, unpacked, first_, last_, draws)
        return context.get_dummy_value()

    return types.void(spec, others, block, types.int64, types.int64, types.int32, types.int64), build


def _block(builder: Any, kernel_spec: Spec, value: Any, index: Any) -> lowering_element.QuantBlock | None:
    if not kernel_spec.quantized_states:
        return None
    base, *scales = cgutils.unpack_tuple(builder, value, 1 + len(kernel_spec.quantized_states))
    buffer = ValueBuffer(kernel_spec, base)

    def collect(builder: Any, number: int, value: Any) -> None:
        buffer.store(builder, number, index, value)

    return lowering_element.QuantBlock(scales, collect)


def _element(builder: Any, kernel_spec: Spec, args: Sequence[Any]) -> lowering_element.Element:
    """Return the element at ``(parameter, its offset, gradient, its offset, the other addresses, index)``."""
    parameter, p_offset, gradient, g_offset, others, index = args
    rest = kernel_spec.streams[lowering_element.FIRST_STATE :]
    bases = cgutils.unpack_tuple(builder, others, len(rest))
    offsets = [builder.mul(index, INT64(stream.storage.itemsize)) for stream in rest]
    places = [(parameter, p_offset), (gradient, g_offset), *zip(bases, offsets, strict=True)]
    return lowering_element.Element(builder, kernel_spec, places)


def _draw(element: lowering_element.Element, key: Any, start: Any, index: Any) -> Draw | None:
    """Return the random bits of an element; None where nothing is rounded stochastically."""
    return Draw(element.builder, element.spec, 1, key, start, index) if element.spec.stochastic else None


_WHERE = (types.int64,) * 4


@intrinsic(prefer_literal=True)
def load(typing, spec, parameter, p_offset, gradient, g_offset, others, index, riders, block):
    """Load parameter, gradient and the rule's ``State`` of an element. ``block``: from :func:`open_block`."""
    kernel_spec, rule = KNOWN[spec.literal_value]
    number, state = number_type(kernel_spec), tuple_type(rule.State, kernel_spec)
    result = types.Tuple((number, number, state))

    def build(context, builder, signature, args):
        numbers = Riders(*cgutils.unpack_tuple(builder, args[7], RIDERS))
        element = _element(builder, kernel_spec, args[1:7])
        element.block = _block(builder, kernel_spec, args[8], args[6])
        p, g, *states = lowering_element.load_element(element, numbers)
        return context.make_tuple(builder, result, [p, g, context.make_tuple(builder, state, states)])

    return result(spec, *_WHERE, others, types.int64, riders, block), build


@intrinsic(prefer_literal=True)
def store(typing, spec, parameter, p_offset, gradient, g_offset, others, index, p, state, riders, block, key, start):
    """Store an element's new parameter and ``State``, and do what the riders ask for.

    ``start``: the number of the row's first element in the tensor.
    """
    kernel_spec, _ = KNOWN[spec.literal_value]

    def build(context, builder, signature, args):
        element = _element(builder, kernel_spec, args[1:7])
        states = cgutils.unpack_tuple(builder, args[8], len(kernel_spec.states))
        numbers = Riders(*cgutils.unpack_tuple(builder, args[9], RIDERS))
        element.block = _block(builder, kernel_spec, args[10], args[6])
        draw = (
            Draw(element.builder, element.spec, element.lanes, args[11], args[12], args[6])
            if kernel_spec.stochastic
            else None
        )
        lowering_element.store_element(element, [args[7], *states], numbers, draw)
        return context.get_dummy_value()

    where = (spec, *_WHERE, others, types.int64)
    return types.void(*where, number_type(kernel_spec), state, riders, block, types.int32, types.int64), build


@intrinsic(prefer_literal=True)
def store_squares(typing, code, address, count, sums):
    """Store the sum of the squares of ``count`` dense gradients, and 0.0 or, where one is not finite, NaN."""
    storage = GRADIENTS[code.literal_value]

    def build(context, builder, signature, args):
        for number, value in enumerate(squares(builder, storage, args[1], args[2])):
            store_double(builder, args[3], INT64(number), value)
        return context.get_dummy_value()

    return types.void(code, types.int64, types.int64, types.int64), build


@intrinsic(prefer_literal=True)
def copy_gradient(typing, code, address, into, index):
    """Copy one gradient to element ``index`` of a dense buffer."""
    storage = GRADIENTS[code.literal_value]

    def build(context, builder, signature, args):
        kind, size = stored_type(storage), INT64(storage.itemsize)
        value = builder.load(builder.inttoptr(args[1], kind.as_pointer()), align=1)
        place = builder.add(args[2], builder.mul(args[3], size))
        builder.store(value, builder.inttoptr(place, kind.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(code, types.int64, types.int64, types.int64), build


@intrinsic
def block_buffer(typing):
    """Return the address of a buffer on the stack for REDUCE_BLOCK numbers of 8 bytes."""

    def build(context, builder, signature, args):
        kind = ir.ArrayType(INT64, REDUCE_BLOCK)  # of integers: tests look for float64 in the code
        with builder.goto_entry_block():  # not cgutils.alloca_once, which fills it with zeros
            place = builder.alloca(kind)
        return builder.ptrtoint(place, INT64)

    return types.int64(), build


@intrinsic(prefer_literal=True)
def measure_buffer(typing, spec):
    """Return the address of a buffer on the stack for the measures of QUANT_BLOCK elements.

    It holds QUANT_BLOCK values of each sum, one sum after the other, then LANES float64 partial sums of each.
    """
    kernel_spec, rule = KNOWN[spec.literal_value]

    def build(context, builder, signature, args):
        values = QUANT_BLOCK * kernel_spec.compute.itemsize // 8
        kind = ir.ArrayType(INT64, (values + LANES) * len(rule.Sums._fields))
        with builder.goto_entry_block():
            place = builder.alloca(kind)
            place.align = 64  # a vector in two cache lines is slow to read just after it was written
        return builder.ptrtoint(place, INT64)

    return types.int64(spec), build


def _lanes(builder, kernel_spec, rule, address, number):
    """Return a pointer to the partial sums of sum ``number`` in a measure buffer."""
    kind = ir.VectorType(ir.DoubleType(), LANES)
    values = QUANT_BLOCK * kernel_spec.compute.itemsize * len(rule.Sums._fields)
    return pointer_to(builder, address, INT64(values + 8 * LANES * number), kind)


@intrinsic(prefer_literal=True)
def store_measure(typing, spec, address, index, sums):
    """Store an element's measure as element ``index`` of a measure buffer."""
    kernel_spec, rule = KNOWN[spec.literal_value]
    count = len(rule.Sums._fields)

    def build(context, builder, signature, args):
        size, first = kernel_spec.compute.itemsize, len(kernel_spec.streams) + len(kernel_spec.quantized_states)
        kind = ir.FloatType() if size == 4 else ir.DoubleType()
        for number, value in enumerate(cgutils.unpack_tuple(builder, args[3], count)):
            offset = builder.add(builder.mul(args[2], INT64(size)), INT64(number * QUANT_BLOCK * size))
            place = pointer_to(builder, args[1], offset, kind)  # not by adding: LLVM has to see neighbours
            set_alias_scope(builder, builder.store(value, place, align=size), first + number, first + count)
        return context.get_dummy_value()

    return types.void(spec, types.int64, types.int64, sums), build


@intrinsic(prefer_literal=True)
def add_measures(typing, spec, address, count, before):
    """Add the first ``count`` measures of a buffer to its partial sums, measure ``i`` to lane ``i % LANES``.

    ``before``: how many elements are in the partial sums already; with none they start from zero.
    """
    kernel_spec, rule = KNOWN[spec.literal_value]
    storage = F32 if kernel_spec.compute.itemsize == 4 else F64

    def build(context, builder, signature, args):
        numbers = range(len(rule.Sums._fields))
        rows = [builder.add(args[1], INT64(number * QUANT_BLOCK * storage.itemsize)) for number in numbers]
        partial = [_lanes(builder, kernel_spec, rule, args[1], number) for number in numbers]
        zero, fresh = (
            ir.Constant(partial[0].type.pointee, [0.0] * LANES),
            cgutils.is_null(builder, args[3]),
        )
        starts = [builder.select(fresh, zero, builder.load(place, align=8)) for place in partial]
        sums = [cgutils.alloca_once_value(builder, start) for start in starts]  # in registers

        def add(row: int, value: Any, lane: Any) -> None:
            add_to(builder, sums[row], value, lane)

        each_in_lanes(builder, storage, rows, args[2], add)
        for place, sum_ in zip(partial, sums, strict=True):
            builder.store(builder.load(sum_), place, align=8)
        return context.get_dummy_value()

    return types.void(spec, types.int64, types.int64, types.int64), build


@intrinsic(prefer_literal=True)
def store_sums(typing, spec, address, sums):
    """Store the sums of a measure buffer: its partial sums, added up in halves."""
    kernel_spec, rule = KNOWN[spec.literal_value]

    def build(context, builder, signature, args):
        for number in range(len(rule.Sums._fields)):
            lanes = builder.load(_lanes(builder, kernel_spec, rule, args[1], number), align=8)
            store_double(builder, args[2], INT64(number), fold(builder, lanes))
        return context.get_dummy_value()

    return types.void(spec, types.int64, types.int64), build
