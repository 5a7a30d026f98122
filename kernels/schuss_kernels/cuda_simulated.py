"""The words a CUDA kernel is written in, as Python on host addresses: for numba's simulator.

The same words as in :mod:`.cuda_words`, with what a device would punish (an access that is not aligned) checked.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from .reference import scalar_update
from .rule import Rule
from .storage import Spec


class Words:
    """The words for one rule and its storages. ``lanes`` is the number of elements in a 16-byte access."""

    def __init__(self, rule: Rule, spec: Spec) -> None:
        self._rule, self._count, self._compute = rule, len(spec.states), spec.compute
        self._dtypes = [storage.dtype for storage in (spec.parameter, spec.gradient, *spec.states)]
        self._update = scalar_update(rule, spec.compute.type)
        self.lanes = 16 // max(dtype.itemsize for dtype in self._dtypes)

    def table(self, address: int, index: int) -> int:
        return ctypes.c_int64.from_address(int(address) + 8 * int(index)).value

    def state_addresses(self, row: int, column: int) -> tuple[int, ...]:
        return tuple(self.table(row, column + number) for number in range(self._count))

    def gradient_scale(self, address: int) -> Any:
        return _memory(address, self._compute, 1)[0]

    def rule_scalars(self, address: int) -> Any:
        values = _memory(address, self._compute, 1 + len(self._rule.Scalars._fields))
        return self._rule.Scalars(*values[1:])

    def misaligned(self, parameter: int, gradient: int, states: tuple[int, ...]) -> int:
        addresses = (parameter, gradient, *states)
        pairs = zip(addresses, self._dtypes, strict=True)
        return sum(address % (self.lanes * dtype.itemsize) for address, dtype in pairs)

    def move_one(self, parameter: int, gradient: int, states: tuple[int, ...], index: int, scale: Any, h: Any) -> None:
        self._move(1, parameter, gradient, states, index, scale, h)

    def move_lanes(
        self, parameter: int, gradient: int, states: tuple[int, ...], index: int, scale: Any, h: Any
    ) -> None:
        self._move(self.lanes, parameter, gradient, states, index, scale, h)

    def _move(
        self, width: int, parameter: int, gradient: int, states: tuple[int, ...], index: int, scale: Any, h: Any
    ) -> None:
        sizes = [dtype.itemsize for dtype in self._dtypes[2:]]
        here = [parameter, gradient, *(base + index * size for base, size in zip(states, sizes, strict=True))]
        for address, dtype in zip(here, self._dtypes, strict=True):
            if address % (width * dtype.itemsize):
                raise ValueError(f"an access of {width} x {dtype} at {address:#x} is not aligned")
        p, g, *s = (_memory(address, dtype, width) for address, dtype in zip(here, self._dtypes, strict=True))
        number = self._compute.type
        for lane in range(width):
            with np.errstate(all="ignore"):
                state = self._rule.State(*(number(array[lane]) for array in s))
                p[lane], new = self._update(number(p[lane]), number(g[lane]) * scale, state, h)
            for array, value in zip(s, new, strict=True):
                array[lane] = value


def _memory(address: int, dtype: np.dtype, count: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * (count * dtype.itemsize)).from_address(int(address))).view(dtype)
