"""The engines of the backend ``"numba"`` on the CPU, whose kernels are compiled when they are first used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..engine.extension import ExtensionEngine, is_usable
from ..engine.host import HostEngine
from ..lang.rule import Rule
from ..plan.chunk_table import KERNEL, MEASURE, SQUARES
from ..plan.spec import GradSquares, Spec
from ..plan.tensor import Tensor
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

    def launch(self) -> None:
        self._run(KERNEL, self.clock)

    def add_grad_squares(self) -> None:
        self._run(SQUARES, self._spare_clock)

    def add_measures(self) -> None:
        self._run(MEASURE, self._spare_clock)

    def _run(self, column: int, clock: np.ndarray) -> None:
        launcher.run(*self._table, *self._spans, self.workers, int(clock.ctypes.data), column)


def make_engine(tensors: Sequence[Tensor], clock: np.ndarray, threads: int | None, strict: bool) -> HostEngine:
    """Return an engine with numba's kernels, and the C extension's launcher if it was built."""
    return (CpuEngine if is_usable() else PrangeEngine)(tensors, clock, threads)
