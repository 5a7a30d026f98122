"""The words a CUDA kernel is written in, as Python on host addresses: for numba's simulator.

The same words as in :mod:`.cuda_words`, with what a device would punish (an access that is not aligned) checked.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from . import rounding
from .engine import CLIP, EMA_ADD, EMA_KEEP, KEY_HIGH, KEY_LOW, RIDERS, SCALE
from .plan import STATES, TENSOR
from .reference import scalar_update
from .rule import Rule
from .storage import Spec, Squares


class Words:
    """The words for one rule and its storages. ``lanes`` is the number of elements in a 16-byte access."""

    def __init__(self, rule: Rule, spec: Spec) -> None:
        self._rule, self._spec, self._compute = rule, spec, spec.compute
        self._dtypes = [stream.storage.dtype for stream in spec.streams]
        self._update = scalar_update(rule, spec.compute.type)
        self.lanes = 16 // max(dtype.itemsize for dtype in self._dtypes)

    def table(self, address: int, index: int) -> int:
        return ctypes.c_int64.from_address(int(address) + 8 * int(index)).value

    def addresses(self, row: int) -> tuple[int, ...]:
        return tuple(self.table(row, STATES + number) for number in range(len(self._dtypes) - 2))

    def rider_numbers(self, address: int) -> Any:
        return tuple(_memory(address, self._compute, RIDERS))

    def rule_scalars(self, address: int) -> Any:
        values = _memory(address, self._compute, RIDERS + len(self._rule.Scalars._fields))
        return self._rule.Scalars(*values[RIDERS:])

    def row_key(self, riders: Any, row: int) -> Any:
        """The halves of the step's key, and the tensor."""
        return int(riders[KEY_HIGH]), int(riders[KEY_LOW]), self.table(row, TENSOR)

    def misaligned(self, parameter: int, gradient: int, others: tuple[int, ...]) -> int:
        pairs = zip((parameter, gradient, *others), self._dtypes, strict=True)
        return sum(address % (self.lanes * dtype.itemsize) for address, dtype in pairs)

    def move_one(self, *arguments: Any) -> None:
        self._move(1, *arguments)

    def move_lanes(self, *arguments: Any) -> None:
        self._move(self.lanes, *arguments)

    def _move(
        self,
        width: int,
        parameter: int,
        gradient: int,
        others: tuple[int, ...],
        index: int,
        riders: Any,
        h: Any,
        key: Any,
        place: int,
    ) -> None:
        spec, number = self._spec, self._compute.type
        sizes = [dtype.itemsize for dtype in self._dtypes[2:]]
        here = [parameter, gradient, *(base + index * size for base, size in zip(others, sizes, strict=True))]
        for address, dtype in zip(here, self._dtypes, strict=True):
            if address % (width * dtype.itemsize):
                raise ValueError(f"an access of {width} x {dtype} at {address:#x} is not aligned")
        streams = [_memory(address, dtype, width) for address, dtype in zip(here, self._dtypes, strict=True)]
        named = {stream.name: array for stream, array in zip(spec.streams, streams, strict=True)}
        for lane in range(width):
            one = [array[lane : lane + 1] for array in streams]
            draws = (
                rounding.draws(key[:2], key[2], int(place) + lane + 1, len(spec.at_random)) if spec.at_random else []
            )
            last = {stream: draw[-1:] for stream, draw in zip(spec.at_random, draws, strict=True)}
            with np.errstate(all="ignore"):
                p = one[0].astype(self._compute)[0]
                if spec.master == "float32":
                    p = named["master"][lane]
                elif spec.master:
                    p = rounding.joined(one[0].view(np.uint16), named["master"][lane : lane + 1])[0]
                g = number(one[1].astype(self._compute)[0]) * riders[SCALE]
                if spec.clip:
                    g = riders[CLIP] if g > riders[CLIP] else -riders[CLIP] if g < -riders[CLIP] else g
                states = [array.astype(self._compute)[0] for array in one[2 : 2 + len(spec.states)]]
                p, new = self._update(p, number(g), self._rule.State(*states), h)
                if spec.master == "remainder":
                    high, low = rounding.split(np.array([p], np.float32))
                    one[0].view(np.uint16)[:], named["master"][lane] = high, low[0]
                else:
                    self._write(one[0], p, last.get(0))
                    if spec.master:
                        named["master"][lane] = p
                for stream, value in enumerate(new, 2):
                    self._write(one[stream], value, last.get(stream))
                if spec.zero:
                    one[1][:] = 0.0
                if spec.ema:
                    mean = named["ema"]
                    mean[lane] = riders[EMA_KEEP] * mean[lane] + riders[EMA_ADD] * p
                if spec.copy is not None:
                    self._write(named["copy"][lane : lane + 1], p, None)

    @staticmethod
    def _write(array: np.ndarray, value: Any, draw: np.ndarray | None) -> None:
        values = np.array([value])
        if draw is not None:
            array[:] = rounding.rounded(values.astype(np.float32), array.dtype, draw)
        else:
            array[:] = values if array.dtype.itemsize > 2 else values.astype(np.float32)


class SquaresWords:
    """The words for adding up the squares of gradients."""

    def __init__(self, wanted: Squares) -> None:
        self._dtype = wanted.gradient.dtype

    table = Words.table

    def gradient(self, address: int) -> Any:
        return _memory(address, self._dtype, 1).astype(np.float64)[0]

    def write(self, address: int, index: int, value: float) -> None:
        _memory(int(address) + 8 * int(index), np.dtype(np.float64), 1)[0] = value


def _memory(address: int, dtype: np.dtype, count: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * (count * dtype.itemsize)).from_address(int(address))).view(dtype)
