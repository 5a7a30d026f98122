"""The scalars of a step: what every group of tensors is given by its rule, its riders and the options of the step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from schuss_kernels.engine.base import Engine
from schuss_kernels.lang import batched
from schuss_kernels.lang.rule import Rule, RuleError
from schuss_kernels.plan.reduce import folded
from schuss_kernels.plan.riders import RIDERS, Riders
from schuss_kernels.plan.two_pass import SharedRow
from schuss_kernels.rules import is_built_in
from schuss_kernels.storage.stochastic_rounding import key as random_key

from .param_groups import ParamGroup
from .step_counts import StepCounts, StepGroup
from .storage_options import StorageOptions

MIN_BATCH = 4
"""Minimum number of groups whose scalars are computed together: for fewer it takes longer."""


class SharedScalars:
    """Step groups that start every step from the same scalars.

    ``running``: whether they have running numbers, which are one step group's alone: there is only one in it then.
    """

    def __init__(self, groups: list[StepGroup], running: bool) -> None:
        self.groups, self.running = groups, running
        self.group_rule = groups[0].group_rule
        self.slots = [group.slot for group in groups]
        self.dtypes = list(dict.fromkeys(dtype for group in groups for dtype in group.dtypes))


class Batch:
    """Scalars of one built-in rule and of the same step, which are computed together.

    Attributes
    ----------
    shared, groups
        Those that share scalars, and all their step groups.
    slots, shared_of
        int64 (step groups): the slot of each, and the number of its scalars in ``shared``.
    signs, options, functions
        For every element of ``shared``: 1.0, or -1.0 where it goes up; of every option of the rule's ``scalars`` a
        value; the number of the function that its learning rate is, -1 where it is a number.
    """

    def __init__(self, rule: Rule, step: int, shared: list[SharedScalars]) -> None:
        self.rule, self.step, self.shared = rule, step, shared
        self.groups = [group for one in shared for group in one.groups]
        self.slots = np.array([group.slot for group in self.groups], np.int64)
        self.shared_of = np.repeat(np.arange(len(shared)), [len(one.groups) for one in shared])

    def set_options(
        self, options: Sequence[Mapping[str, Any]], signs: Sequence[float], functions: Mapping[int, int]
    ) -> None:
        """Take in the options and signs of all groups and rules, and the functions of those that have one."""
        own = [one.group_rule for one in self.shared]
        given = [options[index] for index in own]
        self.signs = np.array([signs[index] for index in own])
        self.functions = np.array([functions.get(index, -1) for index in own], np.int64)
        self.options = {name: batched.argument([group[name] for group in given]) for name in self.rule.scalar_names}
        self.fixed_rates = np.array([0.0 if index in functions else options[index].get("lr", 0.0) for index in own])

    def options_with_rates(self, rates: list[float]) -> dict[str, batched.Argument]:
        """Return the options; learning rates that are functions have the values that these have now."""
        if (self.functions < 0).all():
            return self.options
        return {**self.options, "lr": np.where(self.functions < 0, self.fixed_rates, np.array(rates)[self.functions])}


class StepScalars:
    """Gives an engine the scalars of the next step, for every step group of ``counts``."""

    measures = False
    """Whether a rule has a measure, so that a step has two passes."""

    def __init__(self, counts: StepCounts) -> None:
        self._counts = counts
        self._rules: list[Rule] = []
        self._begun: list[tuple[Any, ...]] = []  # what the update pass goes on from
        self._begun_batches: list[tuple[Any, ...]] = []
        self._shared: list[SharedScalars] = []
        self._batches: list[Batch] = []
        self._shared_for: tuple[Any, Any] = None, None  # the step groups and two-pass table that these are for
        self._valid_for: tuple[Any, Any] = None, None  # the engine and step groups whose scalars hold for all steps

    def set_options(
        self, groups: Sequence[ParamGroup], rules: Sequence[Rule], storage: StorageOptions, alpha: float
    ) -> None:
        """Take in the options: one parameter group for each of ``rules``. ``alpha``: of Lookahead, 0 without it."""
        if self._rules != rules:
            self._shared_for = None, None
            self._built_in = [is_built_in(rule) for rule in rules]
        self._rules, self._storage, self._alpha = list(rules), storage, alpha
        self._valid_for = None, None
        self.measures = any(rule.measure is not None for rule in rules)
        self._options = [group.options_of(rule) for group, rule in zip(groups, rules, strict=True)]
        self._signs = [-1.0 if group["maximize"] else 1.0 for group in groups]
        self._rates: list[float] = []
        self._scheduled: dict[int, int] = {}  # index of a group and rule -> number of its function
        self._functions: dict[Any, tuple[int, ParamGroup]] = {}  # groups with the same function call it once a step
        for index, (group, rule) in enumerate(zip(groups, rules, strict=True)):
            if callable(group.get("lr")) and "lr" in rule.scalar_names:
                key = id(group["lr"]), group.rule.interval("lr")
                self._scheduled[index] = self._functions.setdefault(key, (len(self._functions), group))[0]
        # The riders of a step without options, which most steps are: made once.
        same = storage.ema is None and not storage.stochastic
        plain = {sign: self._riders(sign, None, 0) for sign in set(self._signs)}
        self._plain = [plain[sign] for sign in self._signs] if same else None
        # Only of the built-in rules is it certain that the same options give the same scalars.
        others = [rule for rule, own in zip(rules, self._built_in, strict=True) if not (own and rule.constant_scalars)]
        self._constant = same and not self._scheduled and not others

        if self._shared_for[0] is not None:
            self._set_batch_options()

    def _set_batch_options(self) -> None:
        for batch in self._batches:
            batch.set_options(self._options, self._signs, self._scheduled)

    def prepare(self, engine: Engine, scale: float, clip: float | None, again: bool = False) -> None:
        """Give the engine the scalars of the next step; where a rule has a measure, those to measure with.

        ``scale``: what the gradients are multiplied by. ``clip``: the limit of their elements. ``again``: a second time
        for the same step; the learning rates stay what they are.
        """
        counts, options = self._counts, self._options
        plain_step = scale == 1.0 and clip is None
        if plain_step and self._valid_for[0] is engine and self._valid_for[1] is counts.groups:
            return
        self._valid_for = None, None
        elapsed = counts.clock.item() - counts.since
        if self._scheduled and not again:
            step = counts.made + elapsed
            self._rates = [group.checked_rate(group["lr"](step), step) for _, group in self._functions.values()]
        if self._shared_for[0] is not counts.groups or self._shared_for[1] is not engine.two_pass_table:
            self._share(engine, elapsed)
        plain = self._plain if plain_step else None
        if self.measures:
            self._begun.clear()
            self._begun_batches.clear()
        for shared in self._shared:
            group, running = shared.groups[0], None
            index, step = group.group_rule, group.step + elapsed + 1
            rule, given = self._rules[index], options[index]
            if self._scheduled and index in self._scheduled:
                given = {**given, "lr": self._rates[self._scheduled[index]]}
            if shared.running:
                running = group.running_before_step(rule, elapsed)
            riders = self._riders(scale * self._signs[index], clip, step) if plain is None else plain[index]
            begun = rule.begin(step, given, running)
            engine.prepare(shared.slots, shared.dtypes, riders, begun[0], (rule, step, given, running, None))
            if shared.running:
                group.after = begun[1]
            if rule.measure is not None:
                self._begun.append((shared.groups, riders, begun, step, given, running))
        for batch in self._batches:
            self._prepare_batch(engine, batch, scale, clip, elapsed)
        if plain_step and self._constant and engine.scalars is not None:
            self._valid_for = engine, counts.groups

    def _prepare_batch(self, engine: Engine, batch: Batch, scale: float, clip: float | None, elapsed: int) -> None:
        """Do what :meth:`prepare` does for step groups whose scalars are computed together."""
        rule, step, names = batch.rule, batch.step + elapsed + 1, tuple(batch.options)
        options = batch.options_with_rates(self._rates)
        running: batched.Argument = batched.Same(None)
        if batch.shared[0].running:
            running = [shared.groups[0].running_before_step(rule, elapsed) for shared in batch.shared]

        def begin(before: Any, *values: Any) -> Iterable[Any]:
            scalars, after = rule.begin(step, dict(zip(names, values, strict=True)), before)
            return (*scalars, *(after or ()))

        begun = batched.call(begin, len(batch.shared), [running, *options.values()])
        count = len(rule.Scalars._fields)
        rows = np.empty((len(batch.shared), RIDERS + count))
        rows[:, :RIDERS] = self._riders(scale, clip, step)
        rows[:, 0] *= batch.signs
        rows[:, RIDERS:] = begun[:count].T
        rows = rows[batch.shared_of]
        assert engine.scalars is not None
        engine.scalars.write_rows(batch.slots, rows)
        if batch.shared[0].running:
            self._set_running(batch, begun[count:])
        if rule.measure is not None:
            self._begun_batches.append((batch, rows, begun[:, batch.shared_of], step))

    @staticmethod
    def _set_running(batch: Batch, numbers: np.ndarray) -> None:
        """Set the running numbers after the step: float64 (numbers, step groups)."""
        make = batch.rule.running._make
        for group, after in zip(batch.groups, numbers.T.tolist(), strict=True):
            group.after = make(after)

    def _share(self, engine: Engine, elapsed: int) -> None:
        """Find the step groups that share scalars; the two-pass table takes over the running numbers that it can."""
        counts, rules, table = self._counts, self._rules, engine.two_pass_table
        found: dict[Any, list[StepGroup]] = {}
        taken: list[StepGroup] = []
        rows: list[SharedRow] = []
        self._active: dict[int, list[int]] = {}  # for every parameter group and rule its tensors that have gradients
        for group in counts.groups:
            rule, running, alone = rules[group.group_rule], (), None
            self._active.setdefault(group.group_rule, []).extend(group.members)
            if table is not None and rule.measure is not None:
                if rule.running is not None:
                    running = group.running_before_step(rule, elapsed)
                taken.append(group)
                rows.append(SharedRow(group.members, group.step + 1 - counts.since, running, group.group_rule))
            elif rule.running is not None:
                alone = group.slot
            found.setdefault((group.group_rule, group.step, alone), []).append(group)
        if table is not None:
            for group, row in zip(taken, table.begin(rows), strict=True):
                if rules[group.group_rule].running is not None:
                    group.table_row = table, row
        for members in self._active.values():
            members.sort()
        self._shared, self._batches = [], []
        together: dict[Any, list[SharedScalars]] = {}
        for (index, step, alone), groups in found.items():
            shared = SharedScalars(groups, alone is not None)
            if engine.scalars is not None and self._built_in[index]:
                together.setdefault((rules[index], step), []).append(shared)
            else:
                self._shared.append(shared)
        for (rule, step), those in together.items():
            ended = sum(len(shared.groups) for shared in those) if rule.measure is not None and table is None else 0
            if max(len(those), ended) < MIN_BATCH:
                self._shared += those
            else:
                self._batches.append(Batch(rule, step, those))
        self._set_batch_options()
        self._shared_for = counts.groups, table

    def measure(self, engine: Engine) -> None:
        """Make the measure pass, and give the engine the scalars of the update pass, which its sums go into."""
        measured = engine.measure()
        totals: dict[int, tuple[float, ...]] = {}

        def sums_of(group: StepGroup, rule: Rule) -> tuple[float, ...]:
            if rule.over == "tensor":
                return measured[group.slot]
            index = group.group_rule
            if index not in totals:
                totals[index] = folded(np.array([measured[number] for number in self._active[index]]))
            return totals[index]

        for groups, riders, begun, step, given, running in self._begun:
            rule = self._rules[groups[0].group_rule]
            for group in groups:
                sums = sums_of(group, rule)
                try:
                    scalars, group.after = rule.end(begun, sums, step)
                except RuleError:
                    raise
                except Exception as error:
                    name = engine.tensors[group.members[0]].name
                    of = f"of parameter {name!r}" if rule.over == "tensor" else "of all"
                    raise RuleError(
                        f"rule {rule.name!r}: finish() with the sums {of}, {rule.Sums(*map(float, sums))}, raised "
                        f"{type(error).__name__}: {error}"
                    ) from error
                engine.prepare([group.slot], group.dtypes, riders, scalars, (rule, step, given, running, sums))
        for batch, rows, begun, step in self._begun_batches:
            each = batch.rule.over == "tensor"
            found = np.array(
                [measured[slot] for slot in batch.slots] if each else [sums_of(g, batch.rule) for g in batch.groups]
            )
            self._end_batch(engine, batch, rows, begun, step, found)

    def _end_batch(
        self, engine: Engine, batch: Batch, rows: np.ndarray, begun: np.ndarray, step: int, sums: np.ndarray
    ) -> None:
        """Do what :meth:`measure` does for step groups whose scalars are computed together.

        ``rows``: float64 (step groups, numbers), what was prepared. ``begun``: what ``Rule.begin`` gave, float64
        (numbers, step groups). ``sums``: float64 (step groups, sums).
        """
        rule, count = batch.rule, len(batch.rule.Scalars._fields)

        def end(*values: Any) -> Iterable[Any]:
            running = rule.running and rule.running._make(values[count : len(begun)])
            before = rule.Scalars._make(values[:count]), running
            scalars, after = rule.end(before, values[len(begun) :], step)
            return (*scalars, *(after or ()))

        ended = batched.call(end, len(batch.groups), [*begun, *sums.T])
        rows[:, RIDERS:] = ended[:count].T
        assert engine.scalars is not None
        engine.scalars.write_rows(batch.slots, rows)
        if rule.running is not None:
            self._set_running(batch, ended[count:])

    def _riders(self, scale: float, clip: float | None, step: int) -> Riders:
        """Make the riders' numbers of a step."""
        storage = self._storage
        if clip is None and storage.ema is None and not storage.stochastic:
            return Riders(scale, slow_step=self._alpha)
        keep = 0.0 if storage.ema is None else storage.ema
        high, low = random_key(storage.seed, step) if storage.stochastic else (0, 0)
        return Riders(scale, clip or 0.0, keep, 1.0 - keep, float(high), float(low), self._alpha)
