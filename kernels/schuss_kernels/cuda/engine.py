"""The CUDA engine: the same plan on the device, one grid for each distinct kernel in it, on the caller's stream.

Importing this module imports neither numba nor numba-cuda; :func:`available` tells whether the rest of it can be used.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine.plan_engine import PlanEngine
from ..lang.rule import Rule
from ..plan.chunk_table import COUNT, KERNEL, LAYOUT, MEASURE, MEASURED, SQUARES, SUMS
from ..plan.reduce import LANES
from ..plan.spec import GradSquares, Spec
from ..plan.tensor import Tensor
from ..storage.memory import Memory
from .memory import _LEGACY_DEFAULT, stream_handle


def available() -> str | None:
    """Return None where CUDA kernels can run; else a sentence that says why not, and what to do about it."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed; get it with: pip install 'schuss[cuda]'"
    try:
        from . import device as cuda_device
    except ImportError as error:
        return f"numba-cuda cannot be imported ({error}); get what it needs with: pip install 'schuss[cuda]'"
    return cuda_device.unusable()


class _Table:
    """An array on the device that is written anew while launches that read it may still be queued.

    The stream's order keeps a copy behind the launches before it. The host buffer that it copies from must not change
    until it is done: it is one of a ring of pinned buffers, each with an event that says when it is free again.
    """

    def __init__(self, device: Any, shape: tuple[int, ...], dtype: Any) -> None:
        self._device = device
        self._array = device.empty(shape, dtype)
        self._ring = [(device.staging(shape, dtype), device.event()) for _ in range(4)]
        self.address = device.address(self._array)

    def write(self, values: np.ndarray, stream: Any) -> None:
        """Queue a copy of the values on the stream."""
        buffer, free = self._ring[0]
        self._ring = [*self._ring[1:], self._ring[0]]
        free.synchronize()
        buffer[...] = values
        self._device.copy(self._array, buffer, stream)
        free.record(stream)


@dataclass
class _Run:
    """Neighbouring rows of one kernel, for one grid: ``count`` rows from ``first`` on, each of at most ``slices``."""

    kernel: int
    first: int
    count: int
    slices: int


