"""The base class of engines whose plan lies in host memory and is run by this process's threads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..plan import chunk_table
from ..plan.gradient_table import GradientTable
from ..plan.tensor import Tensor
from . import thread_count
from .plan_engine import PlanEngine

SERIAL_BELOW = 128 * 1024
"""A step over fewer elements runs on the calling thread. (Measured at this size with AdamW on two cores: two threads
take 0.65 of one thread's time where a step follows at once, and as long as one after a pause, when one has to wake.)"""

MIN_PER_THREAD = 32 * 1024
"""Minimum of elements for each thread: to wake another thread for fewer costs more than it saves."""


class HostEngine(PlanEngine):
    """Run a plan in host memory on ``threads`` threads, or the cores there are; None: as the plan's size is worth.

    Attributes
    ----------
    workers
        Number of threads that a launch uses.
    gradient_table
        The :class:`.GradientTable` of the plan.
    written
        The caller's arrays that a step writes: the parameters that have elements, and the copies of them. The fast ways
        to step refuse when one of them was changed.
    """

    serial_below = SERIAL_BELOW

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None, threads: int | None = None) -> None:
        self.threads = None if threads is None else thread_count.at_most_cores(threads)
        super().__init__(tensors, clock)

    def chunk_and_span_sizes(self, elements: int) -> tuple[int, int]:
        chunks = max(chunk_table.TARGET_CHUNKS, 16 * (self.threads or thread_count.max_threads()))
        size = chunk_table.chunk_size(elements, chunks)
        return size, size

    def scalars_address(self, slot: int, dtype: np.dtype) -> int:
        return int(self.scalars.arrays[dtype].ctypes.data) + self.scalars.offset(slot, dtype)

    def on_plan_built(self) -> None:
        elements, spans = self.plan.elements, len(self.plan.spans) - 1
        wanted = self.threads or min(thread_count.max_threads(), max(1, elements // MIN_PER_THREAD))
        self.workers = 1 if elements < self.serial_below else max(1, min(wanted, spans))
        self.gradient_table = GradientTable(self.tensors, self.plan.first_row, self.strided, self.chunk)
        self.gradient_table.addresses[:] = self.gradients
        self.gradients = self.gradient_table.addresses  # so that what compiled code writes is seen
        beside = [tensor.others["copy"] for tensor in self.tensors if "copy" in tensor.others]
        self.written = [m for m in (*(tensor.parameter for tensor in self.tensors), *beside) if m.size]
        self.on_ready()

    def try_other_plans(self, gradients: list[Any]) -> bool:
        return self._try_others(lambda: self.try_set_gradients(gradients))

    @abstractmethod
    def on_ready(self) -> None:
        """Do what a backend has to do after plan and gradient table were built."""
