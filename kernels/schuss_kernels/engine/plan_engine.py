"""The base class of engines with a plan: it builds plans, and writes scalars and gradients into them.

A subclass says how a kernel is found, where the tables lie, and how they are launched.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..lang.rule import Rule
from ..plan import chunk_table, two_pass
from ..plan.reduce import folded, total
from ..plan.riders import Floats
from ..plan.spec import GradSquares, Spec, Stream
from ..plan.tensor import GradientLayout, Origin, ScalarTable, Tensor, columns, storage_for
from ..storage.memory import Memory
from .base import Engine

MAX_PLANS = 8
"""Maximum number of plans that an engine keeps."""


class _Kernels(NamedTuple):
    """What stands in a tensor's rows for its gradient's layout: kernels, and what its arrays are like.

    ``streams``, ``columns``: the arrays in the columns from STATES on.
    """

    layout: np.ndarray | None
    update: int
    sync: int
    squares: int
    measure: int
    parameter_itemsize: int
    gradient_itemsize: int
    streams: tuple[Stream, ...]
    columns: tuple[chunk_table.Column, ...]


def _entry(tensor: Tensor, own: _Kernels, kernel: int, scalars: int, gradient: int) -> chunk_table.TensorEntry:
    return chunk_table.TensorEntry(
        kernel,
        own.squares,
        scalars,
        tensor.parameter.size,
        tensor.parameter.address,
        gradient,
        own.parameter_itemsize,
        own.gradient_itemsize,
        tensor.addresses(own.streams),
        own.columns,
        own.layout,
        own.measure,
        0 if tensor.rule.Sums is None else len(tensor.rule.Sums._fields),
    )


class PlanEngine(Engine):
    """Build plans over tensors and launch them.

    A plan is built for options and for the gradients' layouts (:class:`.GradientLayout`). The last few are kept, so
    that a step whose gradients or options have changed costs no building where they have been the same before.

    Attributes
    ----------
    scalars
        The :class:`.ScalarTable`.
    plan
        The :class:`.chunk_table.Plan` of the next step.
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

    scalars: ScalarTable

    lasting: ClassVar[frozenset[str]] = frozenset(
        {"tensors", "clock", "stream", "scalars", "_computed_in", "_slots", "_layout_numbers", "_plans"}
    )
    """Attributes that do not belong to the present plan. One that never changes may be missing."""

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None) -> None:
        super().__init__(tensors, clock)
        self.scalars = ScalarTable(len(self.tensors), max((len(t.rule.Scalars._fields) for t in tensors), default=0))
        computes = [storage_for(tensor.parameter.dtype).compute for tensor in self.tensors]
        self._computed_in = {
            dtype: np.array([number for number, own in enumerate(computes) if own == dtype], np.int64)
            for dtype in set(computes)
        }
        self._slots = np.zeros(len(self.tensors), np.int64)  # -1: the tensor has no gradient
        self._layout_numbers: dict[GradientLayout, int] = {}
        self._plans: list[dict[str, Any]] = []  # those that are kept, without the present one: the last used first
        self.needs_grad_norm = False
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

    # ---------------------------------------------------------------------------------------------- building a plan

    def build_plan(self) -> None:
        """Build the plan for the tensors as they are now. Kernels that are missing are compiled."""
        found: dict[Any, _Kernels] = {}
        addresses = self._scalar_addresses()
        entries, kernels, layouts = [], [], []
        rows = zip(self.tensors, self.gradients.tolist(), addresses.tolist(), strict=True)
        for tensor, gradient, scalars in rows:
            parameter, gradient_layout = tensor.parameter, tensor.gradient_layout
            layouts.append(self._layout_number(gradient_layout))
            key = (  # tensors of the same have the same kernels and layout
                tensor.rule,
                gradient_layout,
                parameter.dtype,
                parameter.shape,
                parameter.strides,
                tuple([memory.dtype for memory in tensor.states]),
                tuple([(name, memory.dtype) for name, memory in tensor.others.items()]),
                tensor.master,
                tensor.stochastic,
            )
            if key not in found:
                found[key] = self._kernels_of(tensor)
            own = found[key]
            kernels.append(own)
            entries.append(_entry(tensor, own, own.sync if self.syncs else own.update, scalars, gradient))
        starts = self.portion_starts = self.portions()
        self.chunk, self.span = self.chunk_and_span_sizes(sum(entry.size for entry in entries))
        if len(starts) > 2:
            self.chunk = self.span = min(self.chunk, two_pass.MAX_CHUNK)
        self.plan = chunk_table.build(entries, self.chunk, self.span, starts)
        self.portion_spans = np.searchsorted(self.plan.spans, self.plan.first_row[starts])
        self.strided = [entry.layout is not None for entry in entries]
        self._advance = np.array([0 if entry.layout is not None else entry.gradient_itemsize for entry in entries])
        self._kernels = kernels
        self._gradient_layouts = np.array(layouts, np.int64)
        self._slots_written = self._slots
        self.on_plan_built()

    def _kernels_of(self, tensor: Tensor) -> _Kernels:
        """Find the kernels of a tensor."""
        layout, rule = tensor.strided_layout(), tensor.rule
        spec = tensor.spec(layout is not None, self.clip, self.zero)
        row_spec = replace(spec, lookahead=True) if "slow" in tensor.others else spec  # the one of the most arrays
        update = sync = squares = measure = 0
        if tensor.parameter.size:
            update = sync = self.kernel(rule, spec)
            if update and row_spec is not spec:
                sync = self.kernel(rule, row_spec)
            if self.needs_grad_norm:
                squares = self.grad_squares_kernel(GradSquares(spec.gradient, spec.strided))
            if rule.measure is not None:
                measure = self.kernel(rule, spec.measure_spec())
        streams = row_spec.streams[2:]
        itemsizes = spec.parameter.itemsize, spec.gradient.itemsize
        return _Kernels(layout, update, sync, squares, measure, *itemsizes, streams, columns(streams))

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

    # ----------------------------------------------------------------------------------------------- keeping plans

    def configure(self, clip: bool, zero: bool, grad_norm: bool) -> None:
        wanted = clip, zero, grad_norm or self.needs_grad_norm  # kernels that are there and not used do no harm
        if wanted != self._options() and not self._take(lambda plan: _options(plan) == wanted):
            self._build_another(wanted, {})

    def set_gradients(self, gradients: Sequence[Memory | None]) -> None:
        """Write the gradients' addresses into the plan. Take, or build, another one where their layouts are others.

        If that fails, everything stays as it was.
        """
        layouts = {n: GradientLayout(g.dtype, g.strides) for n, g in enumerate(gradients) if g is not None}
        wanted = self._gradient_layouts.copy()
        wanted[list(layouts)] = [self._layout_number(gradient_layout) for gradient_layout in layouts.values()]
        if not np.array_equal(wanted, self._gradient_layouts):
            options = self._options()
            if not self._take(
                lambda plan: _options(plan) == options and np.array_equal(plan["_gradient_layouts"], wanted)
            ):
                self._build_another(options, layouts)
        self.gradients[:] = [0 if g is None else g.address for g in gradients]
        self._write_gradients()

    def _try_others(self, fits: Callable[[], bool]) -> bool:
        """Switch to the plans that were built for the same options, one after the other, until one fits."""
        options = self._options()
        for kept in [plan for plan in self._plans if _options(plan) == options]:
            self._switch(kept)
            if fits():
                return True
        return False

    def _options(self) -> tuple[bool, bool, bool]:
        """Return what the present plan does beside the update, as :meth:`configure` takes it."""
        return self.clip, self.zero, self.needs_grad_norm

    def _layout_number(self, gradient_layout: GradientLayout) -> int:
        return self._layout_numbers.setdefault(gradient_layout, len(self._layout_numbers))

    def _present(self) -> dict[str, Any]:
        """Return the attributes of the present plan."""
        return {name: value for name, value in vars(self).items() if name not in self.lasting}

    def _take(self, fits: Callable[[dict[str, Any]], bool]) -> bool:
        """Switch to the plan that was used last of those that fit. Return whether there is one."""
        for plan in self._plans:
            if fits(plan):
                self._switch(plan)
                return True
        return False

    def _switch(self, plan: dict[str, Any]) -> None:
        """Go on with a plan that was kept."""
        present = self._present()
        self._plans = [present, *(kept for kept in self._plans if kept is not plan)]
        vars(self).update(plan)
        layouts = list(self._layout_numbers)
        for number in np.flatnonzero(self._gradient_layouts != present["_gradient_layouts"]).tolist():
            self.tensors[number].gradient_layout = layouts[self._gradient_layouts[number]]
        self.sync_slow_weights(present["syncs"])
        if self._slots_written is not self._slots:
            self._write_slots()

    def _build_another(self, options: tuple[bool, bool, bool], layouts: Mapping[int, GradientLayout]) -> None:
        """Build a plan for other options, and gradients of other layouts, given by the numbers of tensors."""
        present, before = self._present(), {number: self.tensors[number].gradient_layout for number in layouts}
        try:
            for number, gradient_layout in layouts.items():
                self.tensors[number].gradient_layout = gradient_layout
            self.clip, self.zero, self.needs_grad_norm = options
            self.gradients = np.where(self._slots < 0, 0, -1)
            self.build_plan()
        except BaseException:
            vars(self).update(present)
            for number, gradient_layout in before.items():
                self.tensors[number].gradient_layout = gradient_layout
            raise
        self._plans = [present, *self._plans][: MAX_PLANS - 1]

    # ------------------------------------------------------------------------------------------------ setting a step

    def sync_slow_weights(self, on: bool) -> None:
        if on != self.syncs:
            self.syncs = on
            chosen = np.array([own.sync if on else own.update for own in self._kernels], np.int64)
            self.plan.rows[:, chunk_table.KERNEL] = np.repeat(chosen, np.diff(self.plan.first_row))
            self.on_kernels_switched()

    def on_kernels_switched(self) -> None:
        """Do what a backend has to do after the KERNEL column was written."""

    def on_states_made(self, numbers: Sequence[int]) -> None:
        self._plans.clear()
        pairs = [(self.tensors[number], self._kernels[number]) for number in numbers]
        arrays = [tensor.addresses(own.streams) for tensor, own in pairs]
        chunk_table.write_arrays(self.plan, numbers, arrays, [own.columns for _, own in pairs])

    def set_slots(self, slots: Sequence[int | None]) -> None:
        self._slots = np.array([-1 if slot is None else slot for slot in slots], np.int64)
        self._write_slots()

    def _write_slots(self) -> None:
        """Write the SCALARS column; a tensor without a slot has no gradient."""
        rows = np.diff(self.plan.first_row)
        self.plan.rows[:, chunk_table.SCALARS] = np.repeat(self._scalar_addresses(), rows)
        unknown = np.where(self.gradients == 0, -1, self.gradients)
        self.gradients[:] = np.where(self._slots < 0, 0, unknown)
        self._write_gradients()
        self._slots_written = self._slots

    def _scalar_addresses(self) -> np.ndarray:
        """Return the address of every tensor's slot."""
        addresses = np.zeros(len(self.tensors), np.int64)
        for dtype, tensors in self._computed_in.items():
            slots = np.maximum(self._slots[tensors], 0)
            addresses[tensors] = self.scalars_address(0, dtype) + slots * self.scalars.offset(1, dtype)
        return addresses

    def prepare(
        self, slots: list[int], dtypes: Sequence[np.dtype], riders: Floats, scalars: Floats, origin: Origin
    ) -> None:
        self.scalars.write(slots, dtypes, (*riders, *scalars))

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

    def _write_gradients(self) -> None:
        """Write the GRAD column from ``gradients``."""
        rows, counts = self.plan.rows, np.diff(self.plan.first_row)
        advance = np.repeat(self._advance * (self.gradients != 0), counts)
        rows[:, chunk_table.GRAD] = np.repeat(self.gradients, counts) + rows[:, chunk_table.START] * advance


def _options(plan: Mapping[str, Any]) -> tuple[bool, bool, bool]:
    """Do as :meth:`PlanEngine._options` does for a plan that is kept."""
    return plan["clip"], plan["zero"], plan["needs_grad_norm"]
