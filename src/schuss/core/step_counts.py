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
    active
        bool (tensors): whether the tensor has gradients.
    groups
        The step groups of these tensors.
    """

    def __init__(self, clock: np.ndarray, group_rule_of: Sequence[int], dtypes: Sequence[np.dtype]) -> None:
        count = len(dtypes)
        self.clock, self._dtypes = clock, dtypes
        self._all_dtypes = list(dict.fromkeys(dtypes))
        self._group_rule_of = np.array(group_rule_of, np.int64)
        self._own_scalars, self._shared_history = np.zeros(count, bool), np.zeros(count, bool)
        self.restart(0, [(0, None)] * count, np.zeros(count, bool))

    def regroup(
        self, group_rule_of: Sequence[int], own_scalars: Sequence[bool], shared_history: Sequence[bool]
    ) -> None:
        """Form the step groups anew where what follows, one entry a tensor, has changed.

        ``group_rule_of``: the index of its parameter group and rule. ``own_scalars``: whether it has scalars of its
        own, and so a step group. ``shared_history``: whether its history goes on with its group's in steps without a
        gradient too.
        """
        wanted = np.array(group_rule_of, np.int64), np.array(own_scalars, bool), np.array(shared_history, bool)
        present = self._group_rule_of, self._own_scalars, self._shared_history
        if not all(map(np.array_equal, wanted, present)):
            steps, running = self._now()
            self._group_rule_of, self._own_scalars, self._shared_history = wanted
            self._form(self.steps, steps, running, self.active)

    @property
    def elapsed(self) -> int:
        """Steps made since the step groups were formed."""
        return self.clock.item() - self.since

    @property
    def steps(self) -> int:
        """Steps that moved something."""
        return self.made + self.elapsed

    def restart(self, made: int, histories: Sequence[History], active: np.ndarray) -> None:
        """Set the steps made, every tensor's history, and which tensors have gradients."""
        self._form(made, np.array([step for step, _ in histories], np.int64), [own for _, own in histories], active)

    def activate(self, active: np.ndarray) -> None:
        """Set which tensors have gradients from here on."""
        self._form(self.steps, *self._now(), active)

    def slots(self) -> list[int | None]:
        """Return every tensor's slot of the engine's scalars, None where it has no gradient."""
        slots: list[int | None] = [None] * len(self._dtypes)
        for group in self.groups:
            slot = group.slot
            for number in group.members:
                slots[number] = slot
        return slots

    def histories(self) -> list[History]:
        """Return every tensor's history, as it is now."""
        steps, running = self._now()
        return list(zip(steps.tolist(), running, strict=True))

    def _now(self) -> tuple[np.ndarray, list[Any]]:
        """Return every tensor's steps and running numbers, as they are now."""
        elapsed, steps, running = self.elapsed, self._steps.copy(), list(self._running)
        steps[self.active] += elapsed
        shared: dict[int, int] = {}  # the first tensor with gradients of every parameter group and rule
        for group in self.groups:
            shared.setdefault(group.group_rule, group.members[0])
            own = group.running_now(elapsed)
            if own is not None:
                for number in group.members:
                    running[number] = own
        for number in np.flatnonzero(self._shared_history & ~self.active).tolist():
            leader = shared.get(int(self._group_rule_of[number]), number)
            steps[number], running[number] = steps[leader], running[leader]
        return steps, running

    def _form(self, made: int, steps: np.ndarray, running: list[Any], active: np.ndarray) -> None:
        """Form the step groups."""
        groups = self._partition(np.flatnonzero(active), steps, running)
        # In one go, so that nothing (Ctrl-C) comes between.
        self.made, self.since, self.groups, self.active, self._steps, self._running = (
            made,
            self.clock.item(),
            groups,
            active,
            steps,
            running,
        )

    def _partition(self, members: np.ndarray, steps: np.ndarray, running: list[Any]) -> list[StepGroup]:
        """Put tensors into step groups."""
        if not len(members):
            return []
        of, steps = self._group_rule_of[members], steps[members]
        alone = np.where(self._own_scalars[members], members, -1)
        order = np.lexsort((alone, steps, of))
        keys = np.stack([of, steps, alone])[:, order]
        starts = np.flatnonzero(np.append(True, (keys[:, 1:] != keys[:, :-1]).any(axis=0))).tolist()
        sorted_members, groups = members[order].tolist(), []
        none_running = running.count(None) == len(running)
        for start, end, rule, step in zip(
            starts, [*starts[1:], len(sorted_members)], *keys[:2, starts].tolist(), strict=True
        ):
            found: dict[Any, list[int]] = {}
            if none_running:
                found[None] = sorted_members[start:end]
            else:
                for number in sorted_members[start:end]:
                    found.setdefault(running[number], []).append(number)
            groups += [StepGroup(rule, step, own, those, self._dtypes_of(those)) for own, those in found.items()]
        groups.sort(key=lambda group: group.members[0])
        return groups

    def _dtypes_of(self, members: Iterable[int]) -> list[np.dtype]:
        if len(self._all_dtypes) == 1:
            return self._all_dtypes
        return list(dict.fromkeys(self._dtypes[number] for number in members))
