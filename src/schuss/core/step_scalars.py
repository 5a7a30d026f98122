"""The numbers of a step: what every block of tensors is given by its rule, and what rides along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from schuss_kernels.engine.base import Engine
from schuss_kernels.lang.rule import Rule
from schuss_kernels.plan.reduce import folded
from schuss_kernels.plan.riders import Riders
from schuss_kernels.plan.two_pass import SharedRow, TwoPassTable
from schuss_kernels.rules import is_built_in
from schuss_kernels.storage.stochastic_rounding import key as random_key

from .param_groups import ParamGroup
from .step_counts import StepCounts, StepGroup, running_before
from .storage_options import StorageOptions


@dataclass
class SharedScalars:
    """Blocks that start every step from the same numbers. ``own``: running numbers that are theirs alone, and so each
    is in an SharedScalars of its own."""

    blocks: list[StepGroup]
    own: bool

    def __post_init__(self) -> None:
        self.slots = [block.slot for block in self.blocks]
        self.dtypes = list(dict.fromkeys(kind for block in self.blocks for kind in block.dtypes))


class StepScalars:
    """Gives the engine the numbers of the next step, block by block of ``counts``."""

    measures = False
    """Whether a rule has a measure, so that there is a first pass."""

    def __init__(self, counts: StepCounts) -> None:
        self._counts = counts
        self._begun: list[tuple[Any, ...]] = []  # what the second pass goes on from
        self._alike: list[SharedScalars] = []
        self._gathered: tuple[Any, TwoPassTable | None] = None, None  # the blocks and turns that these are for
        self._standing: tuple[Any, Any] = None, None  # the engine and blocks whose numbers hold for every step to come

    def look(self, groups: Sequence[ParamGroup], rules: Sequence[Rule], storage: StorageOptions, share: float) -> None:
        """Take in what the groups say now: one for each of ``rules``. ``share``: how far slow weights go."""
        self._rules, self._storage, self._share = rules, storage, share
        self._gathered = self._standing = None, None
        self.measures = any(rule.measure is not None for rule in rules)
        self._options = [group.options_of(rule) for group, rule in zip(groups, rules, strict=True)]
        self._signs = [-1.0 if group["maximize"] else 1.0 for group in groups]
        self._scheduled = [
            (form, group)
            for form, (group, rule) in enumerate(zip(groups, rules, strict=True))
            if callable(group.get("lr")) and "lr" in rule.scalar_names
        ]
        # What the riders' numbers are where nothing rides, which is mostly: made once.
        same = storage.ema is None and not storage.stochastic
        self._plain = [self._riders(sign, None, 0) for sign in self._signs] if same else None
        # Only of the built-in rules is it certain that the same options give the same numbers.
        others = [rule for rule in rules if not (rule.constant_scalars and is_built_in(rule))]
        self._steady = same and not self._scheduled and not others

    def prepare(self, engine: Engine, scale: float, clip: float | None) -> None:
        """``scale``: of the gradients, ``clip``: what they are limited to. Where a rule has a measure, these are the
        numbers to measure with."""
        counts, options = self._counts, self._options
        at_rest = scale == 1.0 and clip is None
        if at_rest and self._standing[0] is engine and self._standing[1] is counts.blocks:
            return
        self._standing = None, None
        elapsed = counts.clock.item() - counts.since
        if self._scheduled:
            options = options.copy()
            for number, scheduled in self._scheduled:
                options[number] = {**options[number], "lr": scheduled.learning_rate(counts.made + elapsed)}
        if self._gathered[0] is not counts.blocks or self._gathered[1] is not engine.two_pass_table:
            self._gather(engine.two_pass_table, elapsed)
        plain = self._plain if at_rest else None
        self._begun.clear()
        for alike in self._alike:
            block, running = alike.blocks[0], None
            group, step = block.group, block.step + elapsed + 1
            rule, given = self._rules[group], options[group]
            if alike.own:
                running = running_before(rule, block, elapsed)
            riders = self._riders(scale * self._signs[group], clip, step) if plain is None else plain[group]
            made = rule.begin(step, given, running)
            engine.prepare(alike.slots, alike.dtypes, riders, made[0], (rule, step, given, running, None))
            if alike.own:
                block.after = made[1]
            if rule.measure is not None:
                self._begun.append((alike.blocks, riders, made, step, given, running))
        if at_rest and self._steady and engine.keeps_scalars:
            self._standing = engine, counts.blocks

    def _gather(self, turns: TwoPassTable | None, elapsed: int) -> None:
        """Find the blocks that are alike, and lend running numbers to turns that can go on with them."""
        counts, rules = self._counts, self._rules
        found: dict[Any, list[StepGroup]] = {}
        taken: list[StepGroup] = []
        lent: list[SharedRow] = []
        for block in counts.blocks:
            rule, running, own = rules[block.group], (), None
            if turns is not None and rule.measure is not None:
                if rule.running is not None:
                    running = running_before(rule, block, elapsed)
                taken.append(block)
                lent.append(SharedRow(block.members, block.step + 1 - counts.since, running, block.group))
            elif rule.running is not None:
                own = block.slot
            found.setdefault((block.group, block.step, own), []).append(block)
        if turns is not None:
            for block, row in zip(taken, turns.begin(lent), strict=True):
                if rules[block.group].running is not None:
                    block.lent = turns, row
        self._alike = [SharedScalars(blocks, own is not None) for (_, _, own), blocks in found.items()]
        self._gathered = counts.blocks, turns

    def measure(self, engine: Engine) -> None:
        """The first pass of rules that have a measure: what is added up goes into their numbers."""
        found = engine.measure()
        for blocks, riders, begun, step, given, running in self._begun:
            rule = self._rules[blocks[0].group]
            for block in blocks:
                if rule.over == "tensor":
                    sums = found[block.slot]
                else:
                    sums = folded(np.array([found[number] for number in self._of_group(block.group)]))
                scalars, block.after = rule.end(begun, sums, step)
                engine.prepare([block.slot], block.dtypes, riders, scalars, (rule, step, given, running, sums))

    def _of_group(self, group: int) -> list[int]:
        """The tensors of a group that have gradients."""
        return sorted(number for block in self._counts.blocks if block.group == group for number in block.members)

    def _riders(self, scale: float, clip: float | None, step: int) -> Riders:
        """The riders' numbers of a step."""
        kept = self._storage
        if clip is None and kept.ema is None and not kept.stochastic:
            return Riders(scale, slow_step=self._share)
        keep = 0.0 if kept.ema is None else kept.ema
        high, low = random_key(kept.seed, step) if kept.stochastic else (0, 0)
        return Riders(scale, clip or 0.0, keep, 1.0 - keep, float(high), float(low), self._share)
