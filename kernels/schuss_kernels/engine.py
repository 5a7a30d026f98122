"""What every backend shares: tensors, their scalars, the plan built from them, and gradients put into it.

A backend says how a kernel is reached, where the tables lie, and how they are launched.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import plan
from .rule import Rule
from .storage import Spec, Storage, storage_of

_TYPES = (np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True)
class Memory:
    """An array as a kernel sees it. ``strides`` in bytes; ``array`` is what owns the memory."""

    array: Any
    address: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        size = 1
        for extent in self.shape:
            size *= extent
        return size

    def extent(self) -> tuple[int, int]:
        """First byte and one past the last, relative to ``address``; (0, 0) where there is no element."""
        if self.size == 0:
            return 0, 0
        reach = [(n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)]
        return sum(r for r in reach if r < 0), sum(r for r in reach if r > 0) + self.dtype.itemsize


@dataclass
class Tensor:
    """A parameter, the rule that moves it, its states, and what is known of its gradient."""

    name: str
    rule: Rule
    parameter: Memory
    states: tuple[Memory, ...]
    gradient_dtype: np.dtype
    gradient_strides: tuple[int, ...]
    slot: int = 0

    def spec(self, strided: bool) -> Spec:
        return Spec(
            self.rule,
            _storage(self.parameter.dtype),
            _storage(self.gradient_dtype),
            tuple(_storage(state.dtype) for state in self.states),
            strided,
        )

    def walk(self) -> np.ndarray | None:
        p = self.parameter
        itemsizes = p.dtype.itemsize, self.gradient_dtype.itemsize
        return plan.walk_of(p.shape, p.strides, self.gradient_strides, *itemsizes)


class ScalarTable:
    """The numbers of a step: for every slot the gradient scale and a rule's ``Scalars``, in both compute types."""

    def __init__(self, slots: int, numbers: int) -> None:
        width = -(-(1 + numbers) // 16) * 16  # a slot starts on a cache line
        self.arrays = {kind: np.zeros((slots, width), kind) for kind in _TYPES}

    def write(self, slot: int, kinds: Sequence[np.dtype], values: tuple[float, ...]) -> None:
        """Fill a slot, rounding each number once."""
        for kind in kinds:
            self.arrays[kind][slot, : len(values)] = values

    def offset(self, slot: int, kind: np.dtype) -> int:
        """Bytes from the start of the array of ``kind`` to the slot."""
        return slot * self.arrays[kind].strides[0]


class Engine(ABC):
    """Steps tensors. One subclass a backend."""

    name = ""
    stream: Any = None
    """The CUDA stream of the next step; host engines have none."""

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None) -> None:
        self.tensors = list(tensors)
        self.clock = np.zeros(1, np.int64) if clock is None else clock
        """One int64: steps that moved tensors. Raised where they are moved, so that nothing (Ctrl-C) comes between."""

    @abstractmethod
    def set_slots(self, slots: Sequence[int]) -> None:
        """Give every tensor its slot of the scalars."""

    @abstractmethod
    def prepare(
        self, slot: int, kinds: Sequence[np.dtype], rule: Rule, step: int, options: Mapping[str, Any], scale: float
    ) -> None:
        """Set the numbers of a slot: what ``rule`` needs at ``step`` with its ``options``, the scale of gradients."""

    @abstractmethod
    def step(self, gradients: Sequence[Memory | None]) -> None:
        """Step every tensor that has a gradient."""

    def try_step(self, gradients: list[Any]) -> bool:
        """Step straight from the caller's arrays if they are all as in the step before; False, nothing done, if not."""
        return False


