"""Sums of the gradients of several micro-batches."""

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
    """One dense array a parameter; gradients are added to all of them in one launch.

    Parameters
    ----------
    names
        Of the parameters.
    buffers
        The sums: zeros in the shape of each parameter and the dtype that it is computed in.
    make_engine
        As :meth:`.Stepper.make_engine`.
    """

    def __init__(
        self, names: Sequence[str], buffers: Sequence[Memory], make_engine: Callable[[list[Tensor], np.ndarray], Engine]
    ) -> None:
        self.buffers = list(buffers)
        self._touched, self._there = [False] * len(names), [True] * len(names)
        self._dtypes = list(dict.fromkeys(buffer.dtype for buffer in buffers))
        tensors = [
            Tensor(name, ACCUMULATE, buffer, (), buffer.dtype, buffer.strides)
            for name, buffer in zip(names, buffers, strict=True)
        ]
        self._engine = make_engine(tensors, np.zeros(1, np.int64))
        self._engine.set_slots([0] * len(tensors))
        self._engine.prepare([0], self._dtypes, _RIDERS, ACCUMULATE.begin(1, {})[0], (ACCUMULATE, 1, {}, None, None))

    @property
    def added(self) -> bool:
        """Whether a gradient has been added since the sums were zero."""
        return any(self._touched)

    def gradients(self) -> list[Any]:
        """Return the sums as the gradients of a step; None where nothing was added."""
        return [memory.array if touched else None for memory, touched in zip(self.buffers, self._touched, strict=True)]

    def add(self, gradients: Sequence[Any], check: Callable[[], list[Memory | None]], stream: Any) -> None:
        """Add gradients, one a parameter. ``check`` finds where they lie, if they are not where they were."""
        self._engine.stream = stream
        with DeferInterrupt():
            if not self._engine.try_step(list(gradients)):
                self._add_others(list(gradients), check)
            for number, gradient in enumerate(gradients):
                self._touched[number] |= gradient is not None

    def _add_others(self, gradients: list[Any], check: Callable[[], list[Memory | None]]) -> None:
        """Add gradients that are not like those before: others are missing, or dtypes and layouts have changed."""
        there = [gradient is not None for gradient in gradients]
        if not any(there):
            return
        if there != self._there:
            self._engine.set_slots([0 if own else None for own in there])
            self._there = there
        if self._engine.try_set_gradients(gradients) or self._engine.try_other_plans(gradients):
            self._engine.launch()
        else:
            self._engine.step(check())

    def forget(self) -> None:
        """Note that the sums are zero again."""
        self._touched = [False] * len(self._touched)
