"""How many steps every tensor has made, and the running numbers that its rule carries from step to step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from schuss_kernels.lang.rule import Rule
from schuss_kernels.plan.two_pass import TwoPassTable

History = tuple[int, Any]
"""Steps that a tensor has made, and the running numbers of its rule after them (None where the rule has none)."""


class GroupRule(NamedTuple):
    """A parameter group's number, and a rule that moves tensors of it: the group's own, or one it leaves them to."""

    group: int
    rule: Rule


@dataclass(eq=False, repr=False)
class StepGroup:
    """Tensors of one parameter group and rule that have the same history, and so share their scalars.

    Attributes
    ----------
    group_rule
        Index of their parameter group and rule in :attr:`.Stepper.group_rules`.
    step
        Steps that they had made when the step groups were formed.
    running, at, after
        The running numbers before the step that ``at`` steps since then precede, and those after it. Which of the two
        hold now, the clock says.
    table_row
        A two-pass table and a row of it, where that holds the running numbers instead.
    members
        Numbers of the tensors.
    dtypes
        The dtypes that they are computed in, each once.
    """

    group_rule: int
    step: int
    running: Any
    members: list[int] = field(default_factory=list)
    dtypes: list[np.dtype] = field(default_factory=list)
    at: int = 0
    after: Any = None
    table_row: tuple[TwoPassTable, int] | None = None

    @property
    def slot(self) -> int:
        """The slot of the engine's scalars that they share: the number of the first of them."""
        return self.members[0]

    def running_now(self, elapsed: int) -> Any:
        """Return the running numbers when ``elapsed`` steps have been made since the step groups were formed."""
        if self.table_row is not None:
            table, row = self.table_row
            return table.running_of(row, type(self.running))
        if elapsed > self.at:
            self.running, self.at = self.after, elapsed
        return self.running

    def running_before_step(self, rule: Rule, elapsed: int) -> Any:
        """Take the running numbers back from a table, and return those that the next step of ``rule`` starts from.

        These are the rule's first ones where the tensors had another rule before.
        """
        assert rule.running is not None
        running = self.running_now(elapsed)
        if type(running) is not rule.running:
            running = rule.running()
        self.running, self.at, self.table_row = running, elapsed, None
        return running


class StepCounts:
    """The step groups of all tensors.

    Parameters
    ----------
    clock
        One int64: steps that moved something. The engines raise it.
    group_rule_of
        For every tensor the index of its parameter group and rule.
    dtypes
        For every tensor the dtype that it is computed in.

    Attributes
    ----------
    made, since
        Steps made, and what the clock said, when the step groups were formed.
    groups, idle
        The step groups of the tensors that have gradients, and of those that have none.
    """

    def __init__(self, clock: np.ndarray, group_rule_of: Sequence[int], dtypes: Sequence[np.dtype]) -> None:
        self.clock, self._group_rule_of, self._dtypes = clock, list(group_rule_of), dtypes
        self._own_scalars, self._shared_history = [False] * len(dtypes), [False] * len(dtypes)
        self.restart(0, [(0, None)] * len(dtypes))

    def regroup(
        self, group_rule_of: Sequence[int], own_scalars: Sequence[bool], shared_history: Sequence[bool]
    ) -> None:
        """Form the step groups anew where what follows, one entry a tensor, has changed.

        ``group_rule_of``: the index of its parameter group and rule. ``own_scalars``: whether it has scalars of its
        own, and so a step group. ``shared_history``: whether its history goes on with its group's in steps without a
        gradient too.
        """
        wanted = list(group_rule_of), list(own_scalars), list(shared_history)
        if wanted != (self._group_rule_of, self._own_scalars, self._shared_history):
            steps, histories, active = self.steps, self.histories(), self.active()
            self._group_rule_of, self._own_scalars, self._shared_history = wanted
            self.restart(steps, histories, active)

    @property
    def elapsed(self) -> int:
        """Steps made since the step groups were formed."""
        return self.clock.item() - self.since

    @property
    def steps(self) -> int:
        """Steps that moved something."""
        return self.made + self.elapsed

    def restart(self, made: int, histories: Sequence[History], active: Sequence[int] | None = None) -> None:
        """Set the steps made, every tensor's history, and which tensors have gradients (None: all)."""
        everyone = range(len(histories))
        groups = self._partition(everyone if active is None else active, histories)
        idle = [] if active is None else self._partition(sorted(set(everyone) - set(active)), histories)
        # In one go, so that nothing (Ctrl-C) comes between.
        self.made, self.since, self.groups, self.idle = made, self.clock.item(), groups, idle

    def active(self) -> list[int]:
        """Return the numbers of the tensors that have gradients, in order."""
        return sorted(number for group in self.groups for number in group.members)

    def slots(self) -> list[int | None]:
        """Return every tensor's slot of the engine's scalars, None where it has no gradient."""
        slots: list[int | None] = [None] * len(self._group_rule_of)
        for group in self.groups:
            for number in group.members:
                slots[number] = group.slot
        return slots

    def histories(self) -> list[History]:
        """Return every tensor's history, as it is now."""
        found: list[History] = [(0, None)] * len(self._group_rule_of)
        shared: dict[int, History] = {}
        for group in self.groups:
            history = group.step + self.elapsed, group.running_now(self.elapsed)
            shared.setdefault(group.group_rule, history)
            for number in group.members:
                found[number] = history
        for group in self.idle:
            for number in group.members:
                own = group.step, group.running_now(0)
                found[number] = shared.get(group.group_rule, own) if self._shared_history[number] else own
        return found

    def _partition(self, members: Iterable[int], histories: Sequence[History]) -> list[StepGroup]:
        """Put tensors into step groups."""
        groups: dict[Any, StepGroup] = {}
        for number in members:
            shared = self._group_rule_of[number], *histories[number]
            alone = number if self._own_scalars[number] else None
            group = groups.setdefault((*shared, alone), StepGroup(*shared))
            group.members.append(number)
            if self._dtypes[number] not in group.dtypes:
                group.dtypes.append(self._dtypes[number])
        return list(groups.values())
