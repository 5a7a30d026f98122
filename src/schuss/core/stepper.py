"""What a step needs: the engine for the rules that the groups choose now, its scalars, the step counts, the states."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from schuss_kernels.engine import registry
from schuss_kernels.engine.base import Engine
from schuss_kernels.engine.interrupts import DeferInterrupt
from schuss_kernels.plan.tensor import Tensor
from schuss_kernels.storage.memory import Memory

from . import grad_norm, states
from .fork_lock import refuse_reentry, step_lock
from .idle_averages import IdleAverages
from .lookahead import SlowWeights
from .overlap import overlapping
from .parameters import Parameters
from .step_counts import GroupRule, StepCounts
from .step_options import DEFAULT_OPTIONS, MOVED, StepInfo, StepOptions
from .step_scalars import StepScalars
from .storage_options import StorageOptions
from .tensor_states import TensorStates

if TYPE_CHECKING:
    from .state_dict import Checkpoint, Progress, TensorState


class Stepper:
    """Steps the parameters with one engine, which it builds anew whenever the groups choose other rules.

    Parameters
    ----------
    parameters, storage
        What to step, and how values are stored.
    copies
        For every parameter the array that it is copied to, or None.
    backend
        ``"native"``, ``"numba"``, ``"numpy"`` or ``"cuda"``.
    strict
        Whether the native backend refuses kernels that were not compiled ahead of time.
    threads
        Maximum number of threads, None for the default.

    Attributes
    ----------
    lock
        Held while tensors are moved. Whoever calls a method that moves or replaces something holds it (see
        :meth:`locked`); only :meth:`add_slow_weights` takes it itself.
    clock
        One int64: steps that moved something. The engines raise it in the call that moves the tensors.
    stored
        The states of the tensors, and what else is stored beside them.
    idle
        Moves the moving averages of the tensors that have no gradient now; None where there are none.
    seen_edits
        ``edits.count`` when the options of the groups were last taken in; -1: the engine must be built anew.
    """

    def __init__(
        self,
        parameters: Parameters,
        storage: StorageOptions,
        copies: Sequence[Memory | None],
        backend: str,
        strict: bool,
        threads: int | None,
    ) -> None:
        self.parameters, self.storage, self.backend = parameters, storage, backend
        self._strict, self._threads = strict, threads
        self.lock = step_lock()
        self.clock = np.zeros(1, np.int64)
        self.edits, self.seen_edits = parameters.edits, 0
        self.options = DEFAULT_OPTIONS
        self.slow: SlowWeights | None = None
        self.stored = TensorStates(parameters, storage, copies)
        self._settled = False  # whether the last step's gradients were like those of the step before
        self.idle: IdleAverages | None = None
        make_engine = partial(registry.make_engine, backend, threads=threads, strict=False)
        self._idle_averages = IdleAverages(parameters, storage, self.stored.others, make_engine)
        compute_dtypes = [states.compute_dtype(p) for p in parameters.memories]
        self._compute_dtypes = list(dict.fromkeys(compute_dtypes))
        self.counts = StepCounts(self.clock, parameters.group_of, compute_dtypes)
        self.scalars = StepScalars(self.counts)
        self.rebuild_engine()
        self.take_in_edits()

    def locked(self, what: str) -> Any:
        """Return the lock to hold in a method, ``what``; raise a RuntimeError where this thread holds it already."""
        refuse_reentry(self.lock, what)
        return self.lock

    # ---------------------------------------------------------------------------------------------------- stepping

    def step(self, gradients: list[Any], options: StepOptions) -> StepInfo:
        """Move every tensor that has a gradient. ``gradients``: one a tensor, not looked at yet.

        Raises
        ------
        TypeError, ValueError
            For a gradient that does not fit; nothing is moved then.
        """
        if options is not self.options:
            self.configure(options)
        engine, scalars = self.engine, self.scalars
        if self.slow is not None:
            engine.sync_slow_weights(self.slow.syncs_after(self.counts.steps))
        if scalars.measures or self.idle is not None or (options is not DEFAULT_OPTIONS and options.needs_grad_norm):
            return self._step_with_norm(gradients, options, None)
        settled = self._settled
        if settled:
            scalars.prepare(engine, options.scale, options.clip_value)
            if engine.try_step(gradients):
                return MOVED
        placed = self._place(gradients)  # held until the launch is over
        if placed:
            scalars.prepare(engine, options.scale, options.clip_value, settled)  # the active tensors may be others
            self._move(engine.launch)
        return MOVED

    def step_after(self, gradients: list[Any], options: StepOptions, before_update: Callable[[], None]) -> StepInfo:
        """Make a step as :meth:`step` does; ``before_update`` is called once all checks are passed.

        It is not called where no tensor has a gradient, or the step is skipped.
        """
        if options is not self.options:
            self.configure(options)
        if self.slow is not None:
            self.engine.sync_slow_weights(self.slow.syncs_after(self.counts.steps))
        return self._step_with_norm(gradients, options, before_update)

    def _step_with_norm(
        self, gradients: list[Any], options: StepOptions, before_update: Callable[[], None] | None
    ) -> StepInfo:
        """Make a step that does more than one launch: reads the gradients before, or moves idle averages after it."""
        engine, scalars = self.engine, self.scalars
        norm, scale = None, options.scale
        given = list(gradients)  # for the length of the step: others may change the caller's list
        if not self._settled or not engine.try_set_gradients(given):
            placed = self._place(given)
            if not placed:
                return StepInfo(0.0 if options.needs_grad_norm else None, False)
        if options.needs_grad_norm:
            norm, scale, finite = grad_norm.scaled(*engine.grad_squares(), options, lambda: self._read(given))
            if options.skip_nonfinite and not finite:
                if options.zero_grad:
                    self.parameters.zero_gradients(gradients)
                return StepInfo(norm, True)
        if before_update is not None:
            before_update()
        scalars.prepare(engine, scale, options.clip_value)
        if engine.two_pass_table is not None:
            self._move(engine.step_two_pass)
            return StepInfo(norm, False)
        if scalars.measures:
            scalars.measure(engine)
        self._move(engine.launch)
        return StepInfo(norm, False)

    def _move(self, launch: Callable[[], None]) -> None:
        """Move the tensors that have gradients, and the averages of those that have none."""
        if self.idle is None:
            launch()
        else:
            with DeferInterrupt():
                launch()
                self.idle.move(self.engine.stream)

    def _place(self, gradients: list[Any]) -> list[Any]:
        """Check gradients that the engine could not take at once, and give them to it.

        Returns what has to be held until the step is made: a number, as ``numpy.float64`` is one, lies in an array that
        nobody else holds. The list is empty where no tensor has a gradient.
        """
        self.stored.check_unchanged()
        if self.parameters.flat_type is not None:  # they are as the caller gave them
            gradients = self.parameters.match(gradients)
        active = np.array([gradient is not None for gradient in gradients], bool)
        if not active.any():
            return []
        engine, held, error = self.engine, gradients, None
        first = np.flatnonzero(active & ~self.stored.made)  # those that have a gradient for the first time
        with self._rebuild_on_error():
            self._settled = False
            changed = not np.array_equal(active, self.counts.active)
            if changed:
                self._activate(active)
            if engine.try_set_gradients(held):
                self._settled = not changed
            elif not engine.try_other_plans(held):
                try:
                    memories = self._checked(gradients)
                except (TypeError, ValueError) as found:
                    error = found
                else:
                    engine.set_gradients(memories)
                    held = [memory for memory in memories if memory is not None]
            if len(first) and error is None:
                self._make_states(first.tolist())
            elif len(first):
                self._activate(active & self.stored.made)
        if error is not None:
            raise error
        return held

    def _checked(self, gradients: Sequence[Any]) -> list[Memory | None]:
        """Find where gradients lie; errors as of :meth:`.Parameters.check_gradients`."""
        parameters, zero_grad = self.parameters, self.options.zero_grad
        memories = parameters.check_gradients(gradients, zero_grad)
        if zero_grad:
            active = [number for number, memory in enumerate(memories) if memory is not None]
            clash = overlapping([memory for memory in memories if memory is not None])
            if clash is not None:
                one, other = (parameters.names[active[number]] for number in clash)
                raise ValueError(f"zero_grad: the gradients of {one!r} and {other!r} share memory; pass a copy of one")
        return memories

    def _activate(self, active: np.ndarray) -> None:
        """Set which tensors have gradients."""
        self.counts.activate(active)
        self.engine.set_slots(self.counts.slots())
        self._choose_idle()

    def _choose_idle(self) -> None:
        self.idle = self._idle_averages.choose(np.flatnonzero(self.counts.active).tolist())

    def _read(self, gradients: list[Any]) -> list[tuple[np.ndarray, np.dtype]]:
        """Return the gradients that there are in host memory, each with the dtype that it is computed in."""
        parameters = self.parameters
        if parameters.flat_type is not None:  # they are as the caller gave them
            gradients = parameters.match(gradients)
        pairs = zip(parameters.check_gradients(gradients), parameters.memories, strict=True)
        return [(g.to_host().array, states.compute_dtype(p)) for g, p in pairs if g is not None]

    def configure(self, options: StepOptions) -> None:
        """Tell the engine what the next steps do beside the update.

        Raises
        ------
        ValueError
            For a ``grad_scale`` that the parameters' dtype does not have.
        """
        if options.scale != 1.0:
            for dtype in self._compute_dtypes:
                options.check_scale(dtype)
        with self._rebuild_on_error():
            self.engine.configure(options.clip_value is not None, options.zero_grad, options.needs_grad_norm)
            self.options = options

    def use_stream(self, stream: Any) -> None:
        """Launch the next step on a CUDA stream, None for the default one.

        Raises
        ------
        TypeError
            For a stream on a backend that has none.
        """
        if self.backend == "cuda":
            self.engine.stream = stream
        elif stream is not None:
            raise TypeError(f"stream: backend {self.backend!r} has no streams; expected None, got {stream!r}")

    # ---------------------------------------------------------------------------------------------------- rebuilding

    @contextlib.contextmanager
    def _rebuild_on_error(self) -> Iterator[None]:
        """Where an error, or Ctrl-C, ends what is done inside, the next step builds the engine anew."""
        seen, self.seen_edits = self.seen_edits, -1
        yield
        self.seen_edits = seen

    def take_in_edits(self) -> None:
        """Take in what was changed in the groups' options since the last step."""
        seen = self.edits.count
        pairs = zip(self.parameters.groups, self.group_rules, strict=False)  # the groups' own rules come first
        if self.seen_edits < 0 or any(group.rule is not rule for group, (_, rule) in pairs):
            self.rebuild_engine(restarts=True)
        self._set_options()
        self.seen_edits = seen

    def _set_options(self) -> None:
        """Give the options of groups and storage to what makes the scalars."""
        groups = [self.parameters.groups[number] for number, _ in self.group_rules]
        rules, alpha = [rule for _, rule in self.group_rules], 0.0 if self.slow is None else self.slow.alpha
        self.scalars.set_options(groups, rules, self.storage, alpha)

    def rebuild_engine(self, restarts: bool = False) -> None:
        """Build the engine for the rules that the groups' options choose now; states that there are, stay.

        ``restarts``: the next step is the first one of a tensor whose rule has kept nothing so far, as of momentum that
        is switched on.
        """
        parameters, stored = self.parameters, self.stored
        indices = {GroupRule(number, group.rule): number for number, group in enumerate(parameters.groups)}
        tensors, own = stored.tensors(self.counts.steps)
        index_of = [
            indices.setdefault(GroupRule(group, tensor.rule), len(indices))
            for group, tensor in zip(parameters.group_of, tensors, strict=True)
        ]
        fresh = [
            made and tensor.rule.State._fields != () and held.keys().isdisjoint(tensor.rule.State._fields)
            for made, tensor, held in zip(stored.made.tolist(), tensors, stored.states, strict=True)
        ]
        group_rules = list(indices)
        over = [None if rule.measure is None else rule.over for _, rule in group_rules]
        with self._rebuild_on_error():
            self.counts.regroup(
                index_of, [over[index] == "tensor" for index in index_of], [over[index] == "all" for index in index_of]
            )
            if restarts and self.counts.steps and any(fresh):
                histories = [(0, None) if new else old for new, old in zip(fresh, self.counts.histories(), strict=True)]
                self.counts.restart(self.counts.steps, histories, self.counts.active)
            self.engine, self.options = self.make_engine(tensors, self.clock), DEFAULT_OPTIONS
            stored.states, self.group_rules = own, group_rules
            self._activate(self.counts.active & stored.made)

    def make_states(self, numbers: Iterable[int]) -> None:
        """Make the states of those of some tensors that have none yet."""
        with self._rebuild_on_error():
            self._make_states([number for number in numbers if not self.stored.made[number]])

    def _make_states(self, numbers: list[int]) -> None:
        self.stored.make(numbers, self.engine.tensors, self.counts.steps)
        self.engine.on_states_made(numbers)
        self.stored.made[numbers] = True
        self.stored.times_made += 1

    def make_engine(self, tensors: list[Tensor], clock: np.ndarray) -> Engine:
        """Make an engine of the stepper's backend for tensors. ``clock``: one int64, which it raises at every step."""
        return registry.make_engine(self.backend, tensors, clock, self._threads, self._strict)

    # ------------------------------------------------------------------------------------- what stands beside a tensor

    def averages(self) -> list[Memory]:
        """Return the moving averages of the parameters.

        Raises
        ------
        RuntimeError
            When there are none.
        """
        if self.storage.ema is None:
            raise RuntimeError("this optimizer keeps no moving average of the parameters; build it with ema=0.999")
        return [others["ema"] for others in self.stored.others]

    def exact(self, number: int) -> np.ndarray:
        """Return a copy of a parameter's values in its compute dtype: of its master weight, where it has one."""
        return states.exact(self.storage, self.parameters.memories[number], self.stored.others[number])

    def slow_weights(self) -> list[Memory]:
        """Return the slow weights of all parameters."""
        return [others["slow"] for others in self.stored.others]

    def add_slow_weights(self, k: int, alpha: float) -> None:
        """Have slow weights from here on, as :class:`schuss.Lookahead` describes them; its errors are from here."""
        with self.locked("Lookahead()"):
            self.parameters.swap.refuse("Lookahead()")
            if self.slow is not None:
                raise ValueError("Lookahead: this optimizer has slow weights already")
            with self._rebuild_on_error():
                self.stored.add_slow_weights()
                self.slow = SlowWeights(k, alpha, self.counts.steps)
            self.seen_edits = -1  # the engine has to know them
            self.take_in_edits()

    def reload_params(self) -> None:
        """Take the parameters as they are now: into what stands beside them, and into states that are weights."""
        with DeferInterrupt():
            self.stored.take_weights()
            self._choose_idle()

    # --------------------------------------------------------------------------------------------- saving and loading

    def progress(self) -> Progress:
        """Return how far training has come, as a state dict has it."""
        from .state_dict import Progress  # here, for a short start

        storage = self.storage
        return Progress(self.counts.steps, storage.seed if storage.stochastic else None, self.slow, storage.ema)

    def tensor_states(self) -> list[TensorState]:
        """Return what a state dict has of every tensor."""
        return self.stored.saved(self.counts.histories(), self.engine.tensors)

    def restore(self, progress: Progress, checkpoint: Checkpoint) -> None:
        """Go on from a checked state dict."""
        with self._rebuild_on_error():
            self._make_states(self.stored.drop_missing(checkpoint))
            self.stored.load(checkpoint)
            self.storage = self.storage._replace(seed=progress.seed or 0)
            self.slow = progress.slow
            self._set_options()
            self.counts.restart(progress.steps, checkpoint.histories, self.stored.made.copy())
            self.engine.set_slots(self.counts.slots())
            self._choose_idle()
