"""The engines of the backend ``"numba"`` on the CPU, whose kernels are compiled when they are first used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..engine import thread_count
from ..engine.extension import ExtensionEngine, is_usable
from ..engine.host import HostEngine
from ..lang.rule import Rule
from ..plan.chunk_table import KERNEL, MEASURE, SQUARES
from ..plan.spec import GradSquares, Spec
from ..plan.tensor import Tensor
from ..storage.memory import address_field, address_of
from . import launcher
from .compile import grad_squares_kernel, kernel


class _NumbaKernels:
    """Where kernels come from: numba compiles them."""

    name = "numba"

    def kernel(self, rule: Rule, spec: Spec) -> int:
        return kernel(rule, spec)

    def grad_squares_kernel(self, wanted: GradSquares) -> int:
        return grad_squares_kernel(wanted)


class CpuEngine(_NumbaKernels, ExtensionEngine):
    """Run numba's kernels with the C extension."""


class PrangeEngine(_NumbaKernels, HostEngine):
    """Run numba's kernels with numba's own threads, where there is no C extension."""

    def on_ready(self) -> None:
        rows, spans = self.plan.rows, self.plan.spans
        self._table = int(rows.ctypes.data), rows.strides[0] if rows.size else 0, len(rows)
        self._spans = int(spans.ctypes.data), len(spans) - 1
        self._spare_clock = np.zeros(1, np.int64)  # for launches that make no step
        self._clocks = int(self.clock.ctypes.data), int(self._spare_clock.ctypes.data)
        self._written = [(m.array, address_field(m.array), m.address, m.shape) for m in self.written]
        self._expected = [(t.gradient_dtype, t.parameter.shape, t.gradient_strides) for t in self.tensors]

    def try_step(self, gradients: list[Any]) -> bool:
        held = list(gradients)  # for the length of the launch: others may change the caller's list
        if not self.try_set_gradients(held):
            return False
        self.launch()
        return True

    def try_set_gradients(self, gradients: list[Any]) -> bool:
        for array, address, address_before, shape_before in self._written:
            if address.value != address_before or array.shape != shape_before or not array.flags.writeable:
                return False
        addresses = self._addresses(gradients)
        if addresses is None:
            return False
        moved = np.flatnonzero(addresses != self.gradients)
        if len(moved):
            if self.zero or self.gradient_table.overlaps_parameters(addresses[moved], moved):
                return False  # gradients that are set to zero must not share memory with each other either
            self.gradients[:] = addresses
            self._write_gradients()
        return True

    def _addresses(self, gradients: list[Any]) -> np.ndarray | None:
        """Return where gradients lie, 0 for those that are None: int64 (tensors).

        None if one has not the dtype and layout of the step before, or cannot be taken without a closer look.
        """
        if len(gradients) != len(self._expected):
            return None
        found = []
        for gradient, expected, before in zip(gradients, self._expected, self.gradients.tolist(), strict=True):
            if gradient is None or before == 0:
                if gradient is not None or before != 0:
                    return None
                found.append(0)
                continue
            if type(gradient) is not np.ndarray or (gradient.dtype, gradient.shape, gradient.strides) != expected:
                return None
            address = address_of(gradient)
            if address % gradient.dtype.itemsize or (self.zero and not gradient.flags.writeable):
                return None
            found.append(address)
        return np.array(found, np.int64)

    def launch(self) -> None:
        self._run(KERNEL, self._clocks[0])

    def add_grad_squares(self) -> None:
        self._run(SQUARES, self._clocks[1])

    def add_measures(self) -> None:
        self._run(MEASURE, self._clocks[1])

    def _run(self, column: int, clock: int) -> None:
        threads = self.workers if self.threads else thread_count.at_most_torch(self.workers)
        launcher.run(*self._table, *self._spans, threads, clock, column)


def make_engine(tensors: Sequence[Tensor], clock: np.ndarray, threads: int | None, strict: bool) -> HostEngine:
    """Return an engine with numba's kernels, and the C extension's launcher if it was built."""
    return (CpuEngine if is_usable() else PrangeEngine)(tensors, clock, threads)
