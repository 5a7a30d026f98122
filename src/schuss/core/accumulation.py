"""Sums of the gradients of several micro-batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from schuss_kernels.engine.base import Engine
from schuss_kernels.engine.interrupts import DeferInterrupt
from schuss_kernels.plan.riders import Riders
from schuss_kernels.plan.tensor import Tensor
from schuss_kernels.rules.accumulate import ACCUMULATE
from schuss_kernels.storage.memory import Memory

from . import arrays
from .arena import Arena
from .states import compute_dtype

_RIDERS = Riders()
_ZERO = np.zeros(())


class GradientSums:
    """One dense array a parameter; gradients are added to all of them in one launch.

    Parameters
    ----------
    names, parameters
        The parameters. The sums have their shapes, and the dtypes that they are computed in.
    arena
        Makes the arrays of the sums.
    make_engine
        As :meth:`.Stepper.make_engine`.
    """

    def __init__(
        self, names: Sequence[str], parameters: Sequence[Memory], arena: Arena, make_engine: Callable[..., Engine]
    ) -> None:
        self._names = list(names)
        self.buffers = [arena.array(parameter, compute_dtype(parameter), 0.0) for parameter in parameters]
        self._touched, self._there = [False] * len(names), [True] * len(names)
        self._dtypes = list(dict.fromkeys(buffer.dtype for buffer in self.buffers))
        tensors = [
            Tensor(name, ACCUMULATE, buffer, (), buffer.dtype, buffer.strides)
            for name, buffer in zip(names, self.buffers, strict=True)
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

    def values(self) -> dict[str, np.ndarray]:
        """Return a copy of every sum that something was added to, by the name of its parameter."""
        parts = zip(self._names, self.buffers, self._touched, strict=True)
        return {name: arrays.read(buffer) for name, buffer, touched in parts if touched}

    def set(self, values: Mapping[str, np.ndarray]) -> None:
        """Set the sums, checked and by name, to values; those that are not there to zero."""
        with DeferInterrupt():
            for name, buffer in zip(self._names, self.buffers, strict=True):
                arrays.write(buffer, values.get(name, _ZERO))
            self._touched = [name in values for name in self._names]
