"""LLVM pieces shared by the CPU and the CUDA kernels: load one element (or a vector of them) of every stream, store it.

A *stream* is one of the arrays a kernel walks: see :attr:`.Spec.streams`. Streams never overlap (the API
refuses overlapping arrays before a launch). Saying so to LLVM saves its run-time overlap checks, whose number grows
with the square of the streams, and the second, scalar loop behind them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from ..engine.plan_engine import CLIP, EMA_ADD, EMA_KEEP, KEY_HIGH, KEY_LOW, LANES, SCALE, SLOW_STEP
from ..lang.scalar_math import GUESS_FACTOR, GUESS_FROM
from ..storage import quantization
from ..storage.dtypes import CODES, F32, Spec, Storage
from ..storage.stochastic_rounding import KEY_FACTORS, MIX_FIRST, MIX_NEXT, MIX_SECOND
from . import conversions

PARAMETER, GRADIENT, FIRST_STATE = range(3)
GENERIC, GLOBAL = 0, 1  # address spaces: any memory, device memory (of CUDA)
INT64 = ir.IntType(64)


def load_int64(builder: Any, address: Any, index: Any, space: int = GENERIC) -> Any:
    """The 64-bit integer number ``index`` of the table at ``address``."""
    table = builder.inttoptr(address, INT64.as_pointer(space))
    return builder.load(builder.gep(table, [index]), align=8)


def pointer_to(builder: Any, address: Any, offset: Any, kind: Any, space: int = GENERIC) -> Any:
    """Where something of this kind is, ``offset`` bytes behind an address."""
    base = builder.inttoptr(address, ir.IntType(8).as_pointer(space))
    return builder.bitcast(builder.gep(base, [offset]), kind.as_pointer(space))


def mark(builder: Any, instruction: Any, stream: int, streams: int) -> None:
    """Say of a load or a store that it is of one of so many streams, and of no other."""
    module = builder.module
    domain = module.add_metadata(["schuss"])
    scopes = [module.add_metadata([f"stream {number}", domain]) for number in range(streams)]
    instruction.set_metadata("alias.scope", module.add_metadata([scopes[stream]]))
    others = [scope for number, scope in enumerate(scopes) if number != stream]
    if others:
        instruction.set_metadata("noalias", module.add_metadata(others))


@dataclass
class Block:
    """The block of 256 that an element is in. ``scales``: of every state in 8 bits. ``keep(builder, number, value)``:
    what becomes of the new value of such a state, in float32, the ``number``-th of them."""

    scales: Sequence[Any]
    keep: Callable[[Any, int, Any], None]


@dataclass
class Element:
    """Where one element (or ``lanes`` neighbours) lies: an address and an offset in bytes for every stream.

    ``align``: whether every access is to a multiple of its size. ``block``: where states are kept in 8 bits. ``there``:
    whether there is such an element; without it zeros are loaded and nothing is stored. None: there is.
    """

    builder: Any
    spec: Spec
    places: Sequence[tuple[Any, Any]]
    lanes: int = 1
    align: bool = False
    space: int = GENERIC
    block: Block | None = None
    there: Any = None

    def load(self, stream: int) -> Any:
        """What is stored."""
        if self.there is None:
            return self._load(stream)
        before = self.builder.basic_block
        with self.builder.if_then(self.there):
            value, inside = self._load(stream), self.builder.basic_block
        found = self.builder.phi(value.type)
        found.add_incoming(ir.Constant(value.type, None), before)
        found.add_incoming(value, inside)
        return found

    def store(self, stream: int, value: Any) -> None:
        """Write what is to be stored."""
        with contextlib.nullcontext() if self.there is None else self.builder.if_then(self.there):
            pointer, size = self._pointer(stream)
            mark(self.builder, self.builder.store(value, pointer, align=size), stream, len(self.spec.streams))

    def _load(self, stream: int) -> Any:
        pointer, size = self._pointer(stream)
        value = self.builder.load(pointer, align=size)
        mark(self.builder, value, stream, len(self.spec.streams))
        return value

    def _pointer(self, stream: int) -> tuple[Any, int]:
        storage = self.spec.streams[stream].storage
        kind = storage.llvm_type() if self.lanes == 1 else ir.VectorType(storage.llvm_type(), self.lanes)
        size = self.lanes * storage.itemsize if self.align else 1
        return pointer_to(self.builder, *self.places[stream], kind, self.space), size


def load_element(element: Element, riders: Sequence[Any]) -> list[Any]:
    """Parameter, gradient (scaled, limited) and states, in the compute type."""
    builder, spec = element.builder, element.spec
    values = [
        _widened(element, number) if stream.reads else None
        for number, stream in enumerate(spec.streams[: FIRST_STATE + len(spec.states)])
    ]
    if spec.master == "float32":
        values[PARAMETER] = element.load(spec.number("master"))
    elif spec.master:
        values[PARAMETER] = conversions.joined(builder, element.load(PARAMETER), element.load(spec.number("master")))

    def taken(gradient: Any) -> Any:
        gradient = builder.fmul(gradient, riders[SCALE])
        if spec.clip:
            most = riders[CLIP]
            least = builder.fsub(most.type(-0.0), most)  # NVVM has no fneg
            gradient = builder.select(builder.fcmp_ordered(">", gradient, most), most, gradient)  # a NaN is neither
            gradient = builder.select(builder.fcmp_ordered("<", gradient, least), least, gradient)
        return gradient

    values[GRADIENT] = _each(builder, taken, values[GRADIENT])
    return values


def store_element(element: Element, values: Sequence[Any], riders: Sequence[Any], draw: Draw | None) -> None:
    """Write the new parameter and states, and what rides along. ``values``: parameter, then states."""
    builder, spec = element.builder, element.spec
    parameter, states = values[0], values[1:]
    if spec.lookahead:
        number = spec.number("slow")

        def met(slow: Any, value: Any) -> Any:
            return builder.fadd(slow, builder.fmul(riders[SLOW_STEP], builder.fsub(value, slow)))

        parameter = _each(builder, met, element.load(number), parameter)
        element.store(number, parameter)
    if spec.master == "remainder":
        high, low = conversions.split(builder, parameter)
        element.store(PARAMETER, high)
        element.store(spec.number("master"), low)
    else:
        element.store(PARAMETER, _stored(element, PARAMETER, parameter, draw))
        if spec.master:
            element.store(spec.number("master"), parameter)
    for number, state in enumerate(states):
        if element.block is not None and spec.states[number].in_blocks:
            single = F32.narrow(builder, state, spec.compute)
            element.block.keep(builder, spec.in_blocks.index(number), single)
        else:
            element.store(FIRST_STATE + number, _stored(element, FIRST_STATE + number, state, draw))
    if spec.zero:
        kind = (
            spec.gradient.llvm_type() if element.lanes == 1 else ir.VectorType(spec.gradient.llvm_type(), element.lanes)
        )
        element.store(GRADIENT, ir.Constant(kind, None))
    if spec.ema:
        number = spec.number("ema")

        def moved(mean: Any, value: Any) -> Any:
            return builder.fadd(builder.fmul(riders[EMA_KEEP], mean), builder.fmul(riders[EMA_ADD], value))

        element.store(number, _each(builder, moved, element.load(number), parameter))
    if spec.copy is not None:
        element.store(spec.number("copy"), spec.copy.narrow(builder, parameter, spec.compute))


def _widened(element: Element, stream: int) -> Any:
    """What is stored, in the compute type."""
    storage, spec, builder = element.spec.streams[stream].storage, element.spec, element.builder
    if element.block is None or not storage.in_blocks:
        return storage.widen(builder, element.load(stream), spec.compute)
    scale = element.block.scales[spec.in_blocks.index(stream - FIRST_STATE)]
    value = conversions.from_code(builder, element.load(stream), storage is CODES, scale)
    return F32.widen(builder, value, spec.compute)


def _stored(element: Element, stream: int, value: Any, draw: Draw | None) -> Any:
    storage, spec = element.spec.streams[stream].storage, element.spec
    if draw is not None and stream in spec.at_random:
        return storage.narrow(element.builder, value, spec.compute, draw(stream))
    return storage.narrow(element.builder, value, spec.compute)


def load_scale(builder: Any, address: Any, number: Any, space: int = GENERIC) -> Any:
    """Scale number ``number`` of those at ``address``."""
    return builder.load(_scale(builder, address, number, space), align=4)


def store_scale(builder: Any, scale: Any, address: Any, number: Any, space: int = GENERIC) -> None:
    """Write it."""
    builder.store(scale, _scale(builder, address, number, space), align=4)


def _scale(builder: Any, address: Any, number: Any, space: int) -> Any:
    return pointer_to(builder, address, builder.mul(number, INT64(4)), ir.FloatType(), space)


def larger(builder: Any, value: Any, peak: Any) -> Any:
    """The larger of a float32's magnitude and ``peak``, both as bits: so a NaN is the largest."""
    size = builder.and_(conversions.bits(builder, value), ir.IntType(32)(quantization.MAGNITUDE))
    return builder.select(builder.icmp_signed(">", size, peak), size, peak)


