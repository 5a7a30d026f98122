"""The numbers of a step: what every block of tensors is given by its rule, and what rides along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from schuss_kernels.engine import Engine, folded
from schuss_kernels.rounding import key as random_key
from schuss_kernels.rule import Rule

from .common import Keeping
from .counts import Block, Counts, running_before
from .groups import ParamGroup


class Numbers:
    """Gives the engine the numbers of the next step, block by block of ``counts``."""

    measures = False
    """Whether a rule has a measure, so that there is a first pass."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._begun: list[tuple[Any, ...]] = []  # what the second pass goes on from

    def look(self, groups: Sequence[ParamGroup], rules: Sequence[Rule], keeping: Keeping, share: float) -> None:
        """Take in what the groups say now: one for each of ``rules``. ``share``: how far slow weights go."""
        self._rules, self._keeping, self._share = rules, keeping, share
        self.measures = any(rule.measure is not None for rule in rules)
        self._options = [group.options_of(rule) for group, rule in zip(groups, rules, strict=True)]
        self._signs = [-1.0 if group["maximize"] else 1.0 for group in groups]
        self._scheduled = [
            (form, group)
            for form, (group, rule) in enumerate(zip(groups, rules, strict=True))
            if callable(group.get("lr")) and "lr" in rule.scalar_names
        ]
        # What the riders' numbers are where nothing rides, which is mostly: made once.
        same = keeping.ema is None and not keeping.stochastic
        self._plain = [self._riders(sign, None, 0) for sign in self._signs] if same else None

    def prepare(self, engine: Engine, scale: float, clip: float | None) -> None:
        """``scale``: of the gradients, ``clip``: what they are limited to. Where a rule has a measure, these are the
        numbers to measure with."""
        counts, options = self._counts, self._options
        elapsed = counts.clock.item() - counts.since
        if self._scheduled:
            options = options.copy()
            for number, scheduled in self._scheduled:
                options[number] = {**options[number], "lr": scheduled.learning_rate(counts.made + elapsed)}
        plain = self._plain if scale == 1.0 and clip is None else None
        self._begun.clear()
        together: list[int] = []  # slots of neighbours that have the same numbers
        key: Any = None
        last: tuple[Any, ...] = ()
        for block in counts.blocks:
            group, step, running = block.group, block.step + elapsed + 1, None
            rule, given = self._rules[group], options[group]
            if rule.running is not None and not self._lent(block, engine):
                running = running_before(rule, block, elapsed)
            if key is None or key != (group, step, running, block.kinds):
                if together:
                    engine.prepare(together, *last)
                    together = []
                key = group, step, running, block.kinds
                riders = self._riders(scale * self._signs[group], clip, step) if plain is None else plain[group]
                made = rule.begin(step, given, running)
                last = block.kinds, riders, made[0], rule, step, given, running
            together.append(block.slot)
            block.after = made[1]
            if rule.measure is not None:
                self._begun.append((block, riders, made, step, given, running))
        if together:
            engine.prepare(together, *last)

    @staticmethod
    def _lent(block: Block, engine: Engine) -> bool:
        """Whether it is the engine that knows a block's running numbers."""
        return block.lent is not None and block.lent[0] is engine.turns

    def measure(self, engine: Engine) -> None:
        """The first pass of rules that have a measure: what is added up goes into their numbers."""
        found = engine.measure()
        for block, riders, begun, step, given, running in self._begun:
            rule = self._rules[block.group]
            if rule.over == "tensor":
                sums = found[block.slot]
            else:
                sums = folded(np.array([found[number] for number in self._of_group(block.group)]))
            scalars, block.after = rule.end(begun, sums, step)
            engine.prepare([block.slot], block.kinds, riders, scalars, rule, step, given, running, sums)

    def turn(self, engine: Engine) -> None:
        """Both passes, in one call of an engine that has ``turns``; these have the running numbers from then on."""
        turns = engine.turns
        assert turns is not None
        steps = [0] * len(engine.tensors)
        running: dict[int, tuple[float, ...]] = {}
        for block, _, _, step, _, before in self._begun:
            steps[block.slot] = step
            if before is not None:
                running[block.slot] = before
        turns.begin(steps, running)
        for block, _, _, _, _, before in self._begun if running else ():
            if before is not None:
                block.lent = turns, block.slot
        engine.turn()

    def _of_group(self, group: int) -> list[int]:
        """The tensors of a group that have gradients."""
        return [number for block in self._counts.blocks if block.group == group for number in block.members]

    def _riders(self, scale: float, clip: float | None, step: int) -> tuple[float, ...]:
        """The numbers of :data:`schuss_kernels.engine.RIDERS`."""
        kept = self._keeping
        if clip is None and kept.ema is None and not kept.stochastic:
            return scale, 0.0, 0.0, 0.0, 0.0, 0.0, self._share, 0.0
        keep = 0.0 if kept.ema is None else kept.ema
        high, low = random_key(kept.seed, step) if kept.stochastic else (0, 0)
        return scale, clip or 0.0, keep, 1.0 - keep, float(high), float(low), self._share, 0.0
