"""Moving averages of parameters that have no gradient: they go on, as the average is of all after every step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from schuss_kernels.engine.base import Engine
from schuss_kernels.plan.riders import Riders
from schuss_kernels.plan.tensor import Tensor
from schuss_kernels.storage.memory import Memory

from . import arrays, states
from .parameters import Parameters
from .storage_options import StorageOptions


class MakeEngine(Protocol):
    """Makes an engine for tensors; it raises ``clock``, one int64."""

    def __call__(self, tensors: list[Tensor], clock: np.ndarray) -> Engine: ...


class IdleAverages:
    """Moves averages towards their parameters, in one launch: ``average -= (1 - decay) * (average - parameter)``.

    That is gradient descent on the averages: with the parameters, of the other sign, as gradients, and a weight decay
    of 1. An average that has arrived stays to the last bit.

    Parameters
    ----------
    parameters, storage
        The parameters, and how values are stored.
    others
        For every tensor what stands beside it: its average, and its master weight where it has one.
    make_engine
        Makes an engine where the parameters lie.
    """

    def __init__(
        self,
        parameters: Parameters,
        storage: StorageOptions,
        others: Sequence[Mapping[str, Memory]],
        make_engine: MakeEngine,
    ) -> None:
        self._parameters, self._storage, self._others, self._make_engine = parameters, storage, others, make_engine
        self._engine: Engine | None = None  # made when it is first needed, as the weights are
        self._weights: list[Memory | None] | None = None
        self._active: Sequence[int] = ()

    def choose(self, active: Sequence[int]) -> IdleAverages | None:
        """Move from now on the averages of all tensors but the active ones. Return None where there are none to move.

        The weights of those tensors are taken as they are at the next step where they have no array of their own.
        """
        self._active, self._weights = active, None
        return None if self._storage.ema is None or len(active) == len(self._others) else self

    def move(self, stream: Any) -> None:
        """Move the averages by one step. ``stream``: of a CUDA engine."""
        if self._engine is None:
            self._engine = self._made()
        if self._weights is None:
            taken = set(self._active)
            numbers = range(len(self._others))
            self._weights = [None if number in taken else self._weight(number) for number in numbers]
        self._engine.stream = stream
        self._engine.step(self._weights)

    def _made(self) -> Engine:
        """Make the engine: of all tensors, as the idle ones change."""
        from schuss_kernels.rules.sgd import SGD  # here: few need it

        assert self._storage.ema is not None
        parts = zip(self._parameters.names, self._parameters.memories, self._others, strict=True)
        tensors = []
        for name, memory, beside in parts:
            weight = beside["ema"] if self._storage.master else memory  # a master weight lies as the average does
            tensors.append(Tensor(name, SGD, beside["ema"], (), weight.dtype, weight.strides))
        engine = self._make_engine(tensors, np.zeros(1, np.int64))
        engine.set_slots([0] * len(tensors))
        options = {"lr": 1.0 - self._storage.ema, "weight_decay": 1.0}
        dtypes = list(dict.fromkeys(tensor.parameter.dtype for tensor in tensors))
        engine.prepare([0], dtypes, Riders(scale=-1.0), SGD.begin(1, options)[0], (SGD, 1, options, None, None))
        return engine

    def _weight(self, number: int) -> Memory:
        """Return the array that has a tensor's exact values; of one with a remainder for a master, a copy."""
        parameter, beside = self._parameters.memories[number], self._others[number]
        if self._storage.master != "remainder":
            return beside.get("master", parameter)
        weight = beside["ema"].allocate_like(np.dtype(np.float32), 0.0)
        arrays.write(weight, states.exact(self._storage, parameter, beside))
        return weight
