"""How many steps every tensor has made, and what numbers its group carries from step to step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from schuss_kernels.lang.rule import Rule
from schuss_kernels.plan.two_pass import TwoPassTable

History = tuple[int, Any]
"""Steps that a tensor has made, and the running numbers of its rule after them (None where it has none)."""


@dataclass
class StepGroup:
    """Tensors of one group and rule that have the same history, and so share their scalars.

    ``group``: which of the optimizer's pairs of a group and a rule. ``step``: steps they had made when the blocks were.
    ``running``: the running numbers before step ``at`` from then on, ``after`` those after it: which of the two they
    are is for the clock to say. Where they are ``lent`` to an engine's turns, in a row of these, they are what that
    says.
    """

    group: int
    step: int
    running: Any
    members: list[int] = field(default_factory=list)
    dtypes: list[np.dtype] = field(default_factory=list)
    at: int = 0
    after: Any = None
    lent: tuple[TwoPassTable, int] | None = None

    @property
    def slot(self) -> int:
        return self.members[0]

    def now(self, elapsed: int) -> Any:
        """The running numbers when ``elapsed`` steps have been made since the blocks were."""
        if self.lent is not None:
            turns, row = self.lent
            return turns.running_of(row, type(self.running))
        if elapsed > self.at:
            self.running, self.at = self.after, elapsed
        return self.running


class StepCounts:
    """The blocks of all tensors. ``clock``: one int64, steps that moved something; the engines raise it.

    ``groups``: every tensor's group (see :class:`StepGroup`); ``dtypes``: what it is computed in.
    """

    def __init__(self, clock: np.ndarray, groups: Sequence[int], dtypes: Sequence[np.dtype]) -> None:
        self.clock, self._groups, self._kinds = clock, list(groups), dtypes
        self._alone, self._together = [False] * len(groups), [False] * len(groups)
        self.restart(0, [(0, None)] * len(groups))

    def separate(self, groups: Sequence[int], alone: Sequence[bool], together: Sequence[bool]) -> None:
        """Say which group tensors belong to, which have scalars of their own, and so a block, and which have their
        group's history where they have no gradient too."""
        made = list(groups), list(alone), list(together)
        if made != (self._groups, self._alone, self._together):
            steps, histories, active = self.steps, self.histories(), self.active()
            self._groups, self._alone, self._together = made
            self.restart(steps, histories, active)

    @property
    def elapsed(self) -> int:
        """Steps made since the blocks were."""
        return self.clock.item() - self.since

    @property
    def steps(self) -> int:
        """Steps that moved something."""
        return self.made + self.elapsed

    def restart(self, made: int, histories: Sequence[History], active: Sequence[int] | None = None) -> None:
        """Set the steps made, every tensor's history, and which tensors have gradients (all, where not given)."""
        everyone = range(len(histories))
        blocks = self._partition(everyone if active is None else active, histories)
        idle = [] if active is None else self._partition(sorted(set(everyone) - set(active)), histories)
        # In one go, so that nothing (Ctrl-C) comes between.
        self.made, self.since, self.blocks, self.idle = made, self.clock.item(), blocks, idle

    def active(self) -> list[int]:
        """The tensors that have gradients."""
        return sorted(number for block in self.blocks for number in block.members)

    def slots(self) -> list[int | None]:
        """Every tensor's slot of the scalars, None where it has no gradient."""
        slots: list[int | None] = [None] * len(self._groups)
        for block in self.blocks:
            for number in block.members:
                slots[number] = block.slot
        return slots

    def histories(self) -> list[History]:
        """Every tensor's, as they are now."""
        found: list[History] = [(0, None)] * len(self._groups)
        shared: dict[int, History] = {}
        for block in self.blocks:
            history = block.step + self.elapsed, block.now(self.elapsed)
            shared.setdefault(block.group, history)
            for number in block.members:
                found[number] = history
        for block in self.idle:
            for number in block.members:
                own = block.step, block.now(0)
                found[number] = shared.get(block.group, own) if self._together[number] else own
        return found

    def _partition(self, members: Iterable[int], histories: Sequence[History]) -> list[StepGroup]:
        blocks: dict[Any, StepGroup] = {}
        for number in members:
            shared = self._groups[number], *histories[number]
            block = blocks.setdefault((*shared, number if self._alone[number] else None), StepGroup(*shared))
            block.members.append(number)
            if self._kinds[number] not in block.dtypes:
                block.dtypes.append(self._kinds[number])
        return list(blocks.values())


def running_before(rule: Rule, block: StepGroup, elapsed: int) -> Any:
    """The running numbers that a rule's step starts from: its own where the group did not have the rule before."""
    assert rule.running is not None
    running = block.now(elapsed)
    if type(running) is not rule.running:
        running = rule.running()
    block.running, block.at, block.lent = running, elapsed, None
    return running
