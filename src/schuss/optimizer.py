"""The optimizer: parameters, their states, and a step that moves all of them in one launch."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from schuss_kernels import plan
from schuss_kernels.engine import Engine, Memory, Tensor
from schuss_kernels.rule import Rule
from schuss_kernels.storage import storage_of

from . import arrays, report, state, tree
from .forks import step_lock
from .groups import Edits, ParamGroup, Select, unknown_option

BACKENDS = ("auto", "native", "numba", "numpy", "cuda")


@dataclass
class _Block:
    """Tensors of one group that have made the same number of steps, and so share their scalars.

    ``step``: steps they had made when the optimizer's clock stood at ``_since``.
    """

    group: int
    step: int
    members: list[int]
    kinds: list[np.dtype]

    @property
    def slot(self) -> int:
        return self.members[0]


class Optimizer:
    """Moves parameters along their gradients, by any rule.

    Parameters
    ----------
    params
        Writable float32 or float64 arrays in a list, tuple or dict, nested as you like, or one array; updated in place.
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
    >>> opt.step({"w": np.ones(3, np.float32)})
    >>> w["w"]
    array([0.5, 0.5, 0.5], dtype=float32)
    """

    def __init__(
        self,
        params: Any,
        rule: Rule | Select,
        *,
        maximize: bool = False,
        threads: int | None = None,
        backend: str = "auto",
        **options: Any,
    ) -> None:
        if isinstance(rule, Rule):
            defaults, select = rule.options, _always(rule)
        elif callable(rule):
            defaults, select = {name: _default(type(self), name) for name in options}, rule
        else:
            raise TypeError(f"rule: expected a schuss.Rule, got {rule!r}")
        defaults = {**defaults, "maximize": False}
        unknown = [name for name in options if name not in defaults]
        if unknown:
            raise TypeError(unknown_option(unknown[0], defaults, type(self).__name__))
        if backend not in BACKENDS:
            raise ValueError(f"backend: expected one of {', '.join(map(repr, BACKENDS))}, got {backend!r}")
        whole = isinstance(threads, (int, np.integer)) and not isinstance(threads, bool)
        if threads is not None and not (whole and threads >= 1):
            raise ValueError(f"threads: expected a whole number of at least 1, or None; got {threads!r}")
        self._lock = step_lock()
        self._threads = None if threads is None else int(threads)
        self._clock = np.zeros(1, np.int64)  # raised by the engines, in the call that moves the tensors
        self._since = self._steps_then = 0  # where the clock stood when the blocks were made, and the steps made then
        self._edits = Edits()

        given = {**options, "maximize": maximize}
        groups, self._grouped = _groups(params)
        self._groups = tuple(
            ParamGroup(i, select, defaults, {**given, **group}, self._edits) for i, group in enumerate(groups)
        )
        structures = [group["params"] for group in groups]
        self._node, self._names, leaves = tree.parse(structures if self._grouped else structures[0])
        self._as_given = list if tree.is_flat_list(self._node) else None  # gradients that need no matching
        self._group_of = [i for i, structure in enumerate(structures) for _ in tree.parse(structure)[1]]
        if not leaves:
            raise ValueError("params: there is no array to optimize")

        self._parameters = [arrays.parameter(leaf, name) for leaf, name in zip(leaves, self._names, strict=True)]
        clash = arrays.overlapping(self._parameters)
        if clash is not None:
            one, other = (self._names[number] for number in clash)
            raise ValueError(f"parameters {one!r} and {other!r} share memory; each would be updated twice in a step")
        spans = [[p.address + edge for edge in p.extent()] for p in self._parameters]
        order = sorted(range(len(spans)), key=spans.__getitem__)
        self._spans = *np.array(spans, np.int64)[order].T, order  # first bytes, ends and numbers, by address
        self.backend, self._strict = self._choose(backend), backend != "auto"
        self._states: list[dict[str, Memory]] = [{} for _ in leaves]
        self._blocks = self._partition(range(len(leaves)), [0] * len(leaves))
        self._idle: list[_Block] = []
        self._adapt()
        self._look_at_groups()

    # ---------------------------------------------------------------------------------------------------- stepping

    def step(self, grads: Any, *, stream: Any = None) -> None:
        """Move every parameter by one step, in place.

        Parameters
        ----------
        grads
            The structure of the parameters (for groups: a list with one structure a group), float32 or float64 arrays
            of the parameters' shapes, any strides. None in place of an array: that tensor has no gradient this step; it
            and its states are left alone and its own step count stays.
        stream
            For device arrays: the CUDA stream to launch on (a handle, or a stream of torch, CuPy, numba or cuda.core),
            None for the default stream. The step is queued; whoever reads the parameters on another stream waits.

        Raises
        ------
        TypeError, ValueError
            When the structure or an array does not fit. No parameter and no state is changed then.
        """
        with self._lock:
            gradients = grads if type(grads) is self._as_given else self._match(grads)
            if self._edits.count != self._seen:
                self._look_at_groups()
            if stream is not None or self.backend == "cuda":
                self._use_stream(stream)
            self._prepare()
            if not self._engine.try_step(gradients):
                self._step_checked(self._match(gradients) if gradients is grads else gradients)

    @property
    def steps(self) -> int:
        """Calls of :meth:`step` that moved something."""
        return self._steps_then + self._elapsed()

    @property
    def param_groups(self) -> tuple[ParamGroup, ...]:
        """One dict a group; options can be changed between steps."""
        return self._groups

    def _elapsed(self) -> int:
        """Steps made since the blocks were."""
        return self._clock.item() - self._since

    def _use_stream(self, stream: Any) -> None:
        if self.backend == "cuda":
            self._engine.stream = stream
        elif stream is not None:
            raise TypeError(f"stream: backend {self.backend!r} has no streams; expected None, got {stream!r}")

    def _match(self, grads: Any) -> list[Any]:
        if self._grouped and isinstance(grads, (list, tuple)) and grads:
            grads = [g["params"] if isinstance(g, Mapping) and set(g) == {"params"} else g for g in grads]
        return tree.match(self._node, grads)

    def _step_checked(self, gradients: list[Any]) -> None:
        """The way of a step that the engine could not take at once: every gradient is looked at."""
        memories = [
            None if g is None else arrays.gradient(g, name, p)
            for g, name, p in zip(gradients, self._names, self._parameters, strict=True)
        ]
        self._refuse_overlap(memories)
        active = [number for number, memory in enumerate(memories) if memory is not None]
        if not active:
            return
        if active != sorted(number for block in self._blocks for number in block.members):
            self._restart(self._tensor_steps(), active)
            self._prepare()
        self._engine.step(memories)

    def _look_at_groups(self) -> None:
        """Take in what was changed in the groups since the last step."""
        seen = self._edits.count
        if any(group.rule is not rule for group, rule in zip(self._groups, self._rules, strict=True)):
            self._adapt()
        self._options = [group.scalar_options for group in self._groups]
        self._scales = [-1.0 if group["maximize"] else 1.0 for group in self._groups]
        self._scheduled = [number for number, group in enumerate(self._groups) if callable(group.get("lr"))]
        self._seen = seen

    def _prepare(self) -> None:
        """Give the engine the numbers of the next step."""
        elapsed, options = self._elapsed(), self._options
        if self._scheduled:
            options = options.copy()
            for number in self._scheduled:
                rate = self._groups[number].learning_rate(self._steps_then + elapsed)
                options[number] = {**options[number], "lr": rate}
        for block in self._blocks:
            group, step = block.group, block.step + elapsed + 1
            self._engine.prepare(block.slot, block.kinds, self._rules[group], step, options[group], self._scales[group])

    def _refuse_overlap(self, memories: Sequence[Memory | None]) -> None:
        starts, ends, order = self._spans
        reach = np.maximum.accumulate(ends)  # of all parameters that start no later
        spans = [(0, 0) if m is None else m.extent() for m in memories]
        where = np.array([0 if m is None else m.address for m in memories], np.int64)
        lows, highs = (where[:, None] + np.array(spans, np.int64)).T
        last = np.searchsorted(starts, highs, side="left")  # parameters before it start below the gradient's end
        for number in np.flatnonzero((last > 0) & (reach[last - 1] > lows) & (highs > lows)).tolist():
            for place in np.flatnonzero(ends[: last[number]] > lows[number]).tolist():
                memory, other = memories[number], order[place]
                assert memory is not None
                if arrays.overlap(self._parameters[other], memory):
                    name, owner = self._names[number], self._names[other]
                    raise ValueError(f"gradient of {name!r} shares memory with parameter {owner!r}; pass a copy")

    # ------------------------------------------------------------------------------------------- tensors and blocks

    def _choose(self, backend: str) -> str:
        device = [not isinstance(p.array, np.ndarray) for p in self._parameters]
        if any(device) and not all(device):
            here, there = self._names[device.index(False)], self._names[device.index(True)]
            raise ValueError(
                f"parameter {here!r} is in host memory and {there!r} in CUDA memory; use one optimizer for each"
            )
        no_compiler = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
        if backend == "auto":
            backend = "cuda" if all(device) else self._best_on_host(no_compiler)
        if backend == "native":
            from schuss_kernels import native

            reason = native.available()
            if reason is not None:
                raise RuntimeError(f"backend='native': {reason}")
        if backend == "numba" and no_compiler:
            raise RuntimeError("backend='numba': the environment variable NUMBA_DISABLE_JIT forbids it to compile")
        if backend == "cuda":
            from schuss_kernels import cuda

            reason = cuda.available()
            if reason is not None:
                raise RuntimeError(f"backend='cuda': {reason}")
            if not all(device):
                raise TypeError(f"backend='cuda': parameter {self._names[0]!r} is in host memory; pass device arrays")
        elif any(device):
            raise TypeError(f"backend={backend!r}: parameter {self._names[0]!r} is in CUDA memory")
        return backend

    def _best_on_host(self, no_compiler: bool) -> str:
        from schuss_kernels import native

        if native.available() is None and all(
            native.covers(self._groups[group].rule, parameter.dtype)
            for group, parameter in zip(self._group_of, self._parameters, strict=True)
        ):
            return "native"
        return "numpy" if no_compiler else "numba"

    def _adapt(self) -> None:
        """Build the engine for the rules that the groups' options choose now; states there are, stay."""
        rules = [group.rule for group in self._groups]
        tensors, made = [], []
        for number, (name, parameter, held) in enumerate(zip(self._names, self._parameters, self._states, strict=True)):
            group = self._groups[self._group_of[number]]
            states = dict(held)
            for field, value in zip(group.rule.State._fields, group.rule.initial_state(group.options), strict=True):
                if field not in states:
                    states[field] = self._empty(parameter, value)
            made.append(states)
            fields = tuple(states[field] for field in group.rule.State._fields)
            tensors.append(Tensor(name, group.rule, parameter, fields, *_expected_gradient(parameter)))
        self._engine = self._make_engine(tensors)
        self._states, self._rules = made, rules
        self._set_slots()

    def _empty(self, parameter: Memory, fill: float) -> Memory:
        if self.backend == "cuda":
            from schuss_kernels import cuda

            return cuda.allocate(parameter, parameter.dtype, fill)
        return arrays.empty_like(parameter, parameter.dtype, fill)

    def _make_engine(self, tensors: list[Tensor]) -> Engine:
        if self.backend == "numpy":
            from schuss_kernels.reference import ReferenceEngine

            return ReferenceEngine(tensors, self._clock)
        if self.backend == "cuda":
            from schuss_kernels.cuda import CudaEngine

            return CudaEngine(tensors, self._clock)
        if self.backend == "native":
            from schuss_kernels.native import NativeEngine

            return NativeEngine(tensors, self._clock, self._threads, strict=self._strict)
        from schuss_kernels.cpu import CpuEngine

        return CpuEngine(tensors, self._clock, self._threads)

    def _partition(self, members: Iterable[int], steps: Sequence[int]) -> list[_Block]:
        blocks: dict[tuple[int, int], _Block] = {}
        for number in members:
            key = self._group_of[number], steps[number]
            block = blocks.setdefault(key, _Block(*key, [], []))
            block.members.append(number)
            storage = storage_of(self._parameters[number].dtype)
            assert storage is not None
            if storage.compute not in block.kinds:
                block.kinds.append(storage.compute)
        return list(blocks.values())

    def _restart(self, steps: Sequence[int], active: Sequence[int] | None = None) -> None:
        """Set every tensor's step count, and which tensors have gradients (all, where not given)."""
        everyone = range(len(steps))
        self._steps_then, self._since = self.steps, self._clock.item()
        self._blocks = self._partition(everyone if active is None else active, steps)
        self._idle = [] if active is None else self._partition(sorted(set(everyone) - set(active)), steps)
        self._set_slots()

    def _set_slots(self) -> None:
        slots = [0] * len(self._names)
        for block in self._blocks:
            for number in block.members:
                slots[number] = block.slot
        self._engine.set_slots(slots)

    def _tensor_steps(self) -> list[int]:
        steps = [0] * len(self._names)
        for blocks, elapsed in ((self._blocks, self._elapsed()), (self._idle, 0)):
            for block in blocks:
                for number in block.members:
                    steps[number] = block.step + elapsed
        return steps

    # ------------------------------------------------------------------------------------------------ looking inside

    def state_dict(self) -> dict[str, Any]:
        """Everything a later run needs to go on exactly here: plain dicts, lists, numbers and copies of the states.

        Keys are names: ``{"schuss": 1, "optimizer": "AdamW", "steps": 10, "param_groups": [{"lr": ..., "params":
        [names]}], "state": {name: {"step": 10, "exp_avg": array, ...}}}``. The parameters themselves are yours to save.
        A learning rate that is a function is written as its repr, and has to be given to the new optimizer too.
        """
        with self._lock:
            return state.save(self)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned; the next step continues bit for bit.

        Raises
        ------
        ValueError, TypeError
            When it does not fit: another optimizer, a newer format, other names, shapes or dtypes, a missing key. The
            optimizer is as it was then.
        """
        with self._lock:
            state.load(self, state_dict)

    def explain(self) -> str:
        """What a step moves and what runs it, as text to print."""
        return report.explain(self)

    def __repr__(self) -> str:
        elements = sum(p.size for p in self._parameters)
        return f"<{type(self).__name__}: {len(self._names)} tensors, {elements:,} parameters, backend {self.backend}>"

    def __reduce__(self) -> Any:
        raise TypeError("an optimizer holds memory addresses and cannot be pickled or copied; use state_dict()")


def _groups(params: Any) -> tuple[list[Mapping[str, Any]], bool]:
    """The parameter groups, and whether the caller wrote them as groups."""
    params = _kept(params)
    if isinstance(params, (list, tuple)) and params and all(isinstance(p, Mapping) and "params" in p for p in params):
        return [{**group, "params": _kept(group["params"])} for group in params], True
    return [{"params": params}], False


def _kept(params: Any) -> Any:
    """The parameters in a form that can be gone through more than once."""
    return list(params) if isinstance(params, Iterator) else params


def _always(rule: Rule) -> Select:
    return lambda **_: rule


def _default(cls: type, name: str) -> Any:
    """The default of a constructor's argument, from the class that names it."""
    for base in cls.__mro__:
        parameter = inspect.signature(base.__init__).parameters.get(name)  # type: ignore[misc]
        if parameter is not None:
            return parameter.default
    return inspect.Parameter.empty


def _expected_gradient(parameter: Memory) -> tuple[np.dtype, tuple[int, ...]]:
    """The gradient to expect: the parameter's dtype; its strides where it is dense, C order where it is not."""
    order = plan.memory_order(parameter.shape, parameter.strides)
    if plan.dense_strides(parameter.shape, order, parameter.dtype.itemsize) != parameter.strides:
        order = list(range(len(parameter.shape)))
    return parameter.dtype, plan.dense_strides(parameter.shape, order, parameter.dtype.itemsize)
