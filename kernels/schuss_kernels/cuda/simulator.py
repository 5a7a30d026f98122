"""The intrinsics of CUDA kernels as Python on host addresses: for numba's simulator.

The same functions as in :mod:`.intrinsics`. What would be an error on a device, a misaligned access, raises.
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import numpy as np

from ..lang.interpret import as_python, scalar_update
from ..lang.rule import Rule
from ..plan.chunk_table import GRAD, PARAM, STATES, TENSOR
from ..plan.riders import RIDERS, Riders, load_parameter, random_bits, scaled_gradient, store, store_parameter
from ..plan.spec import GradSquares, Spec
from ..storage import quantization
from ..storage.quantization import QUANT_BLOCK
from .kernels import WARP, locator


class Intrinsics:
    """The intrinsics for one rule and spec, see :class:`.intrinsics.Intrinsics`."""

    def __init__(self, rule: Rule, spec: Spec) -> None:
        self._rule, self._spec, self._compute = rule, spec, spec.compute
        self._dtypes = [stream.storage.dtype for stream in spec.streams]
        self._update = scalar_update(rule, spec.compute.type)
        self._measure = as_python(rule.measure, spec.compute.type) if spec.measure else self._update
        self.lanes = 16 // max(dtype.itemsize for dtype in self._dtypes)
        self._locate = locator(self.load_int64) if spec.strided else self._locate_dense
        self._peaks: dict[int, np.ndarray] = {}

    @staticmethod
    def inlined(function: Any) -> Any:
        return function

    def load_int64(self, address: int, index: int) -> int:
        return ctypes.c_int64.from_address(int(address) + 8 * int(index)).value

    def addresses(self, row: int) -> tuple[int, ...]:
        return tuple(self.load_int64(row, STATES + number) for number in range(len(self._dtypes) - 2))

    def rider_numbers(self, address: int) -> Any:
        return Riders(*_memory(address, self._compute, RIDERS))

    def rule_scalars(self, address: int) -> Any:
        values = _memory(address, self._compute, RIDERS + len(self._rule.Scalars._fields))
        return self._rule.Scalars(*values[RIDERS:])

    def row_key(self, riders: Any, row: int) -> Any:
        """The two halves of the step's key, and the number of the tensor."""
        return riders.key_high, riders.key_low, self.load_int64(row, TENSOR)

    def no_sums(self) -> tuple[float, ...]:
        return (0.0,) * len(self._rule.Sums._fields)

    def add_measured(
        self, before: Any, parameter: int, gradient: int, others: tuple[int, ...], index: int, riders: Any, h: Any
    ) -> tuple[float, ...]:
        streams = self._streams(1, parameter, gradient, others, index)
        with np.errstate(all="ignore"):
            made = self._measure(*self._values(streams, streams, riders), h)
        return tuple(one + np.float64(more) for one, more in zip(before, made, strict=True))

    def store_sums(self, address: int, index: int, values: Any) -> None:
        count = len(values)
        _memory(int(address) + 8 * int(index) * count, np.dtype(np.float64), count)[:] = values

    def misaligned(self, parameter: int, gradient: int, others: tuple[int, ...]) -> int:
        pairs = zip((parameter, gradient, *others), self._dtypes, strict=True)
        return sum(address % (self.lanes * dtype.itemsize) for address, dtype in pairs)

    def update_one(self, *arguments: Any) -> None:
        self._update_elements(1, *arguments)

    def update_lanes(self, *arguments: Any) -> None:
        self._update_elements(self.lanes, *arguments)

    def _update_elements(
        self,
        width: int,
        parameter: int,
        gradient: int,
        others: tuple[int, ...],
        index: int,
        riders: Any,
        h: Any,
        key: Any,
        number: int,
    ) -> list[Any]:
        """Update ``width`` elements. Returns the new values of the quantized states; all else is stored."""
        spec, quantized = self._spec, []
        streams = self._streams(width, parameter, gradient, others, index)
        for lane in range(width):
            one = [array[lane : lane + 1] for array in streams]
            bits = self._bits(key, int(number) + lane)
            with np.errstate(all="ignore"):
                p, state = self._update(*self._values(one, streams, riders), h)
                store_parameter(self._named(one), np.array([p]), spec, riders, bits.get(0))
                for stream, value in enumerate(state, 2):
                    if spec.states[stream - 2].is_quantized:
                        quantized.append(np.float32(value))
                    else:
                        store(one[stream], np.array([value]), bits.get(stream))
        return quantized

    def _named(self, arrays: list[np.ndarray]) -> dict[str, np.ndarray]:
        pairs = zip(self._spec.streams, arrays, strict=True)
        return {stream.name: array for stream, array in pairs if stream.state is None}

    def _streams(
        self, width: int, parameter: int, gradient: int, others: tuple[int, ...], index: int
    ) -> list[np.ndarray]:
        """For every stream the ``width`` elements from ``index`` on, as an array over its memory."""
        rest = zip(others, self._spec.streams[2:], strict=True)
        here = [parameter, gradient, *(base + index // s.elements_per_entry * s.storage.itemsize for base, s in rest)]
        for address, dtype in zip(here, self._dtypes, strict=True):
            if address % (width * dtype.itemsize):
                raise ValueError(f"an access of {width} x {dtype} at {address:#x} is not aligned")
        return [_memory(address, dtype, width) for address, dtype in zip(here, self._dtypes, strict=True)]

    def _values(self, one: list[np.ndarray], streams: list[np.ndarray], riders: Any) -> tuple[Any, Any, Any]:
        """Load what a rule is given for one element: parameter, gradient (scaled, clipped) and state."""
        spec = self._spec
        p, g = load_parameter(self._named(one), spec)[0], scaled_gradient(one[1], spec, riders)[0]
        states = [self._state(state, one, streams) for state in range(len(spec.states))]
        return p, g, self._rule.State(*states)

    def _state(self, state: int, one: list[np.ndarray], streams: list[np.ndarray]) -> Any:
        values = one[2 + state]
        if self._spec.states[state].is_quantized:
            values = quantization.decode(values, self._scale(state, streams[2:]))
        return values.astype(self._compute)[0]

    def _scale(self, state: int, others: Any) -> Any:
        """From a list with an entry for each stream after the gradient pick that of a quantized state's scale."""
        return others[self._spec.scales][self._spec.quantized_states.index(state)]

    def _bits(self, key: Any, place: int) -> dict[int, np.ndarray]:
        """The random bits of the tensor's element number ``place``, by stream."""
        high, low, tensor = key
        return {stream: bits[-1:] for stream, bits in random_bits(self._spec, (high, low), tensor, place + 1).items()}

    def _locate_dense(self, row: int, index: int) -> tuple[int, int]:
        sizes = [dtype.itemsize for dtype in self._dtypes[:2]]
        return self.load_int64(row, PARAM) + index * sizes[0], self.load_int64(row, GRAD) + index * sizes[1]

    def open_block(
        self, row: int, others: tuple[int, ...], index: int, last: int, riders: Any, h: Any, key: Any, start: int
    ) -> list[Any]:
        values: list[Any] = []
        for i in range(index, last, WARP):
            parameter, gradient = self._locate(row, i)
            values += self._update_elements(1, parameter, gradient, others, i, riders, h, key, start + i)
        return values

    def block_peaks(self, values: list[Any]) -> np.ndarray:
        """Threads exchange their numbers through memory: all threads of a thread block are one warp here."""
        thread: Any = threading.current_thread()
        rows = np.array(values, np.float32).reshape(-1, len(self._spec.quantized_states))
        magnitudes = rows.view(np.int32) & quantization.MAGNITUDE_MASK
        thread.syncthreads()  # all have read the numbers of the block before
        self._peaks[thread.threadIdx.x] = magnitudes.max(axis=0, initial=0)
        thread.syncthreads()
        return np.max([self._peaks[number] for number in range(WARP)], axis=0)

    def close_block(
        self, others: tuple[int, ...], index: int, last: int, values: list[Any], peaks: np.ndarray, key: Any, start: int
    ) -> None:
        count = len(self._spec.quantized_states)
        for n, i in enumerate(range(index, last, WARP)):
            draws = self._bits(key, start + i)
            for number, state in enumerate(self._spec.quantized_states):
                # Alone with the largest of its block a value has the block's scale.
                pair = np.array([values[n * count + number], peaks[number : number + 1].view(np.float32)[0]])
                draw, dtype = draws.get(2 + state), self._dtypes[2 + state]
                codes, scales = quantization.encode(
                    pair, dtype == np.int8, None if draw is None else np.repeat(draw, 2)
                )
                _memory(others[state] + i, dtype, 1)[:] = codes[:1]
                if i % QUANT_BLOCK == 0:
                    _memory(self._scale(state, others) + i // QUANT_BLOCK * 4, scales.dtype, 1)[:] = scales


class SquaresIntrinsics:
    """The intrinsics for summing the squares of gradients, see :class:`.intrinsics.SquaresIntrinsics`."""

    def __init__(self, wanted: GradSquares) -> None:
        self._dtype = wanted.gradient.dtype

    load_int64 = Intrinsics.load_int64
    inlined = staticmethod(Intrinsics.inlined)

    def load_gradient(self, address: int) -> Any:
        return _memory(address, self._dtype, 1).astype(np.float64)[0]

    def store(self, address: int, index: int, value: float) -> None:
        _memory(int(address) + 8 * int(index), np.dtype(np.float64), 1)[0] = value


def _memory(address: int, dtype: np.dtype, count: int) -> np.ndarray:
    """The ``count`` numbers at an address, as an array over their memory."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * (count * dtype.itemsize)).from_address(int(address))).view(dtype)
