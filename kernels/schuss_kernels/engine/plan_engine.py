"""What every backend shares: tensors, their scalars, the plan built from them, and gradients put into it.

A backend says how a kernel is reached, where the tables lie, and how they are launched.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..lang.rule import Rule
from ..plan import chunk_table, two_pass
from ..plan.two_pass import Turns
from ..storage.dtypes import STATE_STORAGES, Spec, Squares, Storage, storage_of

SCALE, CLIP, EMA_KEEP, EMA_ADD, KEY_HIGH, KEY_LOW, SLOW_STEP = range(7)
RIDERS = 8
"""What stands in a slot before the rule's scalars: the scale of the gradients, the value they are limited to, what the
moving average keeps and takes, the two halves of the key of the random bits, and the share of their way to the
parameters that slow weights go."""

LANES = 16
"""Sums that squares are added to in turn: what a vector adds at once, on every processor and in the reference."""

_TYPES = (np.dtype(np.float32), np.dtype(np.float64))


@dataclass(frozen=True)
class Memory:
    """An array as a kernel sees it. ``strides`` in bytes; ``array`` is what owns the memory.

    ``scales``: of a state in 8 bits, one float32 for every block of its codes in the order of the walk.
    """

    array: Any
    address: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    scales: Memory | None = field(default=None, kw_only=True)

    @property
    def size(self) -> int:
        size = 1
        for extent in self.shape:
            size *= extent
        return size

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def extent(self) -> tuple[int, int]:
        """First byte and one past the last, relative to ``address``; (0, 0) where there is no element."""
        if self.size == 0:
            return 0, 0
        reach = [(n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)]
        return sum(r for r in reach if r < 0), sum(r for r in reach if r > 0) + self.dtype.itemsize


Floats = tuple[float, ...]
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
            _storage(self.parameter.dtype),
            _storage(self.gradient_dtype),
            tuple(STATE_STORAGES[state.dtype.name] for state in self.states),
            strided,
            self.master,
            self.stochastic,
            clip,
            zero,
            "ema" in self.others,
            None if copy is None else _storage(copy.dtype),
        )

    def held(self) -> int:
        """Bytes of the parameter, its gradient and what is kept for it."""
        memories = [self.parameter, *self.kept(), *self.scales()]
        return self.gradient_dtype.itemsize * self.parameter.size + sum(memory.nbytes for memory in memories)

    def passes(self) -> list[Spec]:
        """What the kernels of a step are compiled for, in their order."""
        spec = self.spec(self.walk() is not None)
        return [spec] if self.rule.measure is None else [spec.measuring(), spec]

    def kept(self) -> list[Memory]:
        """The states and the others."""
        return [*self.states, *(self.others[name] for name in OTHERS if name in self.others)]

    def bytes_moved(self) -> float:
        """Bytes that a step reads and writes: each array once, and what is measured before it once more."""
        if not self.rule.matrix:
            return sum(spec.bytes_per_element for spec in self.passes()) * self.parameter.size
        copy = self.others.get("copy")
        once = self.gradient_dtype.itemsize * self.parameter.size + (0 if copy is None else copy.nbytes)
        return 2 * self.held() - once

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


class Engine(ABC):
    """Steps tensors. One subclass a backend."""

    name = ""
    turns: Turns | None = None
    """What is between two passes, for an engine that makes both in one call (:meth:`turn`)."""

    keeps_numbers = False
    """Whether what :meth:`prepare` has set holds until it is set anew."""

    stream: Any = None
    """The CUDA stream of the next step; host engines have none."""

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None) -> None:
        self.tensors = list(tensors)
        self.clip = self.zero = self.syncs = False
        self.clock = np.zeros(1, np.int64) if clock is None else clock
        """One int64: steps that moved tensors. Raised where they are moved, so that nothing (Ctrl-C) comes between."""

    @abstractmethod
    def set_slots(self, slots: Sequence[int | None]) -> None:
        """Give every tensor its slot of the scalars; None: it has no gradient in the steps to come."""

    @abstractmethod
    def prepare(
        self, slots: list[int], kinds: Sequence[np.dtype], riders: Floats, scalars: Floats, origin: Origin
    ) -> None:
        """Set the numbers of slots: the riders' (see :data:`RIDERS`) and a rule's scalars.

        ``origin``: what these were computed from, for an engine that has no scalars.
        """

    @abstractmethod
    def place(self, gradients: Sequence[Memory | None]) -> None:
        """Take the gradients of the next launch."""

    @abstractmethod
    def launch(self) -> None:
        """Step every tensor that has a gradient."""

    @abstractmethod
    def squares(self) -> tuple[float, bool]:
        """The sum of the squares of all gradients, in float64, and whether all of them are finite."""

    @abstractmethod
    def measure(self) -> list[tuple[float, ...]]:
        """What the rules measure of the gradients placed: every tensor's sums, none where its rule has no measure."""

    def turn(self) -> None:
        """Measure, finish and launch, in one call, where there are ``turns``."""
        raise RuntimeError(f"the engine {self.name!r} makes its passes one by one")

    def step(self, gradients: Sequence[Memory | None]) -> None:
        """Place and launch."""
        self.place(gradients)
        self.launch()

    def ride(self, clip: bool, zero: bool, look: bool) -> None:
        """Whether the next steps limit gradients to the clip value, set them to zero, and ask for :meth:`squares`."""
        self.clip, self.zero = clip, zero

    def sync(self, on: bool) -> None:
        """Whether the parameters of the next step meet their slow weights, after it."""
        self.syncs = on

    def try_step(self, gradients: list[Any]) -> bool:
        """Step straight from the caller's arrays if they are all as in the step before; False, nothing done, if not."""
        return False

    def try_place(self, gradients: list[Any]) -> bool:
        """The first half of :meth:`try_step`."""
        return False


