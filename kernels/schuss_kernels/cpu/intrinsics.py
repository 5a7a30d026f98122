"""The words a CPU kernel is written in: numba intrinsics on plain addresses.

Each takes the kernel's spec as a literal string, so a kernel closes over nothing but strings. That is what lets numba's
disk cache find it again in another process: the string (rule name, digest, storages) is its whole identity.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from ..lang.rule import Rule
from ..lowering import element as lowering_element
from ..lowering import quantized, random_bits
from ..lowering.llvm import INT64, load_int64, load_scalar, mark, pointer_to, store_double, stored_type
from ..lowering.quantized import Scratch, load_scale
from ..lowering.random_bits import Draw
from ..lowering.reductions import add_to, each_in_lanes, fold, squares
from ..lowering.rule_types import compiled_measure, compiled_update, number_type, tuple_type
from ..plan.chunk_table import BLOCK, STATES, TENSOR
from ..plan.reduce import LANES
from ..plan.riders import RIDERS
from ..plan.spec import Spec
from ..storage.dtypes import F32, F64, STORAGES, Storage
from ..storage.quantization import SIZE

GRADIENTS: dict[str, Storage] = {storage.code: storage for storage in STORAGES.values()}
"""Storage codes -> what a kernel that adds up squares reads."""

KNOWN: dict[str, tuple[Spec, Rule]] = {}
"""Spec text -> what it stands for; filled before a kernel is compiled."""


def apply(spec, p, g, s, h):
    """The rule's update of one element."""
    raise RuntimeError("only for compiled kernels")


def measured(spec, p, g, s, h):
    """The rule's measure of one element."""
    raise RuntimeError("only for compiled kernels")


@overload(measured, prefer_literal=True, jit_options={"forceinline": True})
def _measured(spec, p, g, s, h):
    measure = compiled_measure(*KNOWN[spec.literal_value])
    return lambda spec, p, g, s, h: measure(p, g, s, h)


@overload(apply, prefer_literal=True, jit_options={"forceinline": True})
def _apply(spec, p, g, s, h):
    update = compiled_update(*KNOWN[spec.literal_value])
    return lambda spec, p, g, s, h: update(p, g, s, h)


@intrinsic(prefer_literal=True)
def addresses(typing, spec, row):
    """Where a row's streams after the gradient lie, a tuple of int64."""
    count = len(KNOWN[spec.literal_value][0].streams) - lowering_element.FIRST_STATE
    result = types.UniTuple(types.int64, count) if count else types.Tuple(())

    def build(context, builder, signature, args):
        columns = [INT64(STATES + number) for number in range(count)]
        return context.make_tuple(builder, result, [load_int64(builder, args[1], c) for c in columns])

    return result(spec, types.int64), build


@intrinsic(prefer_literal=True)
def rider_numbers(typing, spec, address):
    """What stands before the rule's scalars: see :data:`.engine.RIDERS`."""
    held, _ = KNOWN[spec.literal_value]
    result = types.UniTuple(number_type(held), RIDERS)

    def build(context, builder, signature, args):
        numbers = [load_scalar(builder, held.compute, args[1], n) for n in range(RIDERS)]
        return context.make_tuple(builder, result, numbers)

    return result(spec, types.int64), build


@intrinsic(prefer_literal=True)
def rule_scalars(typing, spec, address):
    """The rule's ``Scalars`` of a row."""
    held, rule = KNOWN[spec.literal_value]
    result = tuple_type(rule.Scalars, held)

    def build(context, builder, signature, args):
        numbers = [load_scalar(builder, held.compute, args[1], RIDERS + n) for n in range(len(result))]
        return context.make_tuple(builder, result, numbers)

    return result(spec, types.int64), build


@intrinsic(prefer_literal=True)
def row_key(typing, spec, riders, row):
    """What a row's random bits start from; 0 where nothing is rounded at random."""
    held, _ = KNOWN[spec.literal_value]

    def build(context, builder, signature, args):
        if not held.stochastic:
            return lowering_element.ir.IntType(32)(0)
        tensor = load_int64(builder, args[2], INT64(TENSOR))
        return random_bits.row_key(builder, cgutils.unpack_tuple(builder, args[1], RIDERS), tensor)

    return types.int32(spec, riders, types.int64), build


def _block_type(spec: Spec) -> Any:
    """What :func:`open_block` returns."""
    count = len(spec.in_blocks)
    return types.Tuple([types.int64, *[types.float32] * count]) if count else types.Tuple(())


