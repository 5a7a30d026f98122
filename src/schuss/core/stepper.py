"""What a step needs: the engine for the rules that the groups choose now, its scalars, the step counts, the states."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from schuss_kernels.engine import registry
from schuss_kernels.engine.base import Engine
from schuss_kernels.lang.rule import Rule
from schuss_kernels.plan.tensor import Tensor
from schuss_kernels.storage.memory import Memory

from . import states
from .fork_lock import step_lock
from .lookahead import SlowWeights
from .overlap import overlapping
from .parameters import Parameters
from .step_counts import StepCounts
from .step_options import DEFAULT_OPTIONS, MOVED, StepInfo, StepOptions
from .step_scalars import StepScalars
from .storage_options import StorageOptions
from .tensor_states import TensorStates

if TYPE_CHECKING:
    from .state_dict import Checkpoint, Progress, TensorState


class GroupRule(NamedTuple):
    """A parameter group's number, and a rule that moves tensors of it: the group's own, or one it leaves them to."""

    group: int
    rule: Rule


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
        Held while tensors are moved. Whoever calls a method that moves or replaces something holds it; only
        :meth:`add_slow_weights` takes it itself.
    clock
        One int64: steps that moved something. The engines raise it in the call that moves the tensors.
    kept
        The states of the tensors, and what else is stored beside them.
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
        self.kept = TensorStates(parameters, storage, copies)
        self._settled = False  # whether the last step's gradients were like those of the step before
        self.counts = StepCounts(
            self.clock, parameters.group_of, [states.compute_dtype(p) for p in parameters.memories]
        )
        self.scalars = StepScalars(self.counts)
        self.rebuild_engine()
        self.take_in_edits()

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
        if scalars.measures or (options is not DEFAULT_OPTIONS and options.needs_grad_norm):
            return self._step_with_norm(gradients, options, None)
        settled = self._settled
        if settled:
            scalars.prepare(engine, options.scale, options.clip_value)
            if engine.try_step(gradients):
                return MOVED
        placed = self._place(gradients)  # held until the launch is over
        if placed:
            scalars.prepare(engine, options.scale, options.clip_value, settled)  # the active tensors may be others
            engine.launch()
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
        """Make a step that reads the gradients before it moves anything: for their norm, or for a rule's measure."""
        engine, scalars = self.engine, self.scalars
        norm, scale = None, options.scale
        placed = list(gradients)  # for the length of the step: others may change the caller's list
        if not self._settled or not engine.try_set_gradients(placed):
            placed = self._place(placed)
            if not placed:
                return StepInfo(0.0 if options.needs_grad_norm else None, False)
        if options.needs_grad_norm:
            squares, finite = engine.grad_squares()
            norm = math.sqrt(squares) * abs(scale)
            if options.skip_nonfinite and not finite:
                return StepInfo(norm, True)
            scale *= options.clip_coefficient(norm)
        if before_update is not None:
            before_update()
        scalars.prepare(engine, scale, options.clip_value)
        if engine.two_pass_table is not None:
            engine.step_two_pass()
            return StepInfo(norm, False)
        if scalars.measures:
            scalars.measure(engine)
        engine.launch()
        return StepInfo(norm, False)

    def _place(self, gradients: list[Any]) -> list[Any]:
        """Check gradients that the engine could not take at once, and give them to it.

        Returns what has to be held until the step is made: a number, as ``numpy.float64`` is one, lies in an array that
        nobody else holds. The list is empty where no tensor has a gradient.
        """
        if self.parameters.flat_type is not None:  # they are as the caller gave them
            gradients = self.parameters.match(gradients)
        active = np.array([gradient is not None for gradient in gradients], bool)
        if not active.any():
            return []
        engine, held, error = self.engine, gradients, None
        first = np.flatnonzero(active & ~self.kept.made)  # those that have a gradient for the first time
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
                self._activate(active & self.kept.made)
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

    def configure(self, options: StepOptions) -> None:
        """Tell the engine what the next steps do beside the update."""
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
        parameters, seen = self.parameters, self.edits.count
        pairs = zip(parameters.groups, self.group_rules, strict=False)  # the groups' own rules come first
        if self.seen_edits < 0 or any(group.rule is not rule for group, (_, rule) in pairs):
            self.rebuild_engine()
        self.scalars.set_options(
            [parameters.groups[number] for number, _ in self.group_rules],
            [rule for _, rule in self.group_rules],
            self.storage,
            0.0 if self.slow is None else self.slow.alpha,
        )
        self.seen_edits = seen

    def rebuild_engine(self) -> None:
        """Build the engine for the rules that the groups' options choose now; states that there are, stay."""
        parameters, kept = self.parameters, self.kept
        indices = {GroupRule(number, group.rule): number for number, group in enumerate(parameters.groups)}
        tensors, own = kept.tensors(self.counts.steps)
        index_of = [
            indices.setdefault(GroupRule(group, tensor.rule), len(indices))
            for group, tensor in zip(parameters.group_of, tensors, strict=True)
        ]
        group_rules = list(indices)
        over = [None if rule.measure is None else rule.over for _, rule in group_rules]
        with self._rebuild_on_error():
            self.counts.regroup(
                index_of, [over[index] == "tensor" for index in index_of], [over[index] == "all" for index in index_of]
            )
            self.engine, self.options = self.make_engine(tensors, self.clock), DEFAULT_OPTIONS
            kept.states, self.group_rules = own, group_rules
            self._activate(self.counts.active & kept.made)

    def make_states(self, numbers: Iterable[int]) -> None:
        """Make the states of those of some tensors that have none yet."""
        with self._rebuild_on_error():
            self._make_states([number for number in numbers if not self.kept.made[number]])

    def _make_states(self, numbers: list[int]) -> None:
        self.kept.make(numbers, self.engine.tensors, self.counts.steps)
        self.engine.on_states_made(numbers)
        self.kept.made[numbers] = True
        self.kept.times_made += 1

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
        return [others["ema"] for others in self.kept.others]

    def exact(self, number: int) -> np.ndarray:
        """Return a copy of a parameter's values in its compute dtype: of its master weight, where it has one."""
        return states.exact(self.storage, self.parameters.memories[number], self.kept.others[number])

    def slow_weights(self) -> list[Memory]:
        """Return the slow weights of all parameters."""
        return [others["slow"] for others in self.kept.others]

    def add_slow_weights(self, k: int, alpha: float) -> None:
        """Have slow weights from here on, as :class:`schuss.Lookahead` describes them.

        Raises
        ------
        RuntimeError, ValueError
            Where the parameters hold other values than those that are trained, or there are slow weights already.
        """
        with self.lock:
            self.parameters.swap.refuse("Lookahead()")
            if self.slow is not None:
                raise ValueError("Lookahead: this optimizer has slow weights already")
            slow = [
                states.copy_of_weights(self.kept.arena, self.storage, *pair)
                for pair in zip(self.parameters.memories, self.kept.others, strict=True)
            ]
            with self._rebuild_on_error():
                for others, memory in zip(self.kept.others, slow, strict=True):
                    others["slow"] = memory
                self.slow = SlowWeights(k, alpha, self.counts.steps)
            self.seen_edits = -1  # the engine has to know them
            self.take_in_edits()

    # --------------------------------------------------------------------------------------------- saving and loading

    def progress(self) -> Progress:
        """Return how far training has come, as a state dict has it."""
        from .state_dict import Progress  # here, for a short start

        steps = self.counts.steps
        return Progress(
            steps,
            self.storage.seed if self.storage.stochastic else None,
            None if self.slow is None else self.slow.phase(steps),
        )

    def tensor_states(self) -> list[TensorState]:
        """Return what a state dict has of every tensor."""
        return self.kept.saved(self.counts.histories(), self.engine.tensors)

    def restore(self, progress: Progress, checkpoint: Checkpoint) -> None:
        """Go on from a checked state dict."""
        with self._rebuild_on_error():
            self._make_states(self.kept.drop_missing(checkpoint))
            self.kept.load(checkpoint)
            self.storage = self.storage._replace(seed=progress.seed or 0)
            if self.slow is not None:
                self.slow = self.slow._replace(start=progress.steps - (progress.phase or 0))
            self.counts.restart(progress.steps, checkpoint.histories, self.kept.made.copy())
            self.engine.set_slots(self.counts.slots())
