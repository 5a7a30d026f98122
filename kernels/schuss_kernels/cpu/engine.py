"""The CPU engine of numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..engine.host import HostEngine
from ..lang.rule import Rule
from ..plan.chunk_table import (
    KERNEL,
    MEASURE,
    SQUARES,
)
from ..plan.spec import Spec, Squares
from . import launcher, ndarray_headers, thread_pool
from .compile import kernel, squares_kernel


class CpuEngine(HostEngine):
    """Kernels compiled by numba when they are first used, and numba's launcher."""

    name = "numba"

    def kernel(self, rule: Rule, spec: Spec) -> int:
        return kernel(rule, spec)

    def squares_kernel(self, wanted: Squares) -> int:
        return squares_kernel(wanted)

    def on_ready(self) -> None:
        rows, spans = self.plan.rows, self.plan.spans
        self._arguments = ndarray_headers.arguments(self.expected, rows)
        self._table = (int(rows.ctypes.data), rows.strides[0] if rows.size else 0)
        self._counters = np.zeros((self.workers, thread_pool.LINE // 8), np.int64)
        self._spans = (int(spans.ctypes.data), len(spans) - 1, int(self._counters.ctypes.data))
        self._clock = int(self.clock.ctypes.data)
        self._spare = np.zeros(1, np.int64)  # a clock for launches that move nothing

    def try_step(self, gradients: list[Any]) -> bool:
        if not ndarray_headers.USABLE or len(gradients) != len(self.tensors):
            return False
        if self.small:
            return launcher.refresh_and_run(
                id(gradients), self.zero, *self._arguments, len(self.plan.rows), self._clock
            )
        gradients = list(gradients)  # others may change the caller's list, and drop its arrays, during the launch
        if not self.try_set_gradients(gradients):
            return False
        self.launch()
        return True

    def try_set_gradients(self, gradients: list[Any]) -> bool:
        count = len(self.tensors)
        if not ndarray_headers.USABLE or len(gradients) != count:
            return False
        return launcher.refresh(id(gradients), self.zero, *self._arguments) == count

    def launch(self) -> None:
        self._run(KERNEL, self._clock)

    def add_squares(self) -> None:
        self._run(SQUARES, int(self._spare.ctypes.data))

    def add_measures(self) -> None:
        self._run(MEASURE, int(self._spare.ctypes.data))

    def _run(self, column: int, clock: int) -> None:
        last = len(self.plan.rows)
        if self.workers > 1:
            launcher.run(*self._table, last, *self._spans, self.workers, clock, column)
        else:
            launcher.run_alone(*self._table, 0, last, clock, column)