@intrinsic(prefer_literal=True)
def open_block(typing, spec, others, scratch, first):
    """What the elements of a block need, from number ``first`` of the row on, where states are in 8 bits: where their
    new values wait, and their scales. An empty tuple where none are."""
    held, _ = KNOWN[spec.literal_value]
    result = _block_type(held)

    def build(context, builder, signature, args):
        count = len(held.in_blocks)
        if not count:
            return context.make_tuple(builder, result, [])
        number = builder.sdiv(args[3], INT64(SIZE))
        scales = cgutils.unpack_tuple(builder, args[1], len(others))[held.scales]
        loaded = [load_scale(builder, address, number) for address in scales]
        base = builder.sub(args[2], builder.mul(args[3], INT64(4)))
        return context.make_tuple(builder, result, [base, *loaded])

    return result(spec, others, types.int64, types.int64), build


@intrinsic(prefer_literal=True)
def close_block(typing, spec, others, block, first, last, key, start):
    """Write codes and scales of a block, elements ``first`` to ``last`` of the row, where states are in 8 bits."""
    held, _ = KNOWN[spec.literal_value]

    def build(context, builder, signature, args):
        if held.in_blocks:
            _, streams, block_, first_, last_, key_, start_ = args
            scratch = Scratch(held, builder.extract_value(block_, 0))

            def draws(element, index):
                return (
                    Draw(element.builder, element.spec, element.lanes, key_, start_, index) if held.stochastic else None
                )

            unpacked = cgutils.unpack_tuple(builder, streams, len(others))
            quantized.close_block(builder, held, scratch, unpacked, first_, last_, draws)
        return context.get_dummy_value()

    return types.void(spec, others, block, types.int64, types.int64, types.int32, types.int64), build


def _block(builder: Any, held: Spec, value: Any, index: Any) -> lowering_element.Block | None:
    if not held.in_blocks:
        return None
    base, *scales = cgutils.unpack_tuple(builder, value, 1 + len(held.in_blocks))
    scratch = Scratch(held, base)
    return lowering_element.Block(scales, lambda builder, number, value: scratch.store(builder, number, index, value))


def _element(builder: Any, held: Spec, args: Sequence[Any]) -> lowering_element.Element:
    """The element at ``(parameter, its offset, gradient, its offset, the others' addresses, index)``."""
    parameter, p_offset, gradient, g_offset, others, index = args
    rest = held.streams[lowering_element.FIRST_STATE :]
    bases = cgutils.unpack_tuple(builder, others, len(rest))
    offsets = [builder.mul(index, INT64(stream.storage.itemsize)) for stream in rest]
    places = [(parameter, p_offset), (gradient, g_offset), *zip(bases, offsets, strict=True)]
    return lowering_element.Element(builder, held, places)


_WHERE = (types.int64,) * 4


@intrinsic(prefer_literal=True)
def load(typing, spec, parameter, p_offset, gradient, g_offset, others, index, riders, block):
    """Parameter, gradient and the rule's ``State`` of an element. ``block``: from :func:`open_block`."""
    held, rule = KNOWN[spec.literal_value]
    number, state = number_type(held), tuple_type(rule.State, held)
    result = types.Tuple((number, number, state))

    def build(context, builder, signature, args):
        numbers = cgutils.unpack_tuple(builder, args[7], RIDERS)
        element = _element(builder, held, args[1:7])
        element.block = _block(builder, held, args[8], args[6])
        p, g, *states = lowering_element.load_element(element, numbers)
        return context.make_tuple(builder, result, [p, g, context.make_tuple(builder, state, states)])

    return result(spec, *_WHERE, others, types.int64, riders, block), build


@intrinsic(prefer_literal=True)
def store(typing, spec, parameter, p_offset, gradient, g_offset, others, index, p, state, riders, block, key, start):
    """Write an element's new parameter and ``State``, and what rides along. ``start``: the number of the
    row's first element in the tensor."""
    held, _ = KNOWN[spec.literal_value]

    def build(context, builder, signature, args):
        element = _element(builder, held, args[1:7])
        states = cgutils.unpack_tuple(builder, args[8], len(held.states))
        numbers = cgutils.unpack_tuple(builder, args[9], RIDERS)
        element.block = _block(builder, held, args[10], args[6])
        draw = (
            Draw(element.builder, element.spec, element.lanes, args[11], args[12], args[6]) if held.stochastic else None
        )
        lowering_element.store_element(element, [args[7], *states], numbers, draw)
        return context.get_dummy_value()

    where = (spec, *_WHERE, others, types.int64)
    return types.void(*where, number_type(held), state, riders, block, types.int32, types.int64), build


@intrinsic(prefer_literal=True)
def add_squares(typing, code, address, count, sums):
    """Write the sum of the squares of ``count`` dense gradients, and whether all are finite, to ``sums``."""
    storage = GRADIENTS[code.literal_value]

    def build(context, builder, signature, args):
        for number, value in enumerate(squares(builder, storage, args[1], args[2])):
            store_double(builder, args[3], INT64(number), value)
        return context.get_dummy_value()

    return types.void(code, types.int64, types.int64, types.int64), build


