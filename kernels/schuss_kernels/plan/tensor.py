"""A tensor as an engine sees it, and the table of the scalars of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..lang.rule import Rule
from ..storage.dtypes import STATE_STORAGES, Storage, storage_of
from ..storage.memory import Memory
from . import chunk_table
from .riders import RIDERS
from .spec import Spec

_TYPES = (np.dtype(np.float32), np.dtype(np.float64))


Origin = tuple[Rule, int, Mapping[str, Any], Any, Any]
"""What the scalars of a step are computed from: the rule, and what :meth:`.Rule.numbers` takes."""


OTHERS = ("master", "ema", "copy")
"""What a tensor may have beside parameter, gradient and states, in the order of :attr:`.Spec.streams`."""


@dataclass
class Tensor:
    """A parameter, the rule that moves it, its states, and what is known of its gradient.

    ``others``: what there is of :data:`OTHERS`, and the slow weights, ``slow``, where there are some. ``master`` and
    ``stochastic``: as in :class:`.Spec`.
    """

    name: str
    rule: Rule
    parameter: Memory
    states: tuple[Memory, ...]
    gradient_dtype: np.dtype
    gradient_strides: tuple[int, ...]
    others: Mapping[str, Memory] = field(default_factory=dict)
    master: str = ""
    stochastic: bool = False
    slot: int = 0

    def spec(self, strided: bool, clip: bool = False, zero: bool = False) -> Spec:
        copy = self.others.get("copy")
        return Spec(
            self.rule,
            storage_for(self.parameter.dtype),
            storage_for(self.gradient_dtype),
            tuple(STATE_STORAGES[state.dtype.name] for state in self.states),
            strided,
            self.master,
            self.stochastic,
            clip,
            zero,
            "ema" in self.others,
            None if copy is None else storage_for(copy.dtype),
        )

    def nbytes(self) -> int:
        """Bytes of the parameter, its gradient and what is kept for it."""
        memories = [self.parameter, *self.stored_arrays(), *self.scales()]
        return self.gradient_dtype.itemsize * self.parameter.size + sum(memory.nbytes for memory in memories)

    def passes(self) -> list[Spec]:
        """What the kernels of a step are compiled for, in their order."""
        spec = self.spec(self.walk() is not None)
        return [spec] if self.rule.measure is None else [spec.measuring(), spec]

    def stored_arrays(self) -> list[Memory]:
        """The states and the others."""
        return [*self.states, *(self.others[name] for name in OTHERS if name in self.others)]

    def bytes_moved(self) -> float:
        """Bytes that a step reads and writes: each array once, and what is measured before it once more."""
        if not self.rule.matrix:
            return sum(spec.bytes_per_element for spec in self.passes()) * self.parameter.size
        copy = self.others.get("copy")
        once = self.gradient_dtype.itemsize * self.parameter.size + (0 if copy is None else copy.nbytes)
        return 2 * self.nbytes() - once

    def scales(self) -> list[Memory]:
        """Those of the states in 8 bits."""
        return [state.scales for state in self.states if state.scales is not None]

    def walk(self) -> np.ndarray | None:
        p = self.parameter
        itemsizes = p.dtype.itemsize, self.gradient_dtype.itemsize
        return chunk_table.walk_of(p.shape, p.strides, self.gradient_strides, *itemsizes)


class ScalarTable:
    """The numbers of a step: for every slot the riders' and a rule's ``Scalars``, in both compute types."""

    def __init__(self, slots: int, numbers: int) -> None:
        width = -(-(RIDERS + numbers) // 16) * 16  # a slot starts on a cache line
        self.arrays = {kind: np.zeros((slots, width), kind) for kind in _TYPES}

    def write(self, slots: Sequence[int], kinds: Sequence[np.dtype], values: tuple[float, ...]) -> None:
        """Fill slots, rounding each number once."""
        for kind in kinds:
            for slot in slots:
                self.arrays[kind][slot, : len(values)] = values

    def offset(self, slot: int, kind: np.dtype) -> int:
        """Bytes from the start of the array of ``kind`` to the slot."""
        return slot * self.arrays[kind].strides[0]


def storage_for(dtype: np.dtype) -> Storage:
    storage = storage_of(dtype)
    assert storage is not None, dtype  # the API lets no other dtype through
    return storage
