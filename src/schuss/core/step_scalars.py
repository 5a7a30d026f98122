"""The scalars of a step: what every group of tensors is given by its rule, its riders and the options of the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from schuss_kernels.engine.base import Engine
from schuss_kernels.lang.rule import Rule, RuleError
from schuss_kernels.plan.reduce import folded
from schuss_kernels.plan.riders import Riders
from schuss_kernels.plan.two_pass import SharedRow, TwoPassTable
from schuss_kernels.rules import is_built_in
from schuss_kernels.storage.stochastic_rounding import key as random_key

from .param_groups import ParamGroup
from .step_counts import StepCounts, StepGroup
from .storage_options import StorageOptions


class SharedScalars:
    """Step groups that start every step from the same scalars.

    ``running``: whether they have running numbers, which are one step group's alone: there is only one in it then.
    """

    def __init__(self, groups: list[StepGroup], running: bool) -> None:
        self.groups, self.running = groups, running
        self.slots = [group.slot for group in groups]
        self.dtypes = list(dict.fromkeys(dtype for group in groups for dtype in group.dtypes))


class StepScalars:
    """Gives an engine the scalars of the next step, for every step group of ``counts``."""

    measures = False
    """Whether a rule has a measure, so that a step has two passes."""

    def __init__(self, counts: StepCounts) -> None:
        self._counts = counts
        self._begun: list[tuple[Any, ...]] = []  # what the update pass goes on from
        self._shared: list[SharedScalars] = []
        self._shared_for: tuple[Any, TwoPassTable | None] = None, None  # the step groups and table that these are for
        self._valid_for: tuple[Any, Any] = None, None  # the engine and step groups whose scalars hold for all steps

    def set_options(
        self, groups: Sequence[ParamGroup], rules: Sequence[Rule], storage: StorageOptions, alpha: float
    ) -> None:
        """Take in the options: one parameter group for each of ``rules``. ``alpha``: of Lookahead, 0 without it."""
        self._rules, self._storage, self._alpha = rules, storage, alpha
        self._shared_for = self._valid_for = None, None
        self.measures = any(rule.measure is not None for rule in rules)
        self._options = [group.options_of(rule) for group, rule in zip(groups, rules, strict=True)]
        self._signs = [-1.0 if group["maximize"] else 1.0 for group in groups]
        self._scheduled = [
            (index, group)
            for index, (group, rule) in enumerate(zip(groups, rules, strict=True))
            if callable(group.get("lr")) and "lr" in rule.scalar_names
        ]
        # The riders of a step without options, which most steps are: made once.
        same = storage.ema is None and not storage.stochastic
        self._plain = [self._riders(sign, None, 0) for sign in self._signs] if same else None
        # Only of the built-in rules is it certain that the same options give the same scalars.
        others = [rule for rule in rules if not (rule.constant_scalars and is_built_in(rule))]
        self._constant = same and not self._scheduled and not others

    def prepare(self, engine: Engine, scale: float, clip: float | None) -> None:
        """Give the engine the scalars of the next step; where a rule has a measure, those to measure with.

        ``scale``: what the gradients are multiplied by. ``clip``: the limit of their elements.
        """
        counts, options = self._counts, self._options
        plain_step = scale == 1.0 and clip is None
        if plain_step and self._valid_for[0] is engine and self._valid_for[1] is counts.groups:
            return
        self._valid_for = None, None
        elapsed = counts.clock.item() - counts.since
        if self._scheduled:
            options = options.copy()
            for index, scheduled in self._scheduled:
                options[index] = {**options[index], "lr": scheduled.learning_rate(counts.made + elapsed)}
        if self._shared_for[0] is not counts.groups or self._shared_for[1] is not engine.two_pass_table:
            self._share(engine.two_pass_table, elapsed)
        plain = self._plain if plain_step else None
        self._begun.clear()
        for shared in self._shared:
            group, running = shared.groups[0], None
            index, step = group.group_rule, group.step + elapsed + 1
            rule, given = self._rules[index], options[index]
            if shared.running:
                running = group.running_before_step(rule, elapsed)
            riders = self._riders(scale * self._signs[index], clip, step) if plain is None else plain[index]
            begun = rule.begin(step, given, running)
            engine.prepare(shared.slots, shared.dtypes, riders, begun[0], (rule, step, given, running, None))
            if shared.running:
                group.after = begun[1]
            if rule.measure is not None:
                self._begun.append((shared.groups, riders, begun, step, given, running))
        if plain_step and self._constant and engine.keeps_scalars:
            self._valid_for = engine, counts.groups

    def _share(self, table: TwoPassTable | None, elapsed: int) -> None:
        """Find the step groups that share scalars; the two-pass table takes over the running numbers that it can."""
        counts, rules = self._counts, self._rules
        found: dict[Any, list[StepGroup]] = {}
        taken: list[StepGroup] = []
        rows: list[SharedRow] = []
        for group in counts.groups:
            rule, running, alone = rules[group.group_rule], (), None
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
        self._shared = [SharedScalars(groups, alone is not None) for (_, _, alone), groups in found.items()]
        self._shared_for = counts.groups, table

    def measure(self, engine: Engine) -> None:
        """Make the measure pass, and give the engine the scalars of the update pass, which its sums go into."""
        measured = engine.measure()
        for groups, riders, begun, step, given, running in self._begun:
            rule = self._rules[groups[0].group_rule]
            for group in groups:
                if rule.over == "tensor":
                    sums = measured[group.slot]
                else:
                    sums = folded(np.array([measured[number] for number in self._active(group.group_rule)]))
                try:
                    scalars, group.after = rule.end(begun, sums, step)
                except RuleError:
                    raise
                except Exception as error:
                    of = (
                        f"of parameter {engine.tensors[group.members[0]].name!r}" if rule.over == "tensor" else "of all"
                    )
                    raise RuleError(
                        f"rule {rule.name!r}: finish() with the sums {of}, {rule.Sums(*map(float, sums))}, raised "
                        f"{type(error).__name__}: {error}"
                    ) from error
                engine.prepare([group.slot], group.dtypes, riders, scalars, (rule, step, given, running, sums))

    def _active(self, group_rule: int) -> list[int]:
        """Return the tensors of a parameter group and rule that have gradients, in order."""
        groups = [group for group in self._counts.groups if group.group_rule == group_rule]
        return sorted(number for group in groups for number in group.members)

    def _riders(self, scale: float, clip: float | None, step: int) -> Riders:
        """Make the riders' numbers of a step."""
        storage = self._storage
        if clip is None and storage.ema is None and not storage.stochastic:
            return Riders(scale, slow_step=self._alpha)
        keep = 0.0 if storage.ema is None else storage.ema
        high, low = random_key(storage.seed, step) if storage.stochastic else (0, 0)
        return Riders(scale, clip or 0.0, keep, 1.0 - keep, float(high), float(low), self._alpha)