@intrinsic(prefer_literal=True)
def gather(typing, code, address, into, index):
    """Copy one gradient to place ``index`` of a dense buffer."""
    storage = GRADIENTS[code.literal_value]

    def build(context, builder, signature, args):
        kind, size = stored_type(storage), INT64(storage.itemsize)
        value = builder.load(builder.inttoptr(args[1], kind.as_pointer()), align=1)
        place = builder.add(args[2], builder.mul(args[3], size))
        builder.store(value, builder.inttoptr(place, kind.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(code, types.int64, types.int64, types.int64), build


@intrinsic
def scratch(typing):
    """The address of one BLOCK of the largest numbers on the stack."""

    def build(context, builder, signature, args):
        kind = lowering_element.ir.ArrayType(INT64, BLOCK)  # integers: who looks for float64 shall find none
        with builder.goto_entry_block():  # not cgutils.alloca_once, which fills it with zeros
            place = builder.alloca(kind)
        return builder.ptrtoint(place, INT64)

    return types.int64(), build


@intrinsic(prefer_literal=True)
def room(typing, spec):
    """The address of room on the stack for SIZE elements' measures, one sum after the other, and then for the LANES
    float64 that each is added up in."""
    held, rule = KNOWN[spec.literal_value]

    def build(context, builder, signature, args):
        values = SIZE * held.compute.itemsize // 8
        kind = lowering_element.ir.ArrayType(INT64, (values + LANES) * len(rule.Sums._fields))
        with builder.goto_entry_block():
            place = builder.alloca(kind)
            place.align = 64  # a vector in two cache lines is slow to read just after it was written
        return builder.ptrtoint(place, INT64)

    return types.int64(spec), build


def _lanes(builder, held, rule, address, number):
    """Where a sum's LANES float64 are in a room."""
    kind = lowering_element.ir.VectorType(lowering_element.ir.DoubleType(), LANES)
    values = SIZE * held.compute.itemsize * len(rule.Sums._fields)
    return pointer_to(builder, address, INT64(values + 8 * LANES * number), kind)


@intrinsic(prefer_literal=True)
def keep(typing, spec, address, index, sums):
    """Put an element's measure into a room, at place ``index``."""
    held, rule = KNOWN[spec.literal_value]
    count = len(rule.Sums._fields)

    def build(context, builder, signature, args):
        size, first = held.compute.itemsize, len(held.streams) + len(held.in_blocks)
        kind = lowering_element.ir.FloatType() if size == 4 else lowering_element.ir.DoubleType()
        for number, value in enumerate(cgutils.unpack_tuple(builder, args[3], count)):
            offset = builder.add(builder.mul(args[2], INT64(size)), INT64(number * SIZE * size))
            place = pointer_to(builder, args[1], offset, kind)  # not by adding: neighbours are to be seen
            mark(builder, builder.store(value, place, align=size), first + number, first + count)
        return context.get_dummy_value()

    return types.void(spec, types.int64, types.int64, sums), build


@intrinsic(prefer_literal=True)
def add_up(typing, spec, address, count, before):
    """Add the first ``count`` places of a room to its sums: place ``i`` to that in lane ``i % LANES``. ``before``: so
    many elements are in the sums; with none they start from zero."""
    held, rule = KNOWN[spec.literal_value]
    storage = F32 if held.compute.itemsize == 4 else F64

    def build(context, builder, signature, args):
        numbers = range(len(rule.Sums._fields))
        rows = [builder.add(args[1], INT64(number * SIZE * storage.itemsize)) for number in numbers]
        kept = [_lanes(builder, held, rule, args[1], number) for number in numbers]
        zero, fresh = (
            lowering_element.ir.Constant(kept[0].type.pointee, [0.0] * LANES),
            cgutils.is_null(builder, args[3]),
        )
        starts = [builder.select(fresh, zero, builder.load(place, align=8)) for place in kept]  # setting calls memset
        sums = [cgutils.alloca_once_value(builder, start) for start in starts]  # in registers

        def take(row: int, value: Any, lane: Any) -> None:
            add_to(builder, sums[row], value, lane)

        each_in_lanes(builder, storage, rows, args[2], take)
        for place, held_sums in zip(kept, sums, strict=True):
            builder.store(builder.load(held_sums), place, align=8)
        return context.get_dummy_value()

    return types.void(spec, types.int64, types.int64, types.int64), build


@intrinsic(prefer_literal=True)
def write_sums(typing, spec, address, sums):
    """Add the lanes of a room's sums up, in halves, and write the sums."""
    held, rule = KNOWN[spec.literal_value]

    def build(context, builder, signature, args):
        for number in range(len(rule.Sums._fields)):
            lanes = builder.load(_lanes(builder, held, rule, args[1], number), align=8)
            store_double(builder, args[2], INT64(number), fold(builder, lanes))
        return context.get_dummy_value()

    return types.void(spec, types.int64, types.int64), build