def store_codes(element: Element, values: Sequence[Any], factors: Sequence[Any], draw: Draw | None) -> None:
    """Write the codes of an element's states in 8 bits. ``factors``: for each its block's, as
    :func:`.conversions.scale_of` gives them after the scale."""
    builder, spec = element.builder, element.spec
    for state, value, (inverse, limit) in zip(spec.in_blocks, values, factors, strict=True):
        stream = FIRST_STATE + state
        bits = draw(stream) if draw is not None else None
        signed = spec.states[state] is CODES
        element.store(stream, conversions.to_code(builder, value, signed, inverse, limit, bits))


@dataclass
class Scratch:
    """Where new values of the states in 8 bits wait until their block's scale is known, float32, a block for each."""

    spec: Spec
    base: Any
    """An address, so that element ``index`` of the row is at ``base + 4 * index``."""

    def at(self, builder: Any, number: int, index: Any) -> Any:
        """Of the ``number``-th state in 8 bits: a pointer."""
        offset = builder.add(builder.mul(index, INT64(4)), INT64(number * 4 * quantization.SIZE))
        return pointer_to(builder, self.base, offset, ir.FloatType())

    def store(self, builder: Any, number: int, index: Any, value: Any) -> None:
        self._mark(builder, builder.store(value, self.at(builder, number, index), align=4), number)

    def load(self, builder: Any, number: int, index: Any) -> Any:
        value = builder.load(self.at(builder, number, index), align=4)
        self._mark(builder, value, number)
        return value

    def _mark(self, builder: Any, instruction: Any, number: int) -> None:
        streams = len(self.spec.streams)
        mark(builder, instruction, streams + number, streams + len(self.spec.in_blocks))


