"""The base class of engines that use the C extension: it reads gradients, writes them into the plan, and runs kernels.

The extension knows kernels by their addresses. The native engine's are compiled ahead of time, numba's when they are
first used.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..lang import digest
from ..lang.rule import Rule
from ..plan import chunk_table, two_pass
from ..plan.riders import RIDERS, Floats
from ..plan.tensor import Origin
from ..plan.two_pass import TwoPassTable
from .host import HostEngine


@functools.cache
def is_usable() -> bool:
    """Return whether the C extension was built, and from the present source files, so that columns are the same."""
    try:
        from .. import _native
    except ImportError:
        return False
    return bool(digest.sources() == _native.SOURCES)


class ExtensionEngine(HostEngine):
    """Give the plan to the C extension. A subclass says where kernels come from."""

    def finish_kernel(self, rule: Rule) -> int | None:
        """Return the address of a rule's compiled ``finish``; None where Python calls it between two launches."""
        return None

    def portions(self) -> list[int]:
        measured = [tensor.rule for tensor in self.tensors if tensor.rule.measure is not None]
        found = {rule: self.finish_kernel(rule) for rule in measured}
        self._finishers = {rule: address for rule, address in found.items() if address is not None}
        if not found or len(self._finishers) < len(found):
            return []
        whole = any(rule.over == "all" for rule in measured)
        sizes = [tensor.nbytes() for tensor in self.tensors]
        return [0, len(sizes)] if whole else two_pass.portions(sizes)

    def on_ready(self) -> None:
        from .. import _native

        self.two_pass_table, portions = self._two_pass()
        self._plan = _native.Plan(
            rows=self.plan.rows,
            spans=self.plan.spans,
            gradient_table=self.gradient_table.table,
            shapes=self.gradient_table.shapes,
            intervals=self.gradient_table.intervals,
            scalars32=self.scalars.arrays[np.dtype(np.float32)],
            scalars64=self.scalars.arrays[np.dtype(np.float64)],
            clock=self.clock,
            two_pass=self.two_pass_table.rows if self.two_pass_table else np.zeros((0, two_pass.COLUMNS), np.int64),
            portions=portions,
            written_table=np.array([n for m in self.written for n in (m.address, len(m.shape), *m.shape)], np.int64),
            written=tuple(memory.array for memory in self.written),
            elements=self.plan.elements,
            threads=self.workers,
            threads_given=self.threads is not None,
            writes_gradients=self.zero,
            array_type=np.ndarray,
            memmap_type=np.memmap,
        )

    def prepare(
        self, slots: list[int], dtypes: Sequence[np.dtype], riders: Floats, scalars: Floats, origin: Origin
    ) -> None:
        self._plan.scalars(slots, riders, scalars)

    def _two_pass(self) -> tuple[TwoPassTable | None, np.ndarray]:
        """Return the two-pass table, or None where it cannot be used, and the table of portions."""
        starts, spans = self.portion_starts, self.portion_spans
        if not starts:
            return None, np.zeros((0, len(two_pass.COLUMNS_OF_PORTIONS)), np.int64)
        slots, (float32, float64) = range(len(self.tensors)), (np.dtype(np.float32), np.dtype(np.float64))
        rules = [tensor.rule for tensor in self.tensors]
        table = TwoPassTable(
            finishers=[self._finishers.get(rule, 0) for rule in rules],
            shared=[rule.measure is not None and rule.over == "all" for rule in rules],
            sums=max(self.plan.sum_counts),
            running=max(len(getattr(rule.running, "_fields", ())) for rule in rules),
        )
        tensors = table.rows[: len(slots)]
        tensors[:, two_pass.BLOCKS] = [-(-tensor.parameter.size // chunk_table.REDUCE_BLOCK) for tensor in self.tensors]
        tensors[:, two_pass.SUMS] = self.plan.sum_counts
        tensors[:, two_pass.MEASURED] = int(self.plan.measured.ctypes.data) + self.plan.first_sum[:-1] * 8
        tensors[:, two_pass.SCALARS64] = [self.scalars_address(slot, float64) + RIDERS * 8 for slot in slots]
        tensors[:, two_pass.SCALARS32] = [self.scalars_address(slot, float32) + RIDERS * 4 for slot in slots]
        elements = np.concatenate(([0], np.cumsum([tensor.parameter.size for tensor in self.tensors])))[starts]
        threads = [self.workers if size >= self.serial_below else 1 for size in np.diff(elements)]
        return table, np.column_stack([spans[:-1], spans[1:], starts[:-1], starts[1:], threads]).astype(np.int64)

    def step_two_pass(self) -> None:
        self._plan.step_two_pass(self.workers > 1 and has_openmp_team())

    def try_step(self, gradients: list[Any]) -> bool:
        return self._plan.step(gradients, self.workers > 1 and has_openmp_team())

    def try_set_gradients(self, gradients: list[Any]) -> bool:
        return self._plan.set_gradients(gradients)

    def launch(self) -> None:
        self._plan.run(self.workers > 1 and has_openmp_team())

    def add_grad_squares(self) -> None:
        self._plan.add_grad_squares(self.workers > 1 and has_openmp_team())

    def add_measures(self) -> None:
        self._plan.add_measures(self.workers > 1 and has_openmp_team())

    def fold_measures(self) -> list[tuple[float, ...]]:
        from .. import _native

        return _native.folded(self.plan.measured, self.plan.first_sum, self.plan.sum_counts)


def has_openmp_team() -> bool:
    """Return whether another library has an OpenMP team in this process, whose threads should then run the kernels."""
    return "torch" in sys.modules or "numba.np.ufunc.omppool" in sys.modules
