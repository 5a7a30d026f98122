"""What the engines for host memory share: the plan lies in this process's memory and is run by its threads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np

from ..plan import chunk_table
from ..plan.gradient_table import GradientTable
from ..plan.tensor import Tensor
from .plan_engine import PlanEngine
from .thread_count import most_threads

SERIAL_BELOW = 128 * 1024
"""Elements up to which a step stays on the calling thread. Measured with AdamW on two cores: here two threads take 0.65
of the time of one where steps follow at once, and as long as one after a pause, when the other has to wake up."""

PER_THREAD = 32 * 1024
"""Elements a thread must have to do at least: waking another one for less costs more than it saves."""


class HostEngine(PlanEngine):
    """The plan in this process's memory, run by all cores (``threads`` of them) or, when small, by the caller."""

    serial_below = SERIAL_BELOW

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None, threads: int | None = None) -> None:
        self.threads = threads
        super().__init__(tensors, clock)

    def grain(self, elements: int) -> tuple[int, int]:
        each = chunk_table.grain(elements, max(chunk_table.SHARES, 16 * (self.threads or most_threads())))
        return each, each

    def scalars_address(self, slot: int, kind: np.dtype) -> int:
        return int(self.scalars.arrays[kind].ctypes.data) + self.scalars.offset(slot, kind)

    def on_plan_built(self) -> None:
        elements, spans = self.plan.elements, len(self.plan.spans) - 1
        self.small = elements < self.serial_below
        wanted = self.threads or min(most_threads(), max(1, elements // PER_THREAD))
        self.workers = 1 if self.small else max(1, min(wanted, spans))
        self.expected = GradientTable(self.tensors, self.plan.first_row, self.strided, self.chunk)
        self.expected.place(self.gradients)
        self.on_ready()

    @abstractmethod
    def on_ready(self) -> None:
        """Everything a launch needs is there."""

    def changed(self) -> None:
        self.expected.place(self.gradients)