class CudaEngine(PlanEngine):
    """Runs the plan on a CUDA device, with all tables in its memory.

    Parameters
    ----------
    tensors
        What to step; parameters, states and gradients in the memory of the current device.
    stream
        The stream of the launches, None for the default stream: a handle, or a stream of torch, CuPy, numba or
        cuda.core. ``engine.stream`` can be set before every step. Gradients must be ready in the order of this stream,
        or say themselves (``__cuda_array_interface__`` version 3) which stream to wait for; whoever reads the
        parameters on another stream waits for this one.

    Raises
    ------
    ValueError
        When a parameter is read-only.
    """

    name = "cuda"
    lasting = PlanEngine.lasting | {"_await"}

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None, stream: Any = None) -> None:
        for tensor in tensors:
            if getattr(tensor.parameter, "read_only", False):
                raise ValueError(f"parameter {tensor.name!r} is read-only; it is updated in place and must be writable")
        self.stream = stream
        self.device = self.open_device()
        self._numbers: dict[str, int] = {}
        self._launches: list[Any] = [None]  # a kernel's number is never 0: that says that there is none
        self._scalars: dict[np.dtype, _Table] = {}
        self._await = _producers([tensor.parameter for tensor in tensors])
        super().__init__(tensors, clock)

    def open_device(self) -> Any:
        """Return the device to work on."""
        from . import device as cuda_device

        return cuda_device.current()

    def kernel(self, rule: Rule, spec: Spec) -> int:
        return self._numbered(str(spec), lambda: self.device.kernel(rule, spec))

    def grad_squares_kernel(self, wanted: GradSquares) -> int:
        return self._numbered(wanted.form, lambda: self.device.grad_squares_kernel(wanted))

    def _numbered(self, text: str, load: Callable[[], Any]) -> int:
        """Return the number of the kernel that ``text`` names; it is loaded on first use."""
        if text not in self._numbers:
            self._launches.append(load())
            self._numbers[text] = len(self._launches) - 1
        return self._numbers[text]

    def scalars_address(self, slot: int, dtype: np.dtype) -> int:
        if dtype not in self._scalars:
            self._scalars[dtype] = _Table(self.device, self.scalars.arrays[dtype].shape, dtype)
        return self._scalars[dtype].address + self.scalars.offset(slot, dtype)

    def on_plan_built(self) -> None:
        rows, layouts, sums = self.plan.rows, self.plan.layouts, self.plan.sums
        self._layouts = _Table(self.device, (max(1, layouts.size),), np.int64)
        self._layouts_sent = False
        rows[rows[:, LAYOUT] != 0, LAYOUT] += self._layouts.address - layouts.ctypes.data
        if self.needs_grad_norm:
            # For every reduction block and lane: the sum, and 0.0, or NaN where a gradient is not finite.
            self._sums = _Table(self.device, (max(1, len(sums)), LANES, 2), np.float64)
            first = (rows[:, SUMS] - sums.ctypes.data) // sums.strides[0]
            rows[:, SUMS] = self._sums.address + first * (LANES * 2 * 8)
        measured = self.plan.measured
        if len(measured):  # by lane as well
            self._measured = _Table(self.device, (len(measured) * LANES,), np.float64)
            first = (rows[:, MEASURED] - measured.ctypes.data) // 8
            rows[:, MEASURED] = self._measured.address + first * (LANES * 8)
        self.on_kernels_switched()
        self._rows = _Table(self.device, (max(1, len(rows)), rows.shape[1]), np.int64)
        self._sent = np.zeros(0, np.int64)

    def on_kernels_switched(self) -> None:
        rows = self.plan.rows
        self._order = np.argsort(rows[:, KERNEL], kind="stable")
        self._runs = {column: self._cut(rows[self._order], column) for column in (KERNEL, SQUARES, MEASURE)}

    def _cut(self, rows: np.ndarray, column: int) -> list[_Run]:
        kernels, counts = rows[:, column], rows[:, COUNT]
        ends = [*np.flatnonzero(np.diff(kernels)) + 1, len(rows)] if len(rows) else []
        return [
            _Run(
                int(kernels[first]), int(first), int(end - first), int(-(-counts[first:end].max() // self.device.slice))
            )
            for first, end in zip([0, *ends], ends, strict=False)
        ]

    def set_gradients(self, gradients: Sequence[Memory | None]) -> None:
        self._await |= _producers(gradients)
        super().set_gradients(gradients)

    def launch(self) -> None:
        self._launch(KERNEL)
        self.clock[0] += 1

    def add_grad_squares(self) -> None:
        if not self._runs[SQUARES]:
            return
        lanes = np.zeros((max(1, len(self.plan.sums)), LANES, 2))
        stream = self.device.stream(stream_handle(self.stream))
        self._sums.write(lanes, stream)  # tensors without a gradient add nothing
        self._launch(SQUARES)
        found = self.device.read(self._sums.address, lanes.nbytes).view(np.float64).reshape(lanes.shape)
        self.plan.sums[:] = _folded(found[: len(self.plan.sums)])

    def add_measures(self) -> None:
        size = len(self.plan.measured)
        if not size:
            return
        stream = self.device.stream(stream_handle(self.stream))
        self._measured.write(np.zeros(size * LANES), stream)  # tensors without a gradient add nothing
        self._launch(MEASURE)
        found = self.device.read(self._measured.address, size * LANES * 8).view(np.float64)
        ends = self.plan.first_sum.tolist()
        for tensor, first, end in zip(self.tensors, ends, ends[1:], strict=False):
            if end > first:
                count = len(tensor.rule.Sums._fields)
                lanes = found[first * LANES : end * LANES].reshape(-1, LANES, count)
                self.plan.measured[first:end] = _folded(lanes).reshape(-1)

    def _launch(self, column: int) -> None:
        if not self._runs[column]:
            return
        handle = stream_handle(self.stream)
        stream = self.device.stream(handle)
        self.device.follow(stream, self._await - {handle or _LEGACY_DEFAULT})
        self._await = set()
        self._send(stream)
        width = self.plan.rows.strides[0]
        for run in self._runs[column]:
            if column == MEASURE and not run.kernel:
                continue  # the rule has no measure
            grid = (min(run.count, self.device.max_blocks), run.slices)
            self._launches[run.kernel](grid, stream, self._rows.address + run.first * width, width, run.count)

    def _send(self, stream: Any) -> None:
        for dtype, table in self._scalars.items():
            table.write(self.scalars.arrays[dtype], stream)
        rows = self.plan.rows[self._order]
        if not np.array_equal(rows, self._sent):  # gradients mostly stay where they are
            self._rows.write(rows, stream)
            self._sent = rows
        if not self._layouts_sent and self.plan.layouts.size:
            self._layouts.write(self.plan.layouts, stream)
        self._layouts_sent = True


def _producers(memories: Sequence[Memory | None]) -> set[int]:
    """Return handles of the streams that the owners of arrays say must be waited for."""
    streams = (getattr(memory, "stream", None) for memory in memories)
    return {stream or _LEGACY_DEFAULT for stream in streams if stream is not None}


def _folded(lanes: np.ndarray) -> np.ndarray:
    """Add up lanes (axis 1): the second half to the first, until one is left."""
    while lanes.shape[1] > 1:
        middle = lanes.shape[1] // 2
        lanes = lanes[:, :middle] + lanes[:, middle:]
    return lanes[:, 0]


def make_engine(tensors: Sequence[Tensor], clock: np.ndarray, threads: int | None, strict: bool) -> CudaEngine:
    """Return the CUDA engine, which has its own number of threads."""
    return CudaEngine(tensors, clock)
