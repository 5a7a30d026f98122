"""LLVM pieces shared by the CPU and the CUDA kernels: load one element (or a vector of them) of every stream, store it.

A *stream* is one of the arrays a kernel walks: see :attr:`.Spec.streams`. Streams never overlap (the API
refuses overlapping arrays before a launch). Saying so to LLVM saves its run-time overlap checks, whose number grows
with the square of the streams, and the second, scalar loop behind them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from . import conversions
from .engine import CLIP, EMA_ADD, EMA_KEEP, KEY_HIGH, KEY_LOW, LANES, SCALE
from .rounding import INDEX_FACTOR, KEY_FACTORS, MIX_FIRST, MIX_SECOND
from .storage import Spec, Storage

PARAMETER, GRADIENT, FIRST_STATE = range(3)
GENERIC, GLOBAL = 0, 1  # address spaces: any memory, device memory (of CUDA)
INT64 = ir.IntType(64)


def load_int64(builder: Any, address: Any, index: Any, space: int = GENERIC) -> Any:
    """The 64-bit integer number ``index`` of the table at ``address``."""
    table = builder.inttoptr(address, INT64.as_pointer(space))
    return builder.load(builder.gep(table, [index]), align=8)


def _pointer(builder: Any, address: Any, offset: Any, kind: Any, space: int) -> Any:
    base = builder.inttoptr(address, ir.IntType(8).as_pointer(space))
    return builder.bitcast(builder.gep(base, [offset]), kind.as_pointer(space))


def _mark(builder: Any, instruction: Any, stream: int, streams: int) -> None:
    module = builder.module
    domain = module.add_metadata(["schuss"])
    scopes = [module.add_metadata([f"stream {number}", domain]) for number in range(streams)]
    instruction.set_metadata("alias.scope", module.add_metadata([scopes[stream]]))
    others = [scope for number, scope in enumerate(scopes) if number != stream]
    if others:
        instruction.set_metadata("noalias", module.add_metadata(others))


@dataclass
class Element:
    """Where one element (or ``lanes`` neighbours) lies: an address and an offset in bytes for every stream.

    ``align``: whether every access is to a multiple of its size.
    """

    builder: Any
    spec: Spec
    places: Sequence[tuple[Any, Any]]
    lanes: int = 1
    align: bool = False
    space: int = GENERIC

    def load(self, stream: int) -> Any:
        """What is stored."""
        pointer, size = self._pointer(stream)
        value = self.builder.load(pointer, align=size)
        _mark(self.builder, value, stream, len(self.spec.streams))
        return value

    def store(self, stream: int, value: Any) -> None:
        """Write what is to be stored."""
        pointer, size = self._pointer(stream)
        _mark(self.builder, self.builder.store(value, pointer, align=size), stream, len(self.spec.streams))

    def _pointer(self, stream: int) -> tuple[Any, int]:
        storage = self.spec.streams[stream].storage
        kind = storage.llvm_type() if self.lanes == 1 else ir.VectorType(storage.llvm_type(), self.lanes)
        size = self.lanes * storage.itemsize if self.align else 1
        return _pointer(self.builder, *self.places[stream], kind, self.space), size


def load_element(element: Element, riders: Sequence[Any]) -> list[Any]:
    """Parameter, gradient (scaled, limited) and states, in the compute type."""
    builder, spec = element.builder, element.spec
    values = [
        stream.storage.widen(builder, element.load(number), spec.compute) if stream.reads else None
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
    if spec.master == "remainder":
        high, low = conversions.split(builder, parameter)
        element.store(PARAMETER, high)
        element.store(spec.number("master"), low)
    else:
        element.store(PARAMETER, _stored(element, PARAMETER, parameter, draw))
        if spec.master:
            element.store(spec.number("master"), parameter)
    for number, state in enumerate(states, FIRST_STATE):
        element.store(number, _stored(element, number, state, draw))
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


def _stored(element: Element, stream: int, value: Any, draw: Draw | None) -> Any:
    storage, spec = element.spec.streams[stream].storage, element.spec
    if draw is not None and stream in spec.at_random:
        return storage.narrow(element.builder, value, spec.compute, draw(stream))
    return storage.narrow(element.builder, value, spec.compute)


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

    The element's number in the tensor and the tensor's key, hashed: the same for any thread count and chunking.
    """

    def __init__(self, element: Element, key: Any, index: Any) -> None:
        self._builder, self._spec = element.builder, element.spec
        first = element.builder.trunc(index, ir.IntType(32))
        if element.lanes > 1:
            kind = ir.VectorType(ir.IntType(32), element.lanes)
            first = element.builder.add(_spread(element.builder, first, kind(None)), kind(list(range(element.lanes))))
            key = _spread(element.builder, key, first)
        product = element.builder.mul(first, conversions.i32(first, INDEX_FACTOR))
        self._words = [mixed(element.builder, element.builder.xor(product, key))]

    def __call__(self, stream: int) -> Any:
        """16 random bits, in 32."""
        builder = self._builder
        place = self._spec.at_random.index(stream)
        while len(self._words) <= place // 2:
            last = self._words[-1]
            self._words.append(mixed(builder, builder.add(last, conversions.i32(last, INDEX_FACTOR))))
        word = self._words[place // 2]
        if place % 2:
            return builder.lshr(word, conversions.i32(word, 16))
        return builder.and_(word, conversions.i32(word, 0xFFFF))


def store_double(builder: Any, address: Any, index: Any, value: Any) -> None:
    """Write a float64 to the table at ``address``."""
    table = builder.inttoptr(address, ir.DoubleType().as_pointer())
    builder.store(value, builder.gep(table, [index]), align=8)


def squares(builder: Any, storage: Storage, address: Any, count: Any) -> tuple[Any, Any]:
    """The sum of the squares of ``count`` dense gradients in float64, and 0.0, or NaN where one is not finite.

    Element ``i`` goes to sum ``i % LANES``; the sums are then added up in halves.
    """
    whole = builder.sdiv(count, INT64(LANES))
    size = INT64(storage.itemsize)
    kind = ir.VectorType(ir.DoubleType(), LANES)
    total = cgutils.alloca_once_value(builder, ir.Constant(kind, [0.0] * LANES))
    odd = cgutils.alloca_once_value(builder, ir.Constant(kind, [0.0] * LANES))

    def add(value: Any, into: Any, lane: Any = None) -> None:
        before = builder.load(into)
        if lane is None:
            builder.store(builder.fadd(before, value), into)
        else:
            sum_ = builder.fadd(builder.extract_element(before, lane), value)
            builder.store(builder.insert_element(before, sum_, lane), into)

    def take(offset: Any, lanes: int, lane: Any = None) -> None:
        stored = storage.llvm_type() if lanes == 1 else ir.VectorType(storage.llvm_type(), lanes)
        value = builder.load(_pointer(builder, address, offset, stored, GENERIC), align=1)
        value = storage.widen(builder, value, np.dtype(np.float64))
        add(builder.fmul(value, value), total, lane)
        if storage.itemsize == 8:  # squares of smaller numbers never overflow
            add(builder.fsub(value, value), odd, lane)

    with cgutils.for_range(builder, whole) as loop:
        take(builder.mul(builder.mul(loop.index, INT64(LANES)), size), LANES)
    done = builder.mul(whole, INT64(LANES))
    with cgutils.for_range(builder, builder.sub(count, done)) as loop:
        take(builder.mul(builder.add(done, loop.index), size), 1, loop.index)
    squares_ = fold(builder, builder.load(total))
    rest = fold(builder, builder.load(odd)) if storage.itemsize == 8 else builder.fsub(squares_, squares_)
    return squares_, rest


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
    pointer = _pointer(builder, address, INT64(index * compute.itemsize), kind, space)
    return builder.load(pointer, align=compute.itemsize)
