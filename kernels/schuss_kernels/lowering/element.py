"""One element (or a vector of neighbours) in LLVM: load it from every stream, store it, and what the riders do to it.

A *stream* is one of the arrays that a kernel uses: see :attr:`.Spec.streams`. Streams never overlap (the API refuses
overlapping arrays before a launch). Saying so to LLVM saves its run-time overlap checks, whose number grows with the
square of the streams, and the second, scalar loop behind them.

The numpy form of the riders is in :mod:`.plan.riders`: the same arithmetic, and the same bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from ..plan.spec import Spec
from ..storage.dtypes import CODES, F32
from . import conversions
from .llvm import GENERIC, INT64, pointer_to, set_alias_scope, stored_type
from .random_bits import Draw

PARAMETER, GRADIENT, FIRST_STATE = range(3)
"""Numbers of streams."""


@dataclass
class QuantBlock:
    """The quantization block that an element is in.

    ``scales``: of every quantized state, an LLVM float32. ``collect(builder, number, value)``: takes the new value of
    the ``number``-th quantized state, in float32; it is stored when the block's new scale is known.
    """

    scales: Sequence[Any]
    collect: Callable[[Any, int, Any], None]


@dataclass
class Element:
    """Where one element (or ``lanes`` neighbours) lies: for every stream an address and an offset in bytes.

    ``aligned``: whether every access is to a multiple of its size. ``block``: for kernels with quantized states.
    ``exists``: an LLVM boolean; where it is false, zeros are loaded and nothing is stored. None: the element exists.
    """

    builder: Any
    spec: Spec
    places: Sequence[tuple[Any, Any]]
    lanes: int = 1
    aligned: bool = False
    space: int = GENERIC
    block: QuantBlock | None = None
    exists: Any = None

    def load(self, stream: int) -> Any:
        """Load what a stream has stored."""
        if self.exists is None:
            return self._load(stream)
        before = self.builder.basic_block
        with self.builder.if_then(self.exists):
            value, inside = self._load(stream), self.builder.basic_block
        loaded = self.builder.phi(value.type)
        loaded.add_incoming(ir.Constant(value.type, None), before)
        loaded.add_incoming(value, inside)
        return loaded

    def store(self, stream: int, value: Any) -> None:
        """Store a value, which has the stream's type already."""
        with contextlib.nullcontext() if self.exists is None else self.builder.if_then(self.exists):
            pointer, size = self._pointer(stream)
            instruction = self.builder.store(value, pointer, align=size)
            set_alias_scope(self.builder, instruction, stream, len(self.spec.streams))

    def _load(self, stream: int) -> Any:
        pointer, size = self._pointer(stream)
        value = self.builder.load(pointer, align=size)
        set_alias_scope(self.builder, value, stream, len(self.spec.streams))
        return value

    def _pointer(self, stream: int) -> tuple[Any, int]:
        """The stream's pointer to the element, and the alignment of an access."""
        storage = self.spec.streams[stream].storage
        size = self.lanes * storage.itemsize if self.aligned else 1
        type_ = stored_type(storage, self.lanes)
        return pointer_to(self.builder, *self.places[stream], type_, self.space), size


def load_element(element: Element, riders: Any) -> list[Any]:
    """Load the parameter, the gradient (scaled, clipped) and the states, in the compute type.

    ``riders``: a :class:`.Riders` of LLVM values.
    """
    builder, spec = element.builder, element.spec
    values = [
        _computed(element, number) if stream.reads else None
        for number, stream in enumerate(spec.streams[: FIRST_STATE + len(spec.states)])
    ]
    if spec.master == "float32":
        values[PARAMETER] = element.load(spec.stream_index("master"))
    elif spec.master:
        values[PARAMETER] = conversions.joined(
            builder, element.load(PARAMETER), element.load(spec.stream_index("master"))
        )

    def scaled(gradient: Any) -> Any:
        gradient = builder.fmul(gradient, riders.scale)
        if spec.clip:
            high = riders.clip
            low = builder.fsub(high.type(-0.0), high)  # NVVM has no fneg
            gradient = builder.select(builder.fcmp_ordered(">", gradient, high), high, gradient)  # a NaN is neither
            gradient = builder.select(builder.fcmp_ordered("<", gradient, low), low, gradient)
        return gradient

    values[GRADIENT] = _lane_by_lane(builder, scaled, values[GRADIENT])
    return values


