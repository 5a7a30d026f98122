"""The optimizer: parameters, their states, and a step that moves all of them in one launch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from schuss_kernels.engine.interrupts import DeferInterrupt
from schuss_kernels.lang.convention import Conventions
from schuss_kernels.lang.rule import Rule
from schuss_kernels.storage.memory import Memory

from .core import arrays, backends, states
from .core.param_groups import ParamGroup, Select, choose_rule, option_defaults
from .core.parameters import Parameters
from .core.step_options import DEFAULT_OPTIONS, StepInfo, StepOptions
from .core.stepper import Stepper
from .core.storage_options import MIN_8BIT_SIZE, CommonOptions, storage_options
from .core.wrapper import OptimizerType

if TYPE_CHECKING:
    from .core.accumulation import GradientSums

# What few steps need (accumulation, state dicts, explain) is imported where it is used, for a short start.

ACCUMULATED: Any = object()
"""What :meth:`Optimizer.step` takes in place of gradients: what was accumulated."""


class Optimizer(metaclass=OptimizerType):
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
        named = option_defaults(type(self), Optimizer, CommonOptions.__annotations__)
        select, defaults = choose_rule(rule, named, options, type(self).__name__)
        backends.check(backend)
        threads = backends.checked_threads(threads)
        storage = storage_options(state_dtype, master, rounding, seed, ema, min_8bit_size)
        given = {**options, "maximize": maximize}
        parameters = Parameters(params, select, defaults, given, self._conventions)
        states.check_storage(storage, parameters.names, parameters.memories)
        copies: list[Memory | None] = [None] * len(parameters.names)
        if copy_to is not None:
            copies[:] = states.copies(parameters.match(copy_to, "copy_to"), parameters.names, parameters.memories)
        self.backend = backends.choose(backend, parameters.names, parameters.memories, parameters.rules())
        self._parameters = parameters
        self._stepper = Stepper(parameters, storage, copies, self.backend, backend != "auto", threads)
        self._sums: GradientSums | None = None  # of accumulate()

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
        stepper = self._stepper
        with stepper.lock:
            parameters = self._parameters
            if parameters.swap.reason:
                parameters.swap.refuse("step()")
            if grads is ACCUMULATED:
                return self._step_accumulated(grad_scale, clip_norm, clip_value, skip_nonfinite, stream)
            if self._sums is not None and self._sums.added:
                raise ValueError("step: there are accumulated gradients; step() without an argument takes them")
            gradients = grads if type(grads) is parameters.flat_type else parameters.match(grads)
            if stepper.seen_edits != stepper.edits.count:
                stepper.take_in_edits()
            if stream is not None or self.backend == "cuda":
                stepper.use_stream(stream)
            if grad_scale is None and clip_norm is None and clip_value is None and not skip_nonfinite and not zero_grad:
                return self._step(gradients, DEFAULT_OPTIONS)
            options = StepOptions.checked(grad_scale, clip_norm, clip_value, skip_nonfinite, zero_grad)
            return self._step(gradients, options)

    def _step(self, gradients: list[Any], options: StepOptions) -> StepInfo:
        """Make a step whose options are checked, with the lock held; an optimizer may override it to do more."""
        return self._stepper.step(gradients, options)

    def _step_accumulated(
        self, grad_scale: Any, clip_norm: Any, clip_value: Any, skip_nonfinite: Any, stream: Any
    ) -> StepInfo:
        stepper, sums = self._stepper, self._sums
        if sums is None or not sums.added:
            raise ValueError("step: no gradients were given, and none were accumulated")
        if stepper.seen_edits != stepper.edits.count:
            stepper.take_in_edits()
        stepper.use_stream(stream)
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
        parameters, stepper = self._parameters, self._stepper
        with stepper.lock:
            parameters.swap.refuse("accumulate()")
            gradients = parameters.match(grads)
            stepper.use_stream(stream)
            if self._sums is None:
                from .core.accumulation import GradientSums

                buffers = [stepper.kept.arena.array(p, states.compute_dtype(p), 0.0) for p in parameters.memories]
                self._sums = GradientSums(parameters.names, buffers, stepper.make_engine)
            self._sums.add(gradients, lambda: parameters.check_gradients(gradients), stream)

    # --------------------------------------------------------------------------------------------- what there is to see

    @property
    def steps(self) -> int:
        """Calls of :meth:`step` that moved something."""
        return self._stepper.counts.steps

    @property
    def param_groups(self) -> tuple[ParamGroup, ...]:
        """One dict a group; options can be changed between steps."""
        return self._parameters.groups

    @property
    def ema_params(self) -> Any:
        """The moving averages of the parameters (``ema=``), in the structure of the parameters: the arrays themselves.

        Raises
        ------
        RuntimeError
            When the optimizer keeps none.
        """
        return self._parameters.build(memory.array for memory in self._stepper.averages())

    @contextlib.contextmanager
    def use_ema(self) -> Iterator[None]:
        """Have the parameters hold their moving averages for the length of a ``with`` block, then themselves again.

        Raises
        ------
        RuntimeError
            When the optimizer keeps none, or inside another such block.
        """
        stepper, swap = self._stepper, self._parameters.swap
        ours = False  # a block inside another is refused, and must not end the other
        try:
            with stepper.lock:
                averages = stepper.averages()
                swap.refuse("use_ema()")
                values = [arrays.read(average) for average in averages]
                ours = True  # before, as Ctrl-C may come right after
                swap.swap_in(values, "inside use_ema(): the parameters hold their moving average")
            yield
        finally:
            if ours:
                with stepper.lock:
                    swap.swap_back()

    def explain(self) -> str:
        """What a step moves and what runs it, as text to print."""
        from .core.explain import explain

        stepper = self._stepper
        k = None if stepper.slow is None else stepper.slow.k
        return explain(stepper.engine, type(self).__name__, len(self.param_groups), self.steps, k)

    def __repr__(self) -> str:
        parameters = self._parameters.memories
        elements = sum(p.size for p in parameters)
        return f"<{type(self).__name__}: {len(parameters)} tensors, {elements:,} parameters, backend {self.backend}>"

    # --------------------------------------------------------------------------------------------- saving and loading

    def state_dict(self) -> dict[str, Any]:
        """Everything a later run needs to go on exactly here: plain dicts, lists, numbers and copies of the states.

        Keys are names: ``{"schuss": 1, "optimizer": "AdamW", "steps": 10, "param_groups": [{"lr": ..., "params":
        [names]}], "state": {name: {"step": 10, "exp_avg": array, ...}}}``. The parameters themselves are yours to save.
        A tensor that has had no gradient yet has no states.
        A learning rate that is a function is written as its repr, and has to be given to the new optimizer too.

        Raises
        ------
        RuntimeError
            When there are accumulated gradients, or the parameters hold other values than those that are trained.
        """
        from .core import state_dict

        parameters, stepper = self._parameters, self._stepper
        with stepper.lock:
            if stepper.seen_edits != stepper.edits.count:  # options may have chosen a rule with other states
                stepper.take_in_edits()
            parameters.swap.refuse("state_dict()")
            if self._sums is not None and self._sums.added:
                raise RuntimeError("state_dict(): there are accumulated gradients that no step has taken yet")
            names, tensors = parameters.names_by_group(), stepper.tensor_states()
            return state_dict.save(type(self).__name__, stepper.progress(), parameters.groups, names, tensors)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned; the next step continues bit for bit.

        Raises
        ------
        ValueError, TypeError
            When it does not fit: another optimizer, a newer format, other names, shapes or dtypes, a missing key. The
            optimizer is as it was then.
        """
        from .core import state_dict as state_dict_

        parameters, stepper, groups = self._parameters, self._stepper, self._parameters.groups
        with stepper.lock:
            parameters.swap.refuse("load_state_dict()")
            with DeferInterrupt():
                progress = state_dict_.check_progress(state_dict, type(self).__name__, stepper.progress())
                options = state_dict_.check_options(state_dict, groups, parameters.names_by_group())
                before = [group.options for group in groups]
                try:
                    for group, loaded in zip(groups, options, strict=True):
                        group.update(loaded)
                    state_dict_.check_rules(state_dict, groups)
                    stepper.take_in_edits()  # the rules that the options ask for have other states
                    checkpoint = state_dict_.check_tensors(state_dict, stepper.tensor_states())
                except BaseException:
                    for group, old in zip(groups, before, strict=True):
                        group.update(old)
                    stepper.take_in_edits()
                    raise
                stepper.restore(progress, checkpoint)

    def __reduce__(self) -> Any:
        raise TypeError("an optimizer holds memory addresses and cannot be pickled or copied; use state_dict()")