class PlanEngine(Engine):
    """A plan over tensors and the means to launch it."""

    keeps_numbers = True

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None) -> None:
        super().__init__(tensors, clock)
        self.looks = False
        self.scalars = ScalarTable(len(self.tensors), max((len(t.rule.Scalars._fields) for t in tensors), default=0))
        self.gradients = np.full(len(self.tensors), -1, np.int64)  # addresses in the plan; 0: none, -1: not known yet
        self.bind()

    @abstractmethod
    def kernel(self, rule: Rule, spec: Spec) -> int:
        """What stands in the KERNEL column for a spec."""

    @abstractmethod
    def squares_kernel(self, wanted: Squares) -> int:
        """What stands in the SQUARES column."""

    @abstractmethod
    def add_squares(self) -> None:
        """Run the kernels of the SQUARES column; wait for ``plan.sums``."""

    @abstractmethod
    def add_measures(self) -> None:
        """Run the kernels of the MEASURE column; wait for ``plan.measured``."""

    @abstractmethod
    def scalars_address(self, slot: int, kind: np.dtype) -> int:
        """Where the kernels find a slot of the scalars."""

    @abstractmethod
    def bound(self) -> None:
        """The plan is a new one."""

    def changed(self) -> None:
        """Rows of the plan were written."""

    def ride(self, clip: bool, zero: bool, look: bool) -> None:
        before = self.clip, self.zero, self.looks
        wanted = clip, zero, look or self.looks  # the kernels that look do no harm once they are there
        if wanted != before:
            self.clip, self.zero, self.looks = wanted
            try:
                self.bind()
            except BaseException:
                self.clip, self.zero, self.looks = before
                raise

    def bind(self) -> None:
        """Build the plan for the tensors as they are now; kernels that are missing are compiled."""
        parts, kernels = [], []
        for tensor, gradient in zip(self.tensors, self.gradients.tolist(), strict=True):
            walk = tensor.walk()
            spec = tensor.spec(walk is not None, self.clip, self.zero)
            kept, slow = tensor.kept(), tensor.others.get("slow")
            kernel = self.kernel(tensor.rule, spec) if tensor.parameter.size else 0
            meeting = self.kernel(tensor.rule, replace(spec, lookahead=True)) if kernel and slow is not None else kernel
            kernels.append((kernel, meeting))
            parts.append(
                chunk_table.Part(
                    kernel=kernels[-1][self.syncs],
                    squares=self._squares_kernel(spec) if tensor.parameter.size else 0,
                    scalars=self.scalars_address(tensor.slot, spec.compute),
                    size=tensor.parameter.size,
                    parameter=tensor.parameter.address,
                    gradient=gradient,
                    parameter_itemsize=spec.parameter.itemsize,
                    gradient_itemsize=spec.gradient.itemsize,
                    states=[memory.address for memory in kept],
                    state_itemsizes=[memory.dtype.itemsize for memory in kept],
                    scales=[memory.address for memory in tensor.scales()],
                    slow=0 if slow is None else slow.address,
                    slow_itemsize=0 if slow is None else slow.dtype.itemsize,
                    measure=self._measure_kernel(tensor, spec),
                    sums=0 if tensor.rule.Sums is None else len(tensor.rule.Sums._fields),
                    walk=walk,
                )
            )
        portions = self.portions()
        self.chunk, self.span = self.grain(sum(part.size for part in parts))
        if len(portions) > 2:
            self.chunk = self.span = min(self.chunk, two_pass.CHUNK)
        self.plan = chunk_table.build(parts, self.chunk, self.span, portions)
        self.stops = np.searchsorted(self.plan.spans, self.plan.first_row[portions])
        self.first_of_portion = portions
        self.strided = [part.walk is not None for part in parts]
        self._kernels = np.array(kernels, np.int64).reshape(-1, 2)
        self.bound()

    def sync(self, on: bool) -> None:
        if on != self.syncs:
            self.syncs = on
            self.plan.rows[:, chunk_table.KERNEL] = np.repeat(self._kernels[:, int(on)], np.diff(self.plan.first_row))
            self.switched()

    def switched(self) -> None:
        """The KERNEL column was written."""

    def portions(self) -> list[int]:
        """Where portions of tensors begin that are measured and moved one after the other, and the number of tensors;
        none where all are measured first."""
        return []

    def grain(self, elements: int) -> tuple[int, int]:
        """Elements in a chunk, and at least in a span, of a plan over so many."""
        return chunk_table.grain(elements), chunk_table.grain(elements)

    def set_slots(self, slots: Sequence[int | None]) -> None:
        for tensor, slot in zip(self.tensors, slots, strict=True):
            tensor.slot = slot or 0
        rows = np.diff(self.plan.first_row)
        addresses = [self.scalars_address(t.slot, _storage(t.parameter.dtype).compute) for t in self.tensors]
        self.plan.rows[:, chunk_table.SCALARS] = np.repeat(np.array(addresses, np.int64), rows)
        self.gradients[:] = [0 if slot is None else -1 for slot in slots]
        self._place()

    def prepare(
        self, slots: list[int], kinds: Sequence[np.dtype], riders: Floats, scalars: Floats, origin: Origin
    ) -> None:
        self.scalars.write(slots, kinds, (*riders, *scalars))

    def place(self, gradients: Sequence[Memory | None]) -> None:
        """Put the gradients into the plan, building it anew where a layout or dtype differs."""
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

    def squares(self) -> tuple[float, bool]:
        self.plan.sums[:] = 0.0  # tensors without a gradient add nothing
        self.add_squares()
        return total(self.plan.sums)

    def measure(self) -> list[tuple[float, ...]]:
        self.plan.measured[:] = 0.0  # tensors without a gradient add nothing
        self.add_measures()
        return self.fold()

    def fold(self) -> list[tuple[float, ...]]:
        """What :meth:`add_measures` found, added up over the blocks of every tensor."""
        ends, counts = self.plan.first_sum.tolist(), self.plan.sum_counts.tolist()
        return [
            folded(self.plan.measured[first:end].reshape(-1, count)) if count else ()
            for first, end, count in zip(ends, ends[1:], counts, strict=False)
        ]

    def _measure_kernel(self, tensor: Tensor, spec: Spec) -> int:
        if tensor.rule.measure is None or not tensor.parameter.size:
            return 0
        return self.kernel(tensor.rule, spec.measuring())

    def _squares_kernel(self, spec: Spec) -> int:
        return self.squares_kernel(Squares(spec.gradient, spec.strided)) if self.looks else 0

    def _place(self) -> None:
        rows, first = self.plan.rows, self.plan.first_row
        counts = np.diff(first)
        itemsizes = [0 if s else t.gradient_dtype.itemsize for t, s in zip(self.tensors, self.strided, strict=True)]
        advance = np.repeat(np.array(itemsizes, np.int64) * (self.gradients != 0), counts)
        rows[:, chunk_table.GRAD] = np.repeat(self.gradients, counts) + rows[:, chunk_table.START] * advance
        self.changed()


def folded(sums: np.ndarray) -> tuple[float, ...]:
    """The sums of all blocks, (blocks, sums), added up in their order."""
    return tuple(np.cumsum(sums, axis=0)[-1].tolist()) if len(sums) else (0.0,) * sums.shape[1]


def total(sums: np.ndarray) -> tuple[float, bool]:
    """The sums of all blocks in their order, and whether every gradient in them is finite."""
    if not len(sums):
        return 0.0, True
    return float(np.cumsum(sums[:, 0])[-1]), bool((sums[:, 1] == 0.0).all())


def _storage(dtype: np.dtype) -> Storage:
    storage = storage_of(dtype)
    assert storage is not None, dtype  # the API lets no other dtype through
    return storage
