"""Tensors as engines see them, and the table of the scalars of a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..lang.rule import Rule
from ..storage.dtypes import STATE_STORAGES, Storage, storage_of
from ..storage.memory import Memory
from . import chunk_table
from .riders import RIDERS
from .spec import Spec, Stream

_COMPUTE_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))


Origin = tuple[Rule, int, Mapping[str, Any], Any, Any]
"""What the scalars of a step are computed from: the rule, the step, the options, the running numbers or None, the sums
of the measure or None."""


OTHERS = ("master", "ema", "copy")
"""Names of the arrays that a tensor may have besides parameter, gradient and states."""


class GradientLayout(NamedTuple):
    """What a gradient looks like beside its shape: strides in bytes."""

    dtype: np.dtype
    strides: tuple[int, ...]


@dataclass(slots=True)
class Tensor:
    """A parameter, the rule that updates it, its states, and what is known of its gradient.

    Attributes
    ----------
    gradient_dtype, gradient_strides
        Of the last gradient, strides in bytes; its shape is the parameter's.
    others
        The arrays named in :data:`OTHERS`, and the slow weights under ``"slow"``, as far as there are any.
    master, stochastic
        As in :class:`.Spec`.
    slot
        Number under which the numpy reference has the tensor's scalars; other engines have tables of slots.
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

    @property
    def gradient_layout(self) -> GradientLayout:
        """The layout of the last gradient."""
        return GradientLayout(self.gradient_dtype, self.gradient_strides)

    @gradient_layout.setter
    def gradient_layout(self, layout: GradientLayout) -> None:
        self.gradient_dtype, self.gradient_strides = layout

    def spec(self, strided: bool, clip: bool = False, zero: bool = False) -> Spec:
        """Return the spec of the kernel that updates the tensor. The arguments are the spec's attributes."""
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
        """Return the bytes of the parameter, its gradient and all arrays that are stored for it."""
        memories = [self.parameter, *self.stored_arrays(), *self.scales()]
        return self.gradient_dtype.itemsize * self.parameter.size + sum(memory.nbytes for memory in memories)

    def passes(self) -> list[Spec]:
        """Return the specs of the kernels that a step runs: measure, where the rule has one, then update."""
        spec = self.spec(self.strided_layout() is not None)
        return [spec] if self.rule.measure is None else [spec.measure_spec(), spec]

    def stored_arrays(self) -> list[Memory]:
        """Return the states, then the arrays named in :data:`OTHERS` as far as there are any."""
        if not self.others:
            return list(self.states)
        return [*self.states, *(self.others[name] for name in OTHERS if name in self.others)]

    def bytes_moved(self) -> float:
        """Return the bytes that a step reads and writes: in each pass every array that the rule uses, once.

        A matrix rule, whose passes are numpy's own, is counted as if it read and wrote each array once (the gradient is
        only read, the copy only written).
        """
        if not self.rule.matrix:
            return sum(spec.bytes_per_element for spec in self.passes()) * self.parameter.size
        copy = self.others.get("copy")
        once = self.gradient_dtype.itemsize * self.parameter.size + (0 if copy is None else copy.nbytes)
        return 2 * self.nbytes() - once

    def scales(self) -> list[Memory]:
        """Return the scale arrays of the quantized states."""
        return [state.scales for state in self.states if state.scales is not None]

    def addresses(self, streams: Sequence[Stream]) -> list[int]:
        """Return where the arrays of some of its :attr:`.Spec.streams` begin, of others than parameter and gradient."""
        made = []
        for stream in streams:
            memory = self.others[stream.name] if stream.state is None else self.states[stream.state]
            if stream.elements_per_entry > 1:
                assert memory.scales is not None, stream
                memory = memory.scales
            made.append(memory.address)
        return made

    def strided_layout(self) -> np.ndarray | None:
        """Return the strided layout (:mod:`.chunk_table`); None where parameter and gradient are dense alike."""
        p = self.parameter
        itemsizes = p.dtype.itemsize, self.gradient_dtype.itemsize
        return chunk_table.strided_layout(p.shape, p.strides, self.gradient_strides, *itemsizes)


def columns(streams: Sequence[Stream]) -> tuple[chunk_table.Column, ...]:
    """Return what the arrays of some streams are like in the chunk table."""
    return tuple([chunk_table.Column(stream.storage.itemsize, stream.elements_per_entry) for stream in streams])


class ScalarTable:
    """The numbers that kernels read in a step. A slot is a row: the riders' numbers, then a rule's ``Scalars``.

    Tensors with the same numbers share a slot. ``arrays``: for float32 and float64 an array (slots, numbers) of the
    dtype; a kernel reads the one of the dtype that it computes in.
    """

    def __init__(self, slots: int, scalars: int) -> None:
        """Make a table for rules of at most ``scalars`` scalars."""
        width = -(-(RIDERS + scalars) // 16) * 16  # a slot starts on a cache line
        self.arrays = {dtype: np.zeros((slots, width), dtype) for dtype in _COMPUTE_DTYPES}

    def write(self, slots: Sequence[int], dtypes: Sequence[np.dtype], values: tuple[float, ...]) -> None:
        """Store the same numbers in each of the slots, in the arrays of these dtypes. Each number is rounded once."""
        for dtype in dtypes:
            for slot in slots:
                self.arrays[dtype][slot, : len(values)] = values

    def write_rows(self, slots: np.ndarray, values: np.ndarray) -> None:
        """Store a row of numbers in each of the slots: float64 (slots, numbers). Each number is rounded once."""
        with np.errstate(over="ignore", under="ignore"):
            for array in self.arrays.values():
                array[slots, : values.shape[1]] = values

    def offset(self, slot: int, dtype: np.dtype) -> int:
        """Return the bytes from the start of the array of ``dtype`` to the slot."""
        return slot * self.arrays[dtype].strides[0]


def storage_for(dtype: np.dtype) -> Storage:
    """Return the storage of a parameter or gradient of this dtype."""
    storage = storage_of(dtype)
    assert storage is not None, dtype  # the API lets no other dtype through
    return storage
