"""Engines for matrix rules: whole-array numpy for their tensors, a backend's own engine for all others."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..lang.matrix_rule import MatrixRule
from ..lang.rule import Rule
from ..plan.chunk_table import REDUCE_BLOCK
from ..plan.reduce import total
from ..plan.riders import Floats
from ..plan.tensor import Origin, Tensor
from ..storage.memory import Memory
from . import thread_count
from .base import Engine
from .interrupts import DeferInterrupt
from .plan_engine import PlanEngine
from .reference import ReferenceEngine

_Nothing = namedtuple("_Nothing", [])
_NONE = Rule("none", _Nothing, _Nothing, lambda step: _Nothing(), lambda p, g, s, h: (p, _Nothing()))


class MixedEngine(Engine):
    """Steps the tensors of matrix rules with a :class:`MatrixEngine`, all others with a backend's own engine.

    Both engines know all tensors, by number, and each gets the gradients of its own.

    Parameters
    ----------
    tensors, clock
        As for any engine.
    make
        ``make(tensors, clock)`` makes the engine for the others. In place of each tensor that is not its own it gets an
        empty one.
    threads
        As for :class:`MatrixEngine`.
    """

    def __init__(
        self,
        tensors: Sequence[Tensor],
        clock: np.ndarray | None,
        make: Callable[[list[Tensor], np.ndarray], Engine],
        threads: int | None = None,
    ) -> None:
        super().__init__(tensors, clock)
        self.whole = [tensor.rule.matrix for tensor in self.tensors]
        self.matrices = MatrixEngine(self.tensors, threads=threads)
        # Both have clocks of their own: the optimizer's is raised once both have stepped.
        rest = [_empty(tensor) if whole else tensor for tensor, whole in zip(self.tensors, self.whole, strict=True)]
        self.others = make(rest, np.zeros(1, np.int64))
        self.name = self.others.name

    @property
    def stream(self) -> Any:
        return self.others.stream

    @stream.setter
    def stream(self, stream: Any) -> None:
        self.others.stream = stream

    def _split(self, values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        """Split a list by engine: the matrix engine's, then the others', each with None in place of the rest."""
        pairs = list(zip(values, self.whole, strict=True))
        return [v if whole else None for v, whole in pairs], [None if whole else v for v, whole in pairs]

    def set_slots(self, slots: Sequence[int | None]) -> None:
        self.others.set_slots(self._split(slots)[1])
        self.matrices.set_slots(slots)  # after it: the tensors are the same

    def on_states_made(self, numbers: Sequence[int]) -> None:
        self.others.on_states_made([number for number in numbers if not self.whole[number]])  # the tensors are the same

    def prepare(
        self, slots: list[int], dtypes: Sequence[np.dtype], riders: Floats, scalars: Floats, origin: Origin
    ) -> None:
        engine = self.matrices if origin[0].matrix else self.others
        engine.prepare(slots, dtypes, riders, scalars, origin)

    def set_gradients(self, gradients: Sequence[Memory | None]) -> None:
        own, rest = self._split(gradients)
        self.others.set_gradients(rest)
        self.matrices.set_gradients(own)

    def launch(self) -> None:
        with DeferInterrupt():
            self.matrices.launch()  # first, as a rule may raise in it
            self.others.launch()
            self.clock[0] += 1

    def configure(self, clip: bool, zero: bool, grad_norm: bool) -> None:
        super().configure(clip, zero, grad_norm)
        self.others.configure(clip, zero, grad_norm)
        self.matrices.configure(clip, zero, grad_norm)

    def sync_slow_weights(self, on: bool) -> None:
        super().sync_slow_weights(on)
        self.others.sync_slow_weights(on)
        self.matrices.sync_slow_weights(on)

    def grad_squares(self) -> tuple[float, bool]:
        assert isinstance(self.others, PlanEngine)
        self.others.grad_squares()
        made, done = [np.zeros((0, 2))], 0
        for tensor, whole, own in zip(self.tensors, self.whole, self.matrices.block_squares(), strict=True):
            blocks = 0 if whole else -(-tensor.parameter.size // REDUCE_BLOCK)
            made += [own, self.others.plan.sums[done : done + blocks]]
            done += blocks
        return total(np.concatenate(made))  # in the order of the tensors, as in any engine

    def measure(self) -> list[tuple[float, ...]]:
        return self.others.measure()


def _empty(tensor: Tensor) -> Tensor:
    """Make a tensor of the same name without elements."""
    dtype = np.dtype(np.float32)
    memory = Memory(np.empty(0, dtype), 0, dtype, (0,), (dtype.itemsize,))
    return Tensor(tensor.name, _NONE, memory, (), dtype, memory.strides)


SERIAL_BELOW = 1 << 16
"""Elements of all tensors together below which threads take longer to start than to step."""


class MatrixEngine(ReferenceEngine):
    """Runs the references of rules on arrays anywhere: those on a device are copied to the host, and back.

    ``threads``: how many tensors are stepped at once, of those whose rules allow it; None: one for each core.
    """

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None, threads: int | None = None) -> None:
        super().__init__(tensors, clock)
        self._threads = None if threads is None else thread_count.at_most_cores(threads)

    def step_all(self, work: Iterable[tuple[int, Tensor, Memory]]) -> None:
        parallel: list[tuple[int, Tensor, Memory]] = []
        serial: list[tuple[int, Tensor, Memory]] = []
        for item in work:
            rule = item[1].rule
            free = isinstance(rule, MatrixRule) and rule.side_by_side and item[1].parameter.on_host
            (parallel if free else serial).append(item)
        threads = self._threads or thread_count.at_most_torch(thread_count.max_threads())
        if threads == 1 or len(parallel) == 1 or sum(t.parameter.size for _, t, _ in parallel) < SERIAL_BELOW:
            super().step_all([*parallel, *serial])
            return
        from concurrent.futures import ThreadPoolExecutor  # here: it is slow to import, and few optimizers need it

        parallel.sort(key=lambda item: item[1].parameter.size, reverse=True)  # no large one starts last
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(super(MatrixEngine, self).step_all, [item]) for item in parallel]:
                done.result()
        super().step_all(serial)

    def step_tensor(self, number: int, tensor: Tensor, gradient: Memory) -> None:
        memories = [tensor.parameter, *tensor.states, *tensor.others.values(), *tensor.scales()]
        if all(memory.on_host for memory in memories):
            super().step_tensor(number, tensor, gradient)
            return
        copy = replace(
            tensor,
            parameter=tensor.parameter.to_host(),
            states=tuple(state.to_host() for state in tensor.states),
            others={name: memory.to_host() for name, memory in tensor.others.items()},
        )
        gradient_copy = gradient.to_host()
        super().step_tensor(number, copy, gradient_copy)
        changed = [copy.parameter, *copy.states, *copy.others.values(), *copy.scales()]
        for memory, new in [*zip(memories, changed, strict=True), *([(gradient, gradient_copy)] if self.zero else [])]:
            memory.write(new.array)