def close_block(
    builder: Any, spec: Spec, scratch: Scratch, others: Sequence[Any], first: Any, last: Any, draws: Callable[..., Any]
) -> None:
    """Write the codes and the scale of a block, elements ``first`` to ``last`` of a row, from what is in ``scratch``.

    ``others``: the addresses of the streams after the gradient. ``draws(element, index)``: the element's :class:`Draw`,
    or None.
    """
    i32 = ir.IntType(32)
    count, here = len(spec.in_blocks), builder.sub(last, first)
    peaks = [cgutils.alloca_once_value(builder, i32(0)) for _ in range(count)]
    with cgutils.for_range(builder, here) as loop:
        index = builder.add(first, loop.index)
        for number, peak in enumerate(peaks):
            value = scratch.load(builder, number, index)
            builder.store(larger(builder, value, builder.load(peak)), peak)
    factors = []
    for peak, address in zip(peaks, others[spec.scales], strict=True):
        scale, *rest = conversions.scale_of(builder, builder.load(peak))
        factors.append(rest)
        store_scale(builder, scale, address, builder.sdiv(first, INT64(quantization.SIZE)))
    with cgutils.for_range(builder, here) as loop:
        index = builder.add(first, loop.index)
        places = [(address, index) for address in (INT64(0), INT64(0), *others)]  # only those of the codes count
        element = Element(builder, spec, places)
        values = [scratch.load(builder, number, index) for number in range(count)]
        store_codes(element, values, factors, draws(element, index))


def _each(builder: Any, function: Callable[..., Any], *values: Any) -> Any:
    """A function of numbers for every lane. (NVVM takes a vector load apart whose lanes meet a number as often as there
    are lanes.)"""
    if not isinstance(values[0].type, ir.VectorType):
        return function(*values)
    made = values[0]
    for lane in range(values[0].type.count):
        at = INT64(lane)
        new = function(*(builder.extract_element(value, at) for value in values))
        made = builder.insert_element(made, new, at)
    return made


def _spread(builder: Any, value: Any, like: Any) -> Any:
    """A number as often as ``like`` has lanes."""
    if not isinstance(like.type, ir.VectorType):
        return value
    vector = builder.insert_element(ir.Constant(like.type, ir.Undefined), value, INT64(0))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), like.type.count), None))


