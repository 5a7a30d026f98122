"""The optimizer: parameters, their states, and a step that moves all of them in one launch."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from schuss_kernels.engine.base import Engine
from schuss_kernels.engine.interrupts import DeferInterrupt
from schuss_kernels.lang.convention import Conventions
from schuss_kernels.lang.rule import Rule
from schuss_kernels.plan.tensor import Tensor
from schuss_kernels.storage.memory import Memory

from .core import arrays, backends, explain, tree
from .core import state_dict as state_dict_
from .core import states as states_
from .core.accumulation import GradientSums
from .core.arena import Arena
from .core.fork_lock import step_lock
from .core.lookahead import SlowWeights
from .core.overlap import AddressRanges, overlapping
from .core.param_groups import EditCount, ParamGroup, Select, as_groups, unknown_option, unwrapped
from .core.step_counts import History, StepCounts
from .core.step_options import DEFAULT_OPTIONS, MOVED, StepInfo, StepOptions
from .core.step_scalars import StepScalars
from .core.storage_options import MIN_8BIT_SIZE, CommonOptions, storage_options
from .core.weight_swap import WeightSwap

ACCUMULATED: Any = object()
"""What :meth:`Optimizer.step` takes in place of gradients: what was accumulated."""


class Optimizer:
    """Moves parameters along their gradients, by any rule.

    Parameters
    ----------
    params
        Writable float arrays (float64, float32, float16, ml_dtypes' bfloat16) in a list, tuple or dict, nested as you
        like, or one array; updated in place.
        Or parameter groups: ``[{"params": ..., "lr": 0.1}, {"params": ...}]``; what a group does not say comes from the
        arguments below. NumPy arrays of any strides, host tensors that speak DLPack (torch), device arrays that have
        ``__cuda_array_interface__``.
    rule
        A :class:`schuss.Rule`. (The named optimizers choose theirs.)
    maximize
        Go up the gradient instead of down.
    threads
        Threads a step may use, None for ``OMP_NUM_THREADS`` or, where that is not set, all cores this process may run
        on. Small steps stay on the calling thread. The result is the same, bit for bit.
    backend
        ``"auto"``: ``"cuda"`` for device arrays, else ``"native"`` (compiled ahead of time) where it has the kernels,
        else ``"numba"`` (compiled when first used). ``"numpy"`` runs the reference: slow, no compiler.
    state_dtype
        How states are kept: ``"float32"``, ``"bfloat16"``, ``"float16"`` (or the dtype), None: as they are computed.
        ``"8bit"``: as codes of 8 bits, with a float32 scale for every 256 (see
        :mod:`schuss_kernels.storage.quantization`).
        States that are weights themselves are always kept as they are computed.
    min_8bit_size
        Tensors of fewer elements keep their states as they are computed, where the others' are in 8 bits.
    master
        For 16-bit parameters: ``"float32"`` keeps a float32 weight beside each; ``"remainder"``, for bfloat16, only the
        16 bits that are missing in it (it is then rounded to nearest, ties away from zero).
    rounding
        Of what has 16 bits (or 8) and no master weight: ``"nearest"`` (ties to even), or ``"stochastic"``: up as often
        as the value lies near to it. The random bits come from ``seed``, the step and the element.
    seed
        Whole number from 0 to 2**64 - 1.
    ema
        Decay of a moving average of the parameters, in [0, 1), kept in the compute type: see :attr:`ema_params`.
    copy_to
        Arrays, in the structure of the parameters, that their new values are written to in every step, as computed:
        before they are rounded to a 16-bit parameter. Of the same shapes, any float dtype, dense, with the axes in
        memory in the same order.
    **options
        The rule's hyper-parameters. ``lr`` is a number or a function of the number of steps already made (see
        :mod:`schuss.schedules`).

    Raises
    ------
    TypeError, ValueError
        For arrays or options that cannot be used, naming them. Nothing is changed then.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = {"w": np.ones(3, np.float32)}
    >>> opt = schuss.SGD(w, lr=0.5)
    >>> info = opt.step({"w": np.ones(3, np.float32)})
    >>> w["w"]
    array([0.5, 0.5, 0.5], dtype=float32)
    """

    _conventions: ClassVar[Conventions] = Conventions()

    def __init__(
        self,
        params: Any,
        rule: Rule | Select,
        *,
        maximize: bool = False,
        threads: int | None = None,
        backend: str = "auto",
        state_dtype: Any = None,
        master: str | None = None,
        rounding: str = "nearest",
        seed: int = 0,
        ema: float | None = None,
        copy_to: Any = None,
        min_8bit_size: int = MIN_8BIT_SIZE,
        **options: Any,
    ) -> None:
        named = _defaults(type(self))
        if isinstance(rule, Rule):
            empty = inspect.Parameter.empty
            defaults = {name: named.get(name, own) if own is empty else own for name, own in rule.options.items()}
            select = _always(rule)
        elif callable(rule):
            named = named or dict.fromkeys(options, inspect.Parameter.empty)
            defaults, select = {name: named[name] for name in options if name in named}, rule
        else:
            raise TypeError(f"rule: expected a schuss.Rule, got {rule!r}")
        defaults = {**defaults, "maximize": False}
        unknown = [name for name in options if name not in defaults]
        if unknown:
            raise TypeError(unknown_option(unknown[0], defaults, type(self).__name__))
        backends.check(backend)
        whole = isinstance(threads, (int, np.integer)) and not isinstance(threads, bool)
        if threads is not None and not (whole and threads >= 1):
            raise ValueError(f"threads: expected a whole number of at least 1, or None; got {threads!r}")
        self._storage = storage_options(state_dtype, master, rounding, seed, ema, min_8bit_size)
        self._lock = step_lock()
        self._threads = None if threads is None else int(threads)
        self._clock = np.zeros(1, np.int64)  # raised by the engines, in the call that moves the tensors
        self._edits, self._seen = EditCount(), 0
        self._options = DEFAULT_OPTIONS
        self._sums: GradientSums | None = None
        self._slow: SlowWeights | None = None
        given = {**options, "maximize": maximize}
        groups, self._grouped = as_groups(params)
        self._groups = tuple(
            ParamGroup(i, select, defaults, {**given, **group}, self._edits, self._conventions)
            for i, group in enumerate(groups)
        )
        structures = [group["params"] for group in groups]
        self._node, self._names, leaves = tree.parse(structures if self._grouped else structures[0])
        self._as_given = list if tree.is_flat_list(self._node) else None  # gradients that need no matching
        self._group_of = [i for i, structure in enumerate(structures) for _ in tree.parse(structure)[1]]
        if not leaves:
            raise ValueError("params: there is no array to optimize")

        self._parameters = [arrays.parameter(leaf, name) for leaf, name in zip(leaves, self._names, strict=True)]
        self._swap = WeightSwap(self._parameters)
        clash = overlapping(self._parameters)
        if clash is not None:
            one, other = (self._names[number] for number in clash)
            raise ValueError(f"parameters {one!r} and {other!r} share memory; each would be updated twice in a step")
        states_.check(self._storage, self._names, self._parameters)
        copies = self._copies(copy_to)
        self._spans = AddressRanges(self._parameters, self._names)
        rules = [self._rule_for(number) for number in range(len(leaves))]
        self.backend, self._strict = backends.choose(backend, self._names, self._parameters, rules), backend != "auto"
        self._arena = Arena()
        self._states: list[dict[str, Memory]] = [{} for _ in leaves]
        self._others = [
            states_.beside(self._arena, self._storage, *pair) for pair in zip(self._parameters, copies, strict=True)
        ]
        self._counts = StepCounts(self._clock, self._group_of, [states_.compute(p) for p in self._parameters])
        self._numbers = StepScalars(self._counts)
        self._rebuild_engine()
        self._look_at_groups()

    # ---------------------------------------------------------------------------------------------------- stepping

    def step(
        self,
        grads: Any = ACCUMULATED,
        *,
        grad_scale: float | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        skip_nonfinite: bool = False,
        zero_grad: bool = False,
        stream: Any = None,
    ) -> StepInfo:
        """Move every parameter by one step, in place.

        Parameters
        ----------
        grads
            The structure of the parameters (for groups: a list with one structure a group), float arrays of the
            parameters' shapes, of any of the dtypes there are, any strides. None in place of an array: that tensor has
            no gradient this step; it and its states are left alone and its own step count stays.
        grad_scale
            Multiplies every gradient, in the same pass: ``1 / 65536`` takes a loss scale away.
        clip_norm
            Scales all gradients down where the 2-norm of all of them together (after ``grad_scale``) is larger: by
            ``clip_norm / (norm + 1e-6)``, as torch does. Costs one more pass, over the gradients, that only reads.
        clip_value
            Limits every element of the gradients, after ``grad_scale`` and ``clip_norm``, to ``-clip_value`` and
            ``clip_value``.
        skip_nonfinite
            Do nothing where an element of a gradient is infinite or NaN (one more reading pass, shared with
            ``clip_norm``): nothing is changed then, and the step is not counted.
        zero_grad
            Set the gradients to zero as they are read.
        stream
            For device arrays: the CUDA stream to launch on (a handle, or a stream of torch, CuPy, numba or cuda.core),
            None for the default stream. The step is queued; whoever reads the parameters on another stream waits.

        Returns
        -------
        StepInfo
            ``grad_norm``: the norm of the gradients after ``grad_scale``, None where neither ``clip_norm`` nor
            ``skip_nonfinite`` asked for it. ``skipped``: whether ``skip_nonfinite`` left everything as it was.

        Raises
        ------
        TypeError, ValueError
            When the structure, an array or an option does not fit. No parameter and no state is changed then.
        """
        with self._lock:
            if self._swap.why:
                self._swap.refuse("step()")
            if grads is ACCUMULATED:
                return self._step_accumulated(grad_scale, clip_norm, clip_value, skip_nonfinite, stream)
            if self._sums is not None and self._sums.added:
                raise ValueError("step: there are accumulated gradients; step() without an argument takes them")
            gradients = grads if type(grads) is self._as_given else self._match(grads)
            if self._edits.count != self._seen:
                self._look_at_groups()
            if stream is not None or self.backend == "cuda":
                self._use_stream(stream)
            if grad_scale is None and clip_norm is None and clip_value is None and not skip_nonfinite and not zero_grad:
                return self._step(gradients, DEFAULT_OPTIONS)
            options = StepOptions.checked(grad_scale, clip_norm, clip_value, skip_nonfinite, zero_grad)
            return self._step(gradients, options)

    def _step_accumulated(
        self, grad_scale: Any, clip_norm: Any, clip_value: Any, skip_nonfinite: Any, stream: Any
    ) -> StepInfo:
        sums = self._sums
        if sums is None or not sums.added:
            raise ValueError("step: no gradients were given, and none were accumulated")
        if self._edits.count != self._seen:
            self._look_at_groups()
        if stream is not None or self.backend == "cuda":
            self._use_stream(stream)
        options = StepOptions.checked(grad_scale, clip_norm, clip_value, skip_nonfinite, True)
        with DeferInterrupt():
            info = self._step(sums.gradients(), options)
            if info.skipped:  # they would be infinite for ever
                for buffer in sums.buffers:
                    arrays.write(buffer, np.zeros(buffer.shape, buffer.dtype))
            sums.forget()
        return info

    def accumulate(self, grads: Any, *, stream: Any = None) -> None:
        """Add the gradients of a micro-batch to a sum that ``step()``, without an argument, takes and sets to zero.

        The sum is in float32 (float64 for float64 parameters), whatever the gradients are in; one pass for all tensors.
        ``grad_scale=1 / n`` of the step makes a mean of it. Arguments and errors are those of :meth:`step`; None in
        place of an array adds nothing.
        """
        with self._lock:
            self._swap.refuse("accumulate()")
            gradients = self._match(grads)
            if stream is not None or self.backend == "cuda":
                self._use_stream(stream)
            if self._sums is None:
                buffers = [self._arena.array(p, states_.compute(p), 0.0) for p in self._parameters]
                self._sums = GradientSums(self._names, buffers, self._make_engine)
            self._sums.add(gradients, lambda: self._looked_at(gradients, False), stream)

    @property
    def ema_params(self) -> Any:
        """The moving averages of the parameters (``ema=``), in the structure of the parameters: the arrays themselves.

        Raises
        ------
        RuntimeError
            When the optimizer keeps none.
        """
        return tree.built(self._node, [memory.array for memory in self._averages()])

    @contextlib.contextmanager
    def use_ema(self) -> Iterator[None]:
        """Have the parameters hold their moving averages for the length of a ``with`` block, then themselves again.

        Raises
        ------
        RuntimeError
            When the optimizer keeps none, or inside another such block.
        """
        ours = False  # a block inside another is refused, and must not end the other
        try:
            with self._lock:
                averages = self._averages()
                self._swap.refuse("use_ema()")
                values = [arrays.read(average) for average in averages]
                ours = True  # before, as Ctrl-C may come right after
                self._swap.put(values, "inside use_ema(): the parameters hold their moving average")
            yield
        finally:
            if ours:
                with self._lock:
                    self._swap.back()

    def _averages(self) -> list[Memory]:
        if self._storage.ema is None:
            raise RuntimeError("this optimizer keeps no moving average of the parameters; build it with ema=0.999")
        return [others["ema"] for others in self._others]

    def _step(self, gradients: list[Any], options: StepOptions) -> StepInfo:
        self._configure(options)
        if self._slow is not None:
            self._engine.sync_slow_weights(self._slow.meets(self.steps))
        if self._numbers.measures or (options is not DEFAULT_OPTIONS and options.needs_grad_norm):
            return self._step_with_norm(gradients, options)
        self._numbers.prepare(self._engine, options.scale, options.clip_value)
        if not self._engine.try_step(gradients):
            placed = self._place_checked(gradients)  # held until the launch is over
            if placed:
                self._numbers.prepare(self._engine, options.scale, options.clip_value)  # of other tensors, maybe
                self._engine.launch()
        return MOVED

    @property
    def steps(self) -> int:
        """Calls of :meth:`step` that moved something."""
        return self._counts.steps

    @property
    def param_groups(self) -> tuple[ParamGroup, ...]:
        """One dict a group; options can be changed between steps."""
        return self._groups

    def _use_stream(self, stream: Any) -> None:
        if self.backend == "cuda":
            self._engine.stream = stream
        elif stream is not None:
            raise TypeError(f"stream: backend {self.backend!r} has no streams; expected None, got {stream!r}")

    def _match(self, grads: Any) -> list[Any]:
        if self._grouped and isinstance(grads, (list, tuple)) and grads:
            grads = unwrapped(grads)
        return tree.match(self._node, grads)

    def _configure(self, options: StepOptions) -> None:
        if options is not self._options:
            with self._rebuild_on_error():
                self._engine.configure(options.clip_value is not None, options.zero_grad, options.needs_grad_norm)
                self._options = options

    def _before_update(self) -> None:
        """What an optimizer does besides, once :meth:`_step_with_norm` has found nothing against the step."""

    def _step_with_norm(self, gradients: list[Any], options: StepOptions) -> StepInfo:
        """A step that has to look at the gradients first: at their norm, or at what a rule measures."""
        norm, scale = None, options.scale
        placed = list(gradients)  # for the length of the step: others may change the caller's list
        if not self._engine.try_set_gradients(placed):
            placed = self._place_checked(placed)
            if not placed:
                return StepInfo(0.0 if options.needs_grad_norm else None, False)
        if options.needs_grad_norm:
            squares, finite = self._engine.squares()
            norm = math.sqrt(squares) * abs(scale)
            if options.skip_nonfinite and not finite:
                return StepInfo(norm, True)
            scale *= options.coefficient(norm)
        self._before_update()
        self._numbers.prepare(self._engine, scale, options.clip_value)
        if self._engine.two_pass_table is not None:
            self._engine.step_two_pass()
            return StepInfo(norm, False)
        if self._numbers.measures:
            self._numbers.measure(self._engine)
        self._engine.launch()
        return StepInfo(norm, False)

    def _place_checked(self, gradients: list[Any]) -> list[Any]:
        """What the engine could not take at once: look at every gradient and place it. Those that there are, to be held
        until the step is made: a number, as ``numpy.float64`` is one, lies in an array that nobody else holds."""
        if self._as_given is not None:  # they are as the caller gave them
            gradients = self._match(gradients)
        memories = self._looked_at(gradients, self._options.zero_grad)
        active = [number for number, memory in enumerate(memories) if memory is not None]
        if not active:
            return []
        if self._options.zero_grad:
            clash = overlapping([memory for memory in memories if memory is not None])
            if clash is not None:
                one, other = (self._names[active[number]] for number in clash)
                raise ValueError(f"zero_grad: the gradients of {one!r} and {other!r} share memory; pass a copy of one")
        with self._rebuild_on_error():
            if active != self._counts.active():
                self._restart(self.steps, self._counts.histories(), active)
            self._engine.set_gradients(memories)
        return [memories[number] for number in active]

    @contextlib.contextmanager
    def _rebuild_on_error(self) -> Iterator[None]:
        """Where an error, or Ctrl-C, ends what is done inside, the next step builds the engine anew."""
        seen, self._seen = self._seen, -1
        yield
        self._seen = seen

    def _looked_at(self, gradients: list[Any], written: bool) -> list[Memory | None]:
        """The gradients, checked."""
        memories = [
            None if g is None else arrays.gradient(g, name, p, written)
            for g, name, p in zip(gradients, self._names, self._parameters, strict=True)
        ]
        self._spans.refuse_overlap(memories)
        return memories

    def _look_at_groups(self) -> None:
        """Take in what was changed in the groups since the last step."""
        seen = self._edits.count
        pairs = zip(self._groups, self._rules, strict=False)  # the rules go on with those that groups leave tensors to
        if self._seen < 0 or any(group.rule is not rule for group, rule in pairs):
            self._rebuild_engine()
        groups = [self._groups[number] for number, _ in self._forms]
        self._numbers.look(groups, self._rules, self._storage, 0.0 if self._slow is None else self._slow.share)
        self._seen = seen

    # ------------------------------------------------------------------------------------------- tensors and blocks

    def _rebuild_engine(self) -> None:
        """Build the engine for the rules that the groups' options choose now; states there are, stay."""
        options = [group.options_at(self.steps) for group in self._groups]
        forms = {(number, group.rule): number for number, group in enumerate(self._groups)}
        form_of, tensors, made = [], [], []
        for number, (name, parameter, held) in enumerate(zip(self._names, self._parameters, self._states, strict=True)):
            group, rule = self._group_of[number], self._rule_for(number)
            form_of.append(forms.setdefault((group, rule), len(forms)))
            states = dict(held)
            for field, value in zip(rule.State._fields, rule.initial_state(options[group]), strict=True):
                if field not in states or states[field].shape != states_.state_shape(rule, field, parameter):
                    states[field] = states_.state(self._arena, self._storage, parameter, rule, field, value)
            made.append(states)
            fields = tuple(states[field] for field in rule.State._fields)
            kept = self._storage
            tensors.append(
                Tensor(
                    name, rule, parameter, fields, *states_.expected_gradient(parameter),
                    others=self._others[number], master=kept.master, stochastic=kept.stochastic,
                )
            )  # fmt: skip
        rules = [rule for _, rule in forms]
        with self._rebuild_on_error():
            over = [None if rule.measure is None else rule.over for rule in rules]
            self._counts.separate(
                form_of, [over[form] == "tensor" for form in form_of], [over[form] == "all" for form in form_of]
            )
            self._engine, self._options = self._make_engine(tensors, self._clock), DEFAULT_OPTIONS
            self._states, self._forms, self._rules = made, list(forms), rules
            self._engine.set_slots(self._counts.slots())

    def _rule_for(self, number: int) -> Rule:
        """The rule that moves a tensor: its group's, or the one that this leaves the tensor to."""
        rule, shape = self._groups[self._group_of[number]].rule, self._parameters[number].shape
        found = rule.rule_for_shape(shape)
        if found is None:
            name = self._names[number]
            raise ValueError(f"parameter {name!r}: the rule {rule.name!r} takes no array of shape {shape}")
        return found

    def _look_ahead(self, every: int, share: float) -> None:
        """Keep slow weights from here on: what :class:`schuss.Lookahead` does."""
        with self._lock:
            self._swap.refuse("Lookahead()")
            if self._slow is not None:
                raise ValueError("Lookahead: this optimizer has slow weights already")
            slow = [
                states_.weights(self._arena, self._storage, *pair)
                for pair in zip(self._parameters, self._others, strict=True)
            ]
            with self._rebuild_on_error():
                for others, memory in zip(self._others, slow, strict=True):
                    others["slow"] = memory
                self._slow = SlowWeights(every, share, self.steps)
            self._seen = -1  # the engine has to know them
            self._look_at_groups()

    def _copies(self, copy_to: Any) -> list[Memory | None]:
        if copy_to is None:
            return [None] * len(self._names)
        grouped = self._grouped and isinstance(copy_to, (list, tuple))
        given = tree.match(self._node, unwrapped(copy_to) if grouped else copy_to, "copy_to")
        return states_.copies(given, self._names, self._parameters)

    def _make_engine(self, tensors: list[Tensor], clock: np.ndarray) -> Engine:
        return backends.engine(self.backend, tensors, clock, self._threads, self._strict)

    def _restart(self, made: int, histories: Sequence[History], active: Sequence[int] | None = None) -> None:
        """Set the steps made, every tensor's history, and which tensors have gradients (all, where not given)."""
        with self._rebuild_on_error():
            self._counts.restart(made, histories, active)
            self._engine.set_slots(self._counts.slots())

    # ------------------------------------------------------------------------------------------------ looking inside

    def state_dict(self) -> dict[str, Any]:
        """Everything a later run needs to go on exactly here: plain dicts, lists, numbers and copies of the states.

        Keys are names: ``{"schuss": 1, "optimizer": "AdamW", "steps": 10, "param_groups": [{"lr": ..., "params":
        [names]}], "state": {name: {"step": 10, "exp_avg": array, ...}}}``. The parameters themselves are yours to save.
        A learning rate that is a function is written as its repr, and has to be given to the new optimizer too.
        """
        with self._lock:
            if self._edits.count != self._seen:  # options may have chosen a rule with other states
                self._look_at_groups()
            return state_dict_.save(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned; the next step continues bit for bit.

        Raises
        ------
        ValueError, TypeError
            When it does not fit: another optimizer, a newer format, other names, shapes or dtypes, a missing key. The
            optimizer is as it was then.
        """
        with self._lock:
            self._swap.refuse("load_state_dict()")
            with DeferInterrupt():
                state_dict_.load(self, state_dict)

    def explain(self) -> str:
        """What a step moves and what runs it, as text to print."""
        return explain.explain(self)

    def __repr__(self) -> str:
        elements = sum(p.size for p in self._parameters)
        return f"<{type(self).__name__}: {len(self._names)} tensors, {elements:,} parameters, backend {self.backend}>"

    def __reduce__(self) -> Any:
        raise TypeError("an optimizer holds memory addresses and cannot be pickled or copied; use state_dict()")


def _always(rule: Rule) -> Select:
    return lambda **_: rule


def _defaults(cls: type) -> dict[str, Any]:
    """The hyper-parameters of an optimizer class and their defaults: what its constructors name, but for ours."""
    found: dict[str, Any] = {}
    for base in cls.__mro__[: cls.__mro__.index(Optimizer)]:
        for parameter in inspect.signature(base.__init__).parameters.values():  # type: ignore[misc]
            plain = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if plain and parameter.name not in ("self", "params", *CommonOptions.__annotations__):
                found.setdefault(parameter.name, parameter.default)
    return found