class PlanEngine(Engine):
    """A plan over tensors and the means to launch it."""

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None) -> None:
        super().__init__(tensors, clock)
        self.scalars = ScalarTable(len(self.tensors), max((len(t.rule.Scalars._fields) for t in tensors), default=0))
        self.gradients = np.full(len(self.tensors), -1, np.int64)  # addresses in the plan; 0: none, -1: not known yet
        self.bind()

    @abstractmethod
    def kernel(self, rule: Rule, spec: Spec) -> int:
        """What stands in the KERNEL column for a spec."""

    @abstractmethod
    def scalars_address(self, slot: int, kind: np.dtype) -> int:
        """Where the kernels find a slot of the scalars."""

    @abstractmethod
    def bound(self) -> None:
        """The plan is a new one."""

    @abstractmethod
    def launch(self) -> None:
        """Run every row that has a gradient."""

    def changed(self) -> None:
        """Rows of the plan were written."""

    def bind(self) -> None:
        """Build the plan for the tensors as they are now; kernels that are missing are compiled."""
        parts = []
        for tensor, gradient in zip(self.tensors, self.gradients.tolist(), strict=True):
            walk = tensor.walk()
            spec = tensor.spec(strided=walk is not None)
            parts.append(
                plan.Part(
                    kernel=self.kernel(tensor.rule, spec) if tensor.parameter.size else 0,
                    scalars=self.scalars_address(tensor.slot, spec.compute),
                    size=tensor.parameter.size,
                    parameter=tensor.parameter.address,
                    gradient=gradient,
                    parameter_itemsize=spec.parameter.itemsize,
                    gradient_itemsize=spec.gradient.itemsize,
                    states=[state.address for state in tensor.states],
                    state_itemsizes=[state.itemsize for state in spec.states],
                    walk=walk,
                )
            )
        self.chunk, self.span = self.grain(sum(part.size for part in parts))
        self.plan = plan.build(parts, self.chunk, self.span)
        self.strided = [part.walk is not None for part in parts]
        self.bound()

    def grain(self, elements: int) -> tuple[int, int]:
        """Elements in a chunk, and at least in a span, of a plan over so many."""
        return plan.grain(elements), plan.grain(elements)

    def set_slots(self, slots: Sequence[int]) -> None:
        for tensor, slot in zip(self.tensors, slots, strict=True):
            tensor.slot = slot
        rows = np.diff(self.plan.first_row)
        addresses = [self.scalars_address(t.slot, _storage(t.parameter.dtype).compute) for t in self.tensors]
        self.plan.rows[:, plan.SCALARS] = np.repeat(np.array(addresses, np.int64), rows)
        self.changed()

    def prepare(
        self, slot: int, kinds: Sequence[np.dtype], rule: Rule, step: int, options: Mapping[str, Any], scale: float
    ) -> None:
        self.scalars.write(slot, kinds, (scale, *rule.scalars_at(step, options)))

    def step(self, gradients: Sequence[Memory | None]) -> None:
        """Put the gradients into the plan, building it anew where a layout or dtype differs, and launch it."""
        moved = [
            (tensor, tensor.gradient_dtype, tensor.gradient_strides)
            for tensor, g in zip(self.tensors, gradients, strict=True)
            if g is not None and (g.dtype, g.strides) != (tensor.gradient_dtype, tensor.gradient_strides)
        ]
        for tensor, gradient in zip(self.tensors, gradients, strict=True):
            if gradient is not None:
                tensor.gradient_dtype, tensor.gradient_strides = gradient.dtype, gradient.strides
        self.gradients[:] = [0 if g is None else g.address for g in gradients]
        if moved:
            try:
                self.bind()
            except BaseException:
                for tensor, dtype, strides in moved:
                    tensor.gradient_dtype, tensor.gradient_strides = dtype, strides
                raise
        else:
            self._place()
        self.launch()

    def _place(self) -> None:
        rows, first = self.plan.rows, self.plan.first_row
        counts = np.diff(first)
        itemsizes = [0 if s else t.gradient_dtype.itemsize for t, s in zip(self.tensors, self.strided, strict=True)]
        advance = np.repeat(np.array(itemsizes, np.int64) * (self.gradients != 0), counts)
        rows[:, plan.GRAD] = np.repeat(self.gradients, counts) + rows[:, plan.START] * advance
        self.changed()


def _storage(dtype: np.dtype) -> Storage:
    storage = storage_of(dtype)
    assert storage is not None, dtype  # the API lets no other dtype through
    return storage
