"""Quantized states in LLVM: load and store the scales and codes of quantization blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from ..plan.spec import Spec
from ..storage import quantization
from ..storage.dtypes import CODES
from . import conversions
from .element import FIRST_STATE, Element
from .llvm import GENERIC, INT64, pointer_to, set_alias_scope
from .random_bits import Draw


def load_scale(builder: Any, address: Any, number: Any, space: int = GENERIC) -> Any:
    """Load number ``number`` of the scales at ``address``."""
    return builder.load(_scale(builder, address, number, space), align=4)


def store_scale(builder: Any, scale: Any, address: Any, number: Any, space: int = GENERIC) -> None:
    """Store number ``number`` of the scales at ``address``."""
    builder.store(scale, _scale(builder, address, number, space), align=4)


def _scale(builder: Any, address: Any, number: Any, space: int) -> Any:
    return pointer_to(builder, address, builder.mul(number, INT64(4)), ir.FloatType(), space)


def larger_magnitude(builder: Any, value: Any, peak: Any) -> Any:
    """Return the larger of a float32's magnitude and ``peak``, both as bits in an int32: so a NaN is the largest."""
    size = builder.and_(conversions.bits(builder, value), ir.IntType(32)(quantization.MAGNITUDE_MASK))
    return builder.select(builder.icmp_signed(">", size, peak), size, peak)


def store_codes(element: Element, values: Sequence[Any], factors: Sequence[Any], draw: Draw | None) -> None:
    """Store the codes of an element's quantized states.

    ``values``: of each, in float32. ``factors``: of each, what :func:`.conversions.scale_of` returns after the scale.
    """
    builder, spec = element.builder, element.spec
    for state, value, (inverse, limit) in zip(spec.quantized_states, values, factors, strict=True):
        stream = FIRST_STATE + state
        bits = draw(stream) if draw is not None else None
        signed = spec.states[state] is CODES
        element.store(stream, conversions.to_code(builder, value, signed, inverse, limit, bits))


@dataclass
class ValueBuffer:
    """The new values of a block's quantized states, in float32, until the block's scales are known.

    A whole block of the first quantized state, then one of the second, and so on, in memory.
    """

    spec: Spec
    base: Any
    """An address, such that element ``index`` of the row is at ``base + 4 * index``."""

    def store(self, builder: Any, number: int, index: Any, value: Any) -> None:
        """Store the value of an element's ``number``-th quantized state."""
        self._set_alias_scope(builder, builder.store(value, self._pointer(builder, number, index), align=4), number)

    def load(self, builder: Any, number: int, index: Any) -> Any:
        """Load the value of an element's ``number``-th quantized state."""
        value = builder.load(self._pointer(builder, number, index), align=4)
        self._set_alias_scope(builder, value, number)
        return value

    def _pointer(self, builder: Any, number: int, index: Any) -> Any:
        offset = builder.add(builder.mul(index, INT64(4)), INT64(number * 4 * quantization.QUANT_BLOCK))
        return pointer_to(builder, self.base, offset, ir.FloatType())

    def _set_alias_scope(self, builder: Any, instruction: Any, number: int) -> None:
        streams = len(self.spec.streams)
        set_alias_scope(builder, instruction, streams + number, streams + len(self.spec.quantized_states))


def store_block(
    builder: Any,
    spec: Spec,
    buffer: ValueBuffer,
    others: Sequence[Any],
    first: Any,
    last: Any,
    draws: Callable[..., Any],
) -> None:
    """Store the codes and scales of a block, elements ``first`` to ``last`` of a row, from the values in ``buffer``.

    ``others``: the addresses of the streams after the gradient. ``draws(element, index)``: the element's
    :class:`.Draw`, or None.
    """
    i32 = ir.IntType(32)
    count, here = len(spec.quantized_states), builder.sub(last, first)
    peaks = [cgutils.alloca_once_value(builder, i32(0)) for _ in range(count)]
    with cgutils.for_range(builder, here) as loop:
        index = builder.add(first, loop.index)
        for number, peak in enumerate(peaks):
            value = buffer.load(builder, number, index)
            builder.store(larger_magnitude(builder, value, builder.load(peak)), peak)
    factors = []
    for peak, address in zip(peaks, others[spec.scales], strict=True):
        scale, *rest = conversions.scale_of(builder, builder.load(peak))
        factors.append(rest)
        store_scale(builder, scale, address, builder.sdiv(first, INT64(quantization.QUANT_BLOCK)))
    with cgutils.for_range(builder, here) as loop:
        index = builder.add(first, loop.index)
        places = [(address, index) for address in (INT64(0), INT64(0), *others)]  # only those of the codes are used
        element = Element(builder, spec, places)
        values = [buffer.load(builder, number, index) for number in range(count)]
        store_codes(element, values, factors, draws(element, index))
