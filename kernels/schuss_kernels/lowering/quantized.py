"""Blocks of 8-bit codes in LLVM: load and store scales and codes."""

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
from .llvm import GENERIC, INT64, mark, pointer_to
from .random_bits import Draw


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
