"""The engines of numba on the CPU: kernels that are compiled when they are first used."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..engine.extension import ExtensionEngine, is_usable
from ..engine.host import HostEngine
from ..lang.rule import Rule
from ..plan.chunk_table import KERNEL, MEASURE, SQUARES
from ..plan.spec import Spec, Squares
from ..plan.tensor import Tensor
from . import launcher
from .compile import kernel, squares_kernel


class _NumbaKernels:
    name = "numba"

    def kernel(self, rule: Rule, spec: Spec) -> int:
        return kernel(rule, spec)

    def squares_kernel(self, wanted: Squares) -> int:
        return squares_kernel(wanted)


class CpuEngine(_NumbaKernels, ExtensionEngine):
    """Numba's kernels, launched by the C extension."""


class PrangeEngine(_NumbaKernels, HostEngine):
    """Numba's kernels, launched by numba: where there is no C extension."""

    def on_ready(self) -> None:
        rows, spans = self.plan.rows, self.plan.spans
        self._table = int(rows.ctypes.data), rows.strides[0] if rows.size else 0, len(rows)
        self._spans = int(spans.ctypes.data), len(spans) - 1
        self._spare_clock = np.zeros(1, np.int64)  # of launches that move nothing

    def launch(self) -> None:
        self._run(KERNEL, self.clock)

    def add_squares(self) -> None:
        self._run(SQUARES, self._spare_clock)

    def add_measures(self) -> None:
        self._run(MEASURE, self._spare_clock)

    def _run(self, column: int, clock: np.ndarray) -> None:
        launcher.run(*self._table, *self._spans, self.workers, int(clock.ctypes.data), column)


def make_engine(tensors: Sequence[Tensor], clock: np.ndarray, threads: int | None, strict: bool) -> HostEngine:
    """Return an engine whose kernels numba compiles, on the best launcher there is."""
    return (CpuEngine if is_usable() else PrangeEngine)(tensors, clock, threads)
