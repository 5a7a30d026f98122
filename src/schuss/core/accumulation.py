"""The sum of the gradients of several micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from schuss_kernels.engine.base import Engine
from schuss_kernels.engine.interrupts import DeferInterrupt
from schuss_kernels.plan.riders import Riders
from schuss_kernels.plan.tensor import Tensor
from schuss_kernels.rules.accumulate import ACCUMULATE
from schuss_kernels.storage.memory import Memory

_RIDERS = Riders()


class GradientSums:
    """One dense array a parameter, in the type it is computed in; gradients are added to all of them in one launch.

    ``buffers``: the sums. ``make_engine(tensors, clock)`` makes what adds.
    """

    def __init__(
        self, names: Sequence[str], buffers: Sequence[Memory], make_engine: Callable[[list[Tensor], np.ndarray], Engine]
    ) -> None:
        self.buffers = list(buffers)
        self._touched = [False] * len(names)
        self._kinds = list(dict.fromkeys(buffer.dtype for buffer in buffers))
        tensors = [
            Tensor(name, ACCUMULATE, buffer, (), buffer.dtype, buffer.strides)
            for name, buffer in zip(names, buffers, strict=True)
        ]
        self._engine = make_engine(tensors, np.zeros(1, np.int64))
        self._engine.set_slots([0] * len(tensors))
        self._engine.prepare([0], self._kinds, _RIDERS, ACCUMULATE.begin(1, {})[0], (ACCUMULATE, 1, {}, None, None))

    @property
    def added(self) -> bool:
        """Whether there is anything in the sums."""
        return any(self._touched)

    def gradients(self) -> list[Any]:
        """The sums as the gradients of a step; None where nothing was added."""
        return [memory.array if touched else None for memory, touched in zip(self.buffers, self._touched, strict=True)]

    def add(self, gradients: Sequence[Any], look: Callable[[], list[Memory | None]], stream: Any) -> None:
        """Add gradients; ``look`` gives them checked, where they are not as they were."""
        self._engine.stream = stream
        with DeferInterrupt():
            if not self._engine.try_step(list(gradients)):
                memories = look()
                if any(memory is not None for memory in memories):
                    self._engine.step(memories)
            for number, gradient in enumerate(gradients):
                self._touched[number] |= gradient is not None

    def forget(self) -> None:
        """Say that the sums are zero again."""
        self._touched = [False] * len(self._touched)
