"""What every backend shares: tensors, their scalars, the plan built from them, and gradients put into it.

A backend says how a kernel is reached, where the tables lie, and how they are launched.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..lang.rule import Rule
from ..plan import chunk_table, two_pass
from ..plan.reduce import folded, total
from ..plan.riders import Floats
from ..plan.spec import Spec, Squares
from ..plan.tensor import Origin, ScalarTable, Tensor, storage_for
from ..storage.memory import Memory
from .base import Engine


class PlanEngine(Engine):
    """A plan over tensors and the means to launch it."""

    keeps_scalars = True

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None) -> None:
        super().__init__(tensors, clock)
        self.needs_grad_norm = False
        self.scalars = ScalarTable(len(self.tensors), max((len(t.rule.Scalars._fields) for t in tensors), default=0))
        self.gradients = np.full(len(self.tensors), -1, np.int64)  # addresses in the plan; 0: none, -1: not known yet
        self.build_plan()

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
    def on_plan_built(self) -> None:
        """The plan is a new one."""

    def changed(self) -> None:
        """Rows of the plan were written."""

    def configure(self, clip: bool, zero: bool, look: bool) -> None:
        before = self.clip, self.zero, self.needs_grad_norm
        wanted = clip, zero, look or self.needs_grad_norm  # the kernels that look do no harm once they are there
        if wanted != before:
            self.clip, self.zero, self.needs_grad_norm = wanted
            try:
                self.build_plan()
            except BaseException:
                self.clip, self.zero, self.needs_grad_norm = before
                raise

    def build_plan(self) -> None:
        """Build the plan for the tensors as they are now; kernels that are missing are compiled."""
        parts, kernels = [], []
        for tensor, gradient in zip(self.tensors, self.gradients.tolist(), strict=True):
            walk = tensor.walk()
            spec = tensor.spec(walk is not None, self.clip, self.zero)
            kept, slow = tensor.stored_arrays(), tensor.others.get("slow")
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
        self.on_plan_built()

    def sync_slow_weights(self, on: bool) -> None:
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
        addresses = [self.scalars_address(t.slot, storage_for(t.parameter.dtype).compute) for t in self.tensors]
        self.plan.rows[:, chunk_table.SCALARS] = np.repeat(np.array(addresses, np.int64), rows)
        self.gradients[:] = [0 if slot is None else -1 for slot in slots]
        self._place()

    def prepare(
        self, slots: list[int], kinds: Sequence[np.dtype], riders: Floats, scalars: Floats, origin: Origin
    ) -> None:
        self.scalars.write(slots, kinds, (*riders, *scalars))

    def set_gradients(self, gradients: Sequence[Memory | None]) -> None:
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
                self.build_plan()
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
        return self.squares_kernel(Squares(spec.gradient, spec.strided)) if self.needs_grad_norm else 0

    def _place(self) -> None:
        rows, first = self.plan.rows, self.plan.first_row
        counts = np.diff(first)
        itemsizes = [0 if s else t.gradient_dtype.itemsize for t, s in zip(self.tensors, self.strided, strict=True)]
        advance = np.repeat(np.array(itemsizes, np.int64) * (self.gradients != 0), counts)
        rows[:, chunk_table.GRAD] = np.repeat(self.gradients, counts) + rows[:, chunk_table.START] * advance
        self.changed()