def row_key(builder: Any, riders: Sequence[Any], tensor: Any) -> Any:
    """What the random bits of a tensor in a step start from, 32 bits."""
    kind = ir.IntType(32)
    words = [builder.fptoui(riders[rider], kind) for rider in (KEY_HIGH, KEY_LOW)]
    words.append(builder.trunc(tensor, kind))
    total = kind(0)
    for word, factor in zip(words, KEY_FACTORS, strict=True):
        total = builder.add(total, builder.mul(word, conversions.i32(word, factor)))
    return mixed(builder, total)


def mixed(builder: Any, word: Any) -> Any:
    """32 bits from 32 bits, every one from all: the hash called lowbias32."""
    i32 = conversions.i32
    word = builder.xor(word, builder.lshr(word, i32(word, 16)))
    word = builder.mul(word, i32(word, MIX_FIRST))
    word = builder.xor(word, builder.lshr(word, i32(word, 15)))
    word = builder.mul(word, i32(word, MIX_SECOND))
    return builder.xor(word, builder.lshr(word, i32(word, 16)))


class Draw:
    """The random bits of one element (or of ``lanes`` neighbours): 16 for every stream that is rounded at random.

    The element's number in the tensor (``start + index``) and the tensor's key, hashed: the same for any thread count
    and chunking.
    """

    def __init__(self, element: Element, key: Any, start: Any, index: Any) -> None:
        self._builder, self._spec = builder, _ = element.builder, element.spec
        kind = ir.IntType(32)
        # Both in 32 bits before they meet: a loop then counts in 32 bits too, twice as many to a vector.
        first = builder.trunc(index, kind)
        key = builder.add(key, builder.trunc(start, kind))
        if element.lanes > 1:
            lanes = ir.VectorType(kind, element.lanes)
            first = builder.add(_spread(builder, first, lanes(None)), lanes(list(range(element.lanes))))
            key = _spread(builder, key, first)
        self._words = [mixed(builder, builder.add(first, key))]

    def __call__(self, stream: int) -> Any:
        """16 random bits, in 32."""
        builder = self._builder
        place = self._spec.at_random.index(stream)
        while len(self._words) <= place // 2:
            last = self._words[-1]
            word = builder.mul(builder.add(last, conversions.i32(last, MIX_NEXT)), conversions.i32(last, MIX_FIRST))
            self._words.append(builder.xor(word, builder.lshr(word, conversions.i32(word, 15))))
        word = self._words[place // 2]
        if place % 2:
            return builder.lshr(word, conversions.i32(word, 16))
        return builder.and_(word, conversions.i32(word, 0xFFFF))


def first_guess(builder: Any, x: Any) -> Any:
    """:func:`.elementary.first_guess`."""
    single, word = ir.FloatType(), ir.IntType(32)
    logarithm = builder.sitofp(builder.bitcast(x, word), single)
    factor, start = (ir.Constant(single, float(np.float32(number))) for number in (GUESS_FACTOR, GUESS_FROM))
    guess = builder.fadd(builder.fmul(logarithm, factor), start)
    return builder.bitcast(builder.fptosi(guess, word), single)


def store_double(builder: Any, address: Any, index: Any, value: Any) -> None:
    """Write a float64 to the table at ``address``."""
    table = builder.inttoptr(address, ir.DoubleType().as_pointer())
    builder.store(value, builder.gep(table, [index]), align=8)


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
            take(row, storage.widen(builder, value, np.dtype(np.float64)), lane)

    with cgutils.for_range(builder, whole) as loop:
        load(builder.mul(loop.index, INT64(LANES)), ir.VectorType(storage.llvm_type(), LANES), None)
    done = builder.mul(whole, INT64(LANES))
    with cgutils.for_range(builder, builder.sub(count, done)) as loop:
        load(builder.add(done, loop.index), storage.llvm_type(), loop.index)


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


def load_scalar(builder: Any, compute: np.dtype, address: Any, index: int, space: int = GENERIC) -> Any:
    """Number ``index`` of the scalars at ``address``."""
    kind = ir.FloatType() if compute.itemsize == 4 else ir.DoubleType()
    pointer = pointer_to(builder, address, INT64(index * compute.itemsize), kind, space)
    return builder.load(pointer, align=compute.itemsize)
