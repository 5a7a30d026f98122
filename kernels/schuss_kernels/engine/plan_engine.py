"""The base class of engines with a plan: it builds the plan, and writes scalars and gradients into it.

A subclass says how a kernel is found, where the tables lie, and how they are launched.
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
from ..plan.spec import GradSquares, Spec
from ..plan.tensor import Origin, ScalarTable, Tensor, storage_for
from ..storage.memory import Memory
from .base import Engine


class PlanEngine(Engine):
    """Build a plan over tensors and launch it.

    Attributes
    ----------
    plan
        The :class:`.chunk_table.Plan`, which is built anew when a gradient's dtype or layout, or a rider, changes.
    scalars
        The :class:`.ScalarTable`.
    gradients
        int64 (tensors): the addresses in the GRAD column; 0: the tensor has none, -1: not known yet.
    strided
        For every tensor whether it has a strided layout.
    chunk, span
        Elements in a chunk and in a span of the plan.
    portion_starts
        Number of each portion's first tensor, then the number of tensors; empty where both passes go over all tensors.
    portion_spans
        Number of each portion's first span, then the number of spans.
    needs_grad_norm
        Whether the plan has the kernels of :meth:`grad_squares`.
    """

    keeps_scalars = True

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None) -> None:
        super().__init__(tensors, clock)
        self.needs_grad_norm = False
        self.scalars = ScalarTable(len(self.tensors), max((len(t.rule.Scalars._fields) for t in tensors), default=0))
        self.gradients = np.full(len(self.tensors), -1, np.int64)
        self.build_plan()

    @abstractmethod
    def kernel(self, rule: Rule, spec: Spec) -> int:
        """Return what stands in the KERNEL column for a spec. The kernel is compiled where it is missing."""

    @abstractmethod
    def grad_squares_kernel(self, wanted: GradSquares) -> int:
        """Return what stands in the SQUARES column for a spec."""

    @abstractmethod
    def add_grad_squares(self) -> None:
        """Run the kernels of the SQUARES column. Return when ``plan.sums`` is written."""

    @abstractmethod
    def add_measures(self) -> None:
        """Run the kernels of the MEASURE column. Return when ``plan.measured`` is written."""

    @abstractmethod
    def scalars_address(self, slot: int, dtype: np.dtype) -> int:
        """Return the address of a slot in the table of scalars of this dtype, as kernels see it."""

    @abstractmethod
    def on_plan_built(self) -> None:
        """Do what a backend has to do after a new plan was built."""

    def on_rows_written(self) -> None:
        """Do what a backend has to do after gradients were written into the plan's rows."""

    def configure(self, clip: bool, zero: bool, grad_norm: bool) -> None:
        before = self.clip, self.zero, self.needs_grad_norm
        wanted = clip, zero, grad_norm or self.needs_grad_norm  # kernels that are there and not used do no harm
        if wanted != before:
            self.clip, self.zero, self.needs_grad_norm = wanted
            try:
                self.build_plan()
            except BaseException:
                self.clip, self.zero, self.needs_grad_norm = before
                raise

    def build_plan(self) -> None:
        """Build the plan for the tensors as they are now. Kernels that are missing are compiled."""
        entries, kernels = [], []
        for tensor, gradient in zip(self.tensors, self.gradients.tolist(), strict=True):
            layout = tensor.strided_layout()
            spec = tensor.spec(layout is not None, self.clip, self.zero)
            sync_spec = replace(spec, lookahead=True) if "slow" in tensor.others else spec
            kernel = sync_kernel = self.kernel(tensor.rule, spec) if tensor.parameter.size else 0
            if kernel and sync_spec is not spec:
                sync_kernel = self.kernel(tensor.rule, sync_spec)
            kernels.append((kernel, sync_kernel))
            entries.append(
                chunk_table.TensorEntry(
                    kernel=kernels[-1][self.syncs],
                    squares=self._grad_squares_kernel(spec) if tensor.parameter.size else 0,
                    scalars=self.scalars_address(tensor.slot, spec.compute),
                    size=tensor.parameter.size,
                    parameter=tensor.parameter.address,
                    gradient=gradient,
                    parameter_itemsize=spec.parameter.itemsize,
                    gradient_itemsize=spec.gradient.itemsize,
                    columns=tensor.columns(sync_spec),
                    measure=self._measure_kernel(tensor, spec),
                    sums=0 if tensor.rule.Sums is None else len(tensor.rule.Sums._fields),
                    layout=layout,
                )
            )
        starts = self.portion_starts = self.portions()
        self.chunk, self.span = self.chunk_and_span_sizes(sum(entry.size for entry in entries))
        if len(starts) > 2:
            self.chunk = self.span = min(self.chunk, two_pass.MAX_CHUNK)
        self.plan = chunk_table.build(entries, self.chunk, self.span, starts)
        self.portion_spans = np.searchsorted(self.plan.spans, self.plan.first_row[starts])
        self.strided = [entry.layout is not None for entry in entries]
        self._kernels = np.array(kernels, np.int64).reshape(-1, 2)
        self.on_plan_built()

    def sync_slow_weights(self, on: bool) -> None:
        if on != self.syncs:
            self.syncs = on
            self.plan.rows[:, chunk_table.KERNEL] = np.repeat(self._kernels[:, int(on)], np.diff(self.plan.first_row))
            self.on_kernels_switched()

    def on_kernels_switched(self) -> None:
        """Do what a backend has to do after the KERNEL column was written."""

    def portions(self) -> list[int]:
        """Return the number of the first tensor of each portion, then the number of tensors.

        A portion is measured and then updated before the next one. The list is empty where all tensors are measured
        before any is updated.
        """
        return []

    def chunk_and_span_sizes(self, elements: int) -> tuple[int, int]:
        """Return the elements in a chunk and in a span of a plan over ``elements``."""
        size = chunk_table.chunk_size(elements)
        return size, size

    def set_slots(self, slots: Sequence[int | None]) -> None:
        for tensor, slot in zip(self.tensors, slots, strict=True):
            tensor.slot = slot or 0
        rows = np.diff(self.plan.first_row)
        addresses = [self.scalars_address(t.slot, storage_for(t.parameter.dtype).compute) for t in self.tensors]
        self.plan.rows[:, chunk_table.SCALARS] = np.repeat(np.array(addresses, np.int64), rows)
        self.gradients[:] = [0 if slot is None else -1 for slot in slots]
        self._write_gradients()

    def prepare(
        self, slots: list[int], dtypes: Sequence[np.dtype], riders: Floats, scalars: Floats, origin: Origin
    ) -> None:
        self.scalars.write(slots, dtypes, (*riders, *scalars))

    def set_gradients(self, gradients: Sequence[Memory | None]) -> None:
        """Write the gradients' addresses into the plan. Build a new plan where a dtype or strides have changed.

        If that fails, the tensors keep the dtypes and strides that they had.
        """
        changed = [
            (tensor, tensor.gradient_dtype, tensor.gradient_strides)
            for tensor, g in zip(self.tensors, gradients, strict=True)
            if g is not None and (g.dtype, g.strides) != (tensor.gradient_dtype, tensor.gradient_strides)
        ]
        for tensor, gradient in zip(self.tensors, gradients, strict=True):
            if gradient is not None:
                tensor.gradient_dtype, tensor.gradient_strides = gradient.dtype, gradient.strides
        self.gradients[:] = [0 if g is None else g.address for g in gradients]
        if changed:
            try:
                self.build_plan()
            except BaseException:
                for tensor, dtype, strides in changed:
                    tensor.gradient_dtype, tensor.gradient_strides = dtype, strides
                raise
        else:
            self._write_gradients()

    def grad_squares(self) -> tuple[float, bool]:
        self.plan.sums[:] = 0.0  # tensors without a gradient add nothing
        self.add_grad_squares()
        return total(self.plan.sums)

    def measure(self) -> list[tuple[float, ...]]:
        self.plan.measured[:] = 0.0  # tensors without a gradient add nothing
        self.add_measures()
        return self.fold_measures()

    def fold_measures(self) -> list[tuple[float, ...]]:
        """Return for every tensor the totals of ``plan.measured`` over its reduction blocks."""
        ends, counts = self.plan.first_sum.tolist(), self.plan.sum_counts.tolist()
        return [
            folded(self.plan.measured[first:end].reshape(-1, count)) if count else ()
            for first, end, count in zip(ends, ends[1:], counts, strict=False)
        ]

    def _measure_kernel(self, tensor: Tensor, spec: Spec) -> int:
        if tensor.rule.measure is None or not tensor.parameter.size:
            return 0
        return self.kernel(tensor.rule, spec.measure_spec())

    def _grad_squares_kernel(self, spec: Spec) -> int:
        return self.grad_squares_kernel(GradSquares(spec.gradient, spec.strided)) if self.needs_grad_norm else 0

    def _write_gradients(self) -> None:
        """Write the GRAD column from ``gradients``."""
        rows, first = self.plan.rows, self.plan.first_row
        counts = np.diff(first)
        itemsizes = [0 if s else t.gradient_dtype.itemsize for t, s in zip(self.tensors, self.strided, strict=True)]
        advance = np.repeat(np.array(itemsizes, np.int64) * (self.gradients != 0), counts)
        rows[:, chunk_table.GRAD] = np.repeat(self.gradients, counts) + rows[:, chunk_table.START] * advance
        self.on_rows_written()