def store_element(element: Element, values: Sequence[Any], riders: Any, draw: Draw | None) -> None:
    """Store the new parameter and states, and do what the riders ask for.

    ``values``: parameter, then states. ``riders``: a :class:`.Riders` of LLVM values. ``draw``: the element's random
    bits, None where nothing is rounded stochastically.
    """
    builder, spec = element.builder, element.spec
    parameter, states = values[0], values[1:]
    if spec.lookahead:
        number = spec.stream_index("slow")

        def synced(slow: Any, value: Any) -> Any:
            return builder.fadd(slow, builder.fmul(riders.slow_step, builder.fsub(value, slow)))

        parameter = _lane_by_lane(builder, synced, element.load(number), parameter)
        element.store(number, parameter)
    if spec.master == "remainder":
        high, low = conversions.split(builder, parameter)
        element.store(PARAMETER, high)
        element.store(spec.stream_index("master"), low)
    else:
        element.store(PARAMETER, _stored(element, PARAMETER, parameter, draw))
        if spec.master:
            element.store(spec.stream_index("master"), parameter)
    for number, state in enumerate(states):
        if element.block is not None and spec.states[number].is_quantized:
            single = conversions.narrow(builder, state, F32, spec.compute)
            element.block.collect(builder, spec.quantized_states.index(number), single)
        else:
            element.store(FIRST_STATE + number, _stored(element, FIRST_STATE + number, state, draw))
    if spec.zero:
        element.store(GRADIENT, ir.Constant(stored_type(spec.gradient, element.lanes), None))
    if spec.ema:
        number = spec.stream_index("ema")

        def averaged(mean: Any, value: Any) -> Any:
            return builder.fadd(builder.fmul(riders.ema_keep, mean), builder.fmul(riders.ema_add, value))

        element.store(number, _lane_by_lane(builder, averaged, element.load(number), parameter))
    if spec.copy is not None:
        element.store(spec.stream_index("copy"), conversions.narrow(builder, parameter, spec.copy, spec.compute))


def _computed(element: Element, stream: int) -> Any:
    """Load a stream's value, in the compute type."""
    storage, spec, builder = element.spec.streams[stream].storage, element.spec, element.builder
    if element.block is None or not storage.is_quantized:
        return conversions.widen(builder, element.load(stream), storage, spec.compute)
    scale = element.block.scales[spec.quantized_states.index(stream - FIRST_STATE)]
    value = conversions.from_code(builder, element.load(stream), storage is CODES, scale)
    return conversions.widen(builder, value, F32, spec.compute)


def _stored(element: Element, stream: int, value: Any, draw: Draw | None) -> Any:
    """Round a value in the compute type to what the stream stores."""
    storage, spec = element.spec.streams[stream].storage, element.spec
    bits = draw(stream) if draw is not None and stream in spec.stochastic_streams else None
    return conversions.narrow(element.builder, value, storage, spec.compute, bits)


def _lane_by_lane(builder: Any, function: Callable[..., Any], *values: Any) -> Any:
    """Apply a function of scalars to every lane of the values.

    Not a function of vectors with the riders' numbers spread over them: NVVM would then split vector loads.
    """
    if not isinstance(values[0].type, ir.VectorType):
        return function(*values)
    result = values[0]
    for lane in range(values[0].type.count):
        at = INT64(lane)
        new = function(*(builder.extract_element(value, at) for value in values))
        result = builder.insert_element(result, new, at)
    return result
