"""An engine of two: whole-array numpy for the tensors of matrix rules, a backend's own engine for all others."""

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
from .base import Engine
from .interrupts import DeferInterrupt
from .plan_engine import PlanEngine
from .reference import ReferenceEngine
from .thread_count import most_threads

_Nothing = namedtuple("_Nothing", [])
_NONE = Rule("none", _Nothing, _Nothing, lambda step: _Nothing(), lambda p, g, s, h: (p, _Nothing()))


class MixedEngine(Engine):
    """Both engines know all tensors, by number, and each is given the gradients of its own.

    ``make(tensors, clock)`` makes the engine for the others; it finds an empty tensor in place of each that is not its
    own. ``threads``: as for :class:`MatrixEngine`.
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
        # Clocks of their own: the optimizer's is raised once both have moved what is theirs.
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
        """What each of the two gets: its own, and None in place of the rest."""
        pairs = list(zip(values, self.whole, strict=True))
        return [v if whole else None for v, whole in pairs], [None if whole else v for v, whole in pairs]

    def set_slots(self, slots: Sequence[int | None]) -> None:
        self.others.set_slots(self._split(slots)[1])
        self.matrices.set_slots(slots)  # after it: the tensors are the same

    def prepare(
        self, slots: list[int], kinds: Sequence[np.dtype], riders: Floats, scalars: Floats, origin: Origin
    ) -> None:
        engine = self.matrices if origin[0].matrix else self.others
        engine.prepare(slots, kinds, riders, scalars, origin)

    def set_gradients(self, gradients: Sequence[Memory | None]) -> None:
        own, rest = self._split(gradients)
        self.others.set_gradients(rest)
        self.matrices.set_gradients(own)

    def launch(self) -> None:
        with DeferInterrupt():
            self.matrices.launch()  # the first, as a rule may raise in it
            self.others.launch()
            self.clock[0] += 1

    def configure(self, clip: bool, zero: bool, look: bool) -> None:
        super().configure(clip, zero, look)
        self.others.configure(clip, zero, look)
        self.matrices.configure(clip, zero, look)

    def sync_slow_weights(self, on: bool) -> None:
        super().sync_slow_weights(on)
        self.others.sync_slow_weights(on)
        self.matrices.sync_slow_weights(on)

    def squares(self) -> tuple[float, bool]:
        assert isinstance(self.others, PlanEngine)
        self.others.squares()
        made, done = [np.zeros((0, 2))], 0
        for tensor, whole, own in zip(self.tensors, self.whole, self.matrices.block_squares(), strict=True):
            blocks = 0 if whole else -(-tensor.parameter.size // REDUCE_BLOCK)
            made += [own, self.others.plan.sums[done : done + blocks]]
            done += blocks
        return total(np.concatenate(made))  # in the order of the tensors, as in any engine

    def measure(self) -> list[tuple[float, ...]]:
        return self.others.measure()


def _empty(tensor: Tensor) -> Tensor:
    """A tensor without elements."""
    dtype = np.dtype(np.float32)
    memory = Memory(np.empty(0, dtype), 0, dtype, (0,), (dtype.itemsize,))
    return Tensor(tensor.name, _NONE, memory, (), dtype, memory.strides)


SERIAL_BELOW = 1 << 16
"""Elements below which threads take longer to start than to step."""


class MatrixEngine(ReferenceEngine):
    """The reference's arithmetic for arrays anywhere: what is on a device is copied to the host, and back.

    ``threads``: how many tensors are stepped at once, of those whose rules allow it; None: one a core.
    """

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None, threads: int | None = None) -> None:
        super().__init__(tensors, clock)
        self._threads = most_threads() if threads is None else threads

    def step_all(self, work: Iterable[tuple[int, Tensor, Memory]]) -> None:
        together: list[tuple[int, Tensor, Memory]] = []
        alone: list[tuple[int, Tensor, Memory]] = []
        for item in work:
            rule = item[1].rule
            free = isinstance(rule, MatrixRule) and rule.side_by_side and item[1].parameter.on_host
            (together if free else alone).append(item)
        if self._threads == 1 or len(together) == 1 or sum(t.parameter.size for _, t, _ in together) < SERIAL_BELOW:
            super().step_all([*together, *alone])
            return
        from concurrent.futures import ThreadPoolExecutor  # here: it is slow to import, and few optimizers need it

        together.sort(key=lambda item: item[1].parameter.size, reverse=True)  # none of the long ones comes last
        with ThreadPoolExecutor(self._threads) as pool:
            for done in [pool.submit(super(MatrixEngine, self).step_all, [item]) for item in together]:
                done.result()
        super().step_all(alone)

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
