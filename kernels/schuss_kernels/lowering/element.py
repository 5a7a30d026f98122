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

from ..lang.scalar_math import GUESS_FACTOR, GUESS_FROM
from ..plan.spec import Spec
from ..storage.dtypes import CODES, F32
from . import conversions
from .llvm import GENERIC, INT64, mark, pointer_to, stored_type
from .random_bits import Draw

PARAMETER, GRADIENT, FIRST_STATE = range(3)


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
        size = self.lanes * storage.itemsize if self.align else 1
        type_ = stored_type(storage, self.lanes)
        return pointer_to(self.builder, *self.places[stream], type_, self.space), size


def load_element(element: Element, riders: Any) -> list[Any]:
    """Load the parameter, the gradient (scaled, clipped) and the states, in the compute type.

    ``riders``: a :class:`.Riders` of LLVM values.
    """
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
        gradient = builder.fmul(gradient, riders.scale)
        if spec.clip:
            most = riders.clip
            least = builder.fsub(most.type(-0.0), most)  # NVVM has no fneg
            gradient = builder.select(builder.fcmp_ordered(">", gradient, most), most, gradient)  # a NaN is neither
            gradient = builder.select(builder.fcmp_ordered("<", gradient, least), least, gradient)
        return gradient

    values[GRADIENT] = _each(builder, taken, values[GRADIENT])
    return values


def store_element(element: Element, values: Sequence[Any], riders: Any, draw: Draw | None) -> None:
    """Store the new parameter and states, and do what the riders ask for.

    ``values``: parameter, then states. ``riders``: a :class:`.Riders` of LLVM values. ``draw``: the element's random
    bits, None where nothing is rounded stochastically.
    """
    builder, spec = element.builder, element.spec
    parameter, states = values[0], values[1:]
    if spec.lookahead:
        number = spec.number("slow")

        def met(slow: Any, value: Any) -> Any:
            return builder.fadd(slow, builder.fmul(riders.slow_step, builder.fsub(value, slow)))

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
            single = conversions.narrow(builder, state, F32, spec.compute)
            element.block.keep(builder, spec.in_blocks.index(number), single)
        else:
            element.store(FIRST_STATE + number, _stored(element, FIRST_STATE + number, state, draw))
    if spec.zero:
        element.store(GRADIENT, ir.Constant(stored_type(spec.gradient, element.lanes), None))
    if spec.ema:
        number = spec.number("ema")

        def moved(mean: Any, value: Any) -> Any:
            return builder.fadd(builder.fmul(riders.ema_keep, mean), builder.fmul(riders.ema_add, value))

        element.store(number, _each(builder, moved, element.load(number), parameter))
    if spec.copy is not None:
        element.store(spec.number("copy"), conversions.narrow(builder, parameter, spec.copy, spec.compute))


def _widened(element: Element, stream: int) -> Any:
    """What is stored, in the compute type."""
    storage, spec, builder = element.spec.streams[stream].storage, element.spec, element.builder
    if element.block is None or not storage.in_blocks:
        return conversions.widen(builder, element.load(stream), storage, spec.compute)
    scale = element.block.scales[spec.in_blocks.index(stream - FIRST_STATE)]
    value = conversions.from_code(builder, element.load(stream), storage is CODES, scale)
    return conversions.widen(builder, value, F32, spec.compute)


def _stored(element: Element, stream: int, value: Any, draw: Draw | None) -> Any:
    storage, spec = element.spec.streams[stream].storage, element.spec
    bits = draw(stream) if draw is not None and stream in spec.at_random else None
    return conversions.narrow(element.builder, value, storage, spec.compute, bits)


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


def first_guess(builder: Any, x: Any) -> Any:
    """:func:`.elementary.first_guess`."""
    single, word = ir.FloatType(), ir.IntType(32)
    logarithm = builder.sitofp(builder.bitcast(x, word), single)
    factor, start = (ir.Constant(single, float(np.float32(number))) for number in (GUESS_FACTOR, GUESS_FROM))
    guess = builder.fadd(builder.fmul(logarithm, factor), start)
    return builder.bitcast(builder.fptosi(guess, word), single)
