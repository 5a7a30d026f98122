"""The optimizer: parameters, their states, and a step that moves all of them in one launch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from schuss_kernels.engine.interrupts import DeferInterrupt
from schuss_kernels.lang.convention import Conventions
from schuss_kernels.lang.rule import Rule

from .core import arrays, backends, states
from .core.fork_lock import refuse_reentry
from .core.param_groups import ParamGroup, Select, choose_rule, kept_on_success, option_defaults
from .core.parameters import Parameters
from .core.step_options import DEFAULT_OPTIONS, StepInfo, StepOptions
from .core.stepper import Stepper
from .core.storage_options import MIN_8BIT_SIZE, CommonOptions, storage_options
from .core.weight_swap import Block, SwapBlock
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
        like, or one array; updated in place. A new array under an old name is not seen by steps: see :attr:`params`.
        Or parameter groups: ``[{"params": ..., "lr": 0.1}, {"params": ...}]``; what a group does not say comes from the
        arguments below. NumPy arrays of any strides, host tensors that speak DLPack (torch), device arrays that have
        ``__cuda_array_interface__``. (bfloat16 on the host, torch's too, needs ml_dtypes.)
    rule
        A :class:`schuss.Rule`. (The named optimizers choose theirs.)
    maximize
        Go up the gradient instead of down.
    threads
        Threads a step may use, at most the cores this process may run on. None: ``OMP_NUM_THREADS`` or, where that is
        not set, all these cores, or what a container's CPU quota allows; no more than ``torch.set_num_threads`` says,
        where torch is loaded. Small steps stay on the calling thread. The result is the same, bit for bit.
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
        16 bits that are missing in it (it is then rounded to nearest, ties away from zero). Steps go on from these, so
        that other weights written into the parameters count only after :meth:`reload_params`.
    rounding
        Of what has 16 bits (or 8) and no master weight: ``"nearest"`` (ties to even), or ``"stochastic"``: up as often
        as the value lies near to it. The random bits come from ``seed``, the step and the element.
    seed
        Whole number from 0 to 2**64 - 1.
    ema
        Decay of a moving average of the parameters, in [0, 1), kept in the compute type: see :attr:`ema_params`. It is
        of all parameters after every step, of those without a gradient too.
    copy_to
        Arrays, in the structure of the parameters, that their values are written to at once, and in every step that
        changes them, as computed: before they are rounded to a 16-bit parameter. Of the same shapes, any float dtype,
        dense, with the axes in memory in the same order.
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
        copies = states.copies(parameters, copy_to)
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
            Multiplies every gradient, in the same pass: ``1 / 65536`` takes a loss scale away. A number that float32
            has, where the parameters are no float64 ones.
        clip_norm
            Scales all gradients down where the 2-norm of all of them together (after ``grad_scale``) is larger: by
            ``clip_norm / (norm + 1e-6)``, as torch does. Costs one more pass, over the gradients, that only reads.
            Above 0; infinity measures the norm and scales nothing.
        clip_value
            Limits every element of the gradients, after ``grad_scale`` and ``clip_norm``, to ``-clip_value`` and
            ``clip_value``.
        skip_nonfinite
            Do nothing where an element of a gradient is infinite or NaN, as it is or once it is multiplied (one more
            reading pass, shared with ``clip_norm``): nothing is changed then but what ``zero_grad`` sets to zero, and
            the step is not counted.
        zero_grad
            Set the gradients to zero as they are read; where the step is skipped, too.
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
            When the structure, an array or an option does not fit, or a parameter (or array of ``copy_to``) was resized
            in place or made read-only. No parameter and no state is changed then.
        """
        stepper = self._stepper
        if stepper.lock._is_owned():  # as locked("step()"), but without the call
            refuse_reentry(stepper.lock, "step()")
        with stepper.lock:
            parameters = self._parameters
            if parameters.swap.reason:
                parameters.swap.refuse("step()")
            if grads is ACCUMULATED:
                return self._step_accumulated(grad_scale, clip_norm, clip_value, skip_nonfinite, stream)
            if self._sums is not None and self._sums.added:
                raise ValueError("step: there are accumulated gradients; take them by step() or discard_accumulated()")
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
            info = self._step(sums.gradients(), options)  # which sets them to zero, skipped or not
            sums.forget()
        return info

    def accumulate(self, grads: Any, *, stream: Any = None) -> None:
        """Add the gradients of a micro-batch to a sum that ``step()``, without an argument, takes and sets to zero.

        The sum is in float32 (float64 for float64 parameters), whatever the gradients are in; one pass for all tensors.
        ``grad_scale=1 / n`` of the step makes a mean of it. Arguments and errors are those of :meth:`step`; None in
        place of an array adds nothing.
        """
        parameters, stepper = self._parameters, self._stepper
        with stepper.locked("accumulate()"):
            parameters.swap.refuse("accumulate()")
            gradients = parameters.match(grads)
            stepper.use_stream(stream)
            self._gradient_sums().add(gradients, lambda: parameters.check_gradients(gradients), stream)

    def discard_accumulated(self) -> None:
        """Drop what :meth:`accumulate` has added up since the last step."""
        with self._stepper.locked("discard_accumulated()"):
            if self._sums is not None:
                self._sums.set({})

    def _gradient_sums(self) -> GradientSums:
        """Return the sums of the gradients, which are made when they are first needed."""
        if self._sums is None:
            from .core.accumulation import GradientSums

            parameters, stepper = self._parameters, self._stepper
            self._sums = GradientSums(parameters.names, parameters.memories, stepper.stored.arena, stepper.make_engine)
        return self._sums

    # --------------------------------------------------------------------------------------------- what there is to see

    @property
    def steps(self) -> int:
        """Calls of :meth:`step` that moved something."""
        return self._stepper.counts.steps

    @property
    def params(self) -> Any:
        """The arrays that are updated, in their structure: those that the optimizer was built with.

        ``params["w"] = params["w"] * 2`` puts a new array into the caller's dict, which no step ever writes: change
        values in place (``params["w"][...] = loaded``), and call :meth:`reload_params` after.
        """
        return self._parameters.build(self._parameters.arrays)

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

    def use_ema(self) -> AbstractContextManager[None]:
        """Have the parameters hold their moving averages for the length of a ``with`` block, then themselves again.

        Whatever ends the block: an exception, or a signal's handler that raises.

        Raises
        ------
        RuntimeError
            When the optimizer keeps none, or inside another such block.
        """
        return SwapBlock(self._parameters.swap, self._stepper.lock, self._swap_in_averages)

    def _swap_in_averages(self, block: Block) -> None:
        stepper, swap = self._stepper, self._parameters.swap
        with stepper.locked("use_ema()"):
            averages = stepper.averages()
            swap.refuse("use_ema()")
            values = [arrays.read(average) for average in averages]
            swap.swap_in(values, "inside use_ema(): the parameters hold their moving average", block)

    def reload_params(self) -> None:
        """Take the parameters as they are now, after other weights were written into their arrays.

        What an optimizer keeps of the weights beside them becomes a copy of the parameters, as when it was built:
        master weights, moving averages, slow weights (:class:`schuss.Lookahead`), what ``copy_to`` names, and states
        that start as the parameter (schedule-free ``z``, ASGD's average, the points that DoG and Prodigy measure from).
        Without this the next step writes the old master weights back. Momentum, step counts and accumulated gradients
        stay. (FTRL, COCOB and MADGRAD make weights anew out of sums of gradients: build another optimizer there.) Not
        needed where ``load_state_dict`` takes the state that was saved with the weights.

        Raises
        ------
        RuntimeError
            While the parameters hold other values than those that are trained (``use_ema()``, ``eval()``).
        """
        with self._stepper.locked("reload_params()"):
            self._parameters.swap.refuse("reload_params()")
            self._stepper.reload_params()

    def explain(self) -> str:
        """What a step moves and what runs it, as text to print."""
        with DeferInterrupt():  # a signal's handler would find half a module
            from .core.explain import explain

        k = None if self._stepper.slow is None else self._stepper.slow.k
        return explain(self._stepper.engine, type(self).__name__, len(self.param_groups), self.steps, k)

    def __repr__(self) -> str:
        parameters = self._parameters.memories
        elements = sum(p.size for p in parameters)
        return f"<{type(self).__name__}: {len(parameters)} tensors, {elements:,} parameters, backend {self.backend}>"

    # --------------------------------------------------------------------------------------------- saving and loading

    def state_dict(self) -> dict[str, Any]:
        """Everything a later run needs to go on exactly here: plain dicts, lists, numbers and copies of the states.

        Keys are names: ``{"schuss": 1, "optimizer": "AdamW", "steps": 10, "param_groups": [{"lr": ..., "params":
        [names]}], "state": {name: {"step": 10, "exp_avg": array, ...}}}``. The parameters themselves are yours to save.
        A tensor that has had no gradient yet has no states. A learning rate that is a function is written as its repr,
        and has to be given to the new optimizer too.
        Gradients that were accumulated and that no step has taken yet are there as ``"accumulated": {name: sum}``.

        Raises
        ------
        RuntimeError
            When the parameters hold other values than those that are trained.
        """
        parameters, stepper = self._parameters, self._stepper
        with stepper.locked("state_dict()"):
            from .core import state_dict  # inside: a signal's handler would find half a module

            if stepper.seen_edits != stepper.edits.count:  # options may have chosen a rule with other states
                stepper.take_in_edits()
            parameters.swap.refuse("state_dict()")
            names, tensors = parameters.names_by_group(), stepper.tensor_states()
            saved = state_dict.save(type(self).__name__, stepper.progress(), parameters.groups, names, tensors)
            if self._sums is not None and self._sums.added:
                saved["accumulated"] = self._sums.values()
            return saved

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned; the next step continues bit for bit.

        Tensors and their states are found by name: another order of the names is the same state dict. Numbers that
        NumPy's files have made 0-d arrays of are numbers. The options of the groups become the saved ones. These stay
        as they are, and a UserWarning tells where they were others: a learning rate that is a function (it is compared
        by its repr), ``k`` and ``alpha`` of Lookahead, the decay of the moving average.

        Gradients that were accumulated before are dropped for those in the state dict. What ``copy_to`` names becomes
        a copy of the parameters; load them first.

        Raises
        ------
        ValueError, TypeError
            When it does not fit: another optimizer, a newer format, other names, shapes or dtypes, a missing key. The
            optimizer is as it was then.
        """
        parameters, stepper, groups = self._parameters, self._stepper, self._parameters.groups
        with stepper.locked("load_state_dict()"):
            from .core import state_dict as state_dict_

            parameters.swap.refuse("load_state_dict()")
            with DeferInterrupt():
                progress = state_dict_.check_progress(state_dict, type(self).__name__, stepper.progress())
                options = state_dict_.check_options(state_dict, groups, parameters.names_by_group())
                sums = state_dict_.check_accumulated(state_dict, parameters.names, parameters.memories)
                with kept_on_success(groups, options, stepper.take_in_edits):
                    state_dict_.check_rules(state_dict, groups)
                    stepper.take_in_edits()  # the rules that the options ask for have other states
                    checkpoint = state_dict_.check_tensors(state_dict, stepper.tensor_states())
                stepper.restore(progress, checkpoint)
                if sums or self._sums is not None:
                    self._gradient_sums().set(sums)

    def __reduce__(self) -> Any:
        raise TypeError("an optimizer holds memory addresses and cannot be pickled or copied; use state_dict()")
