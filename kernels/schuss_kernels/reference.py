"""The engine without a compiler: each rule's numpy reference, tensor by tensor.

Slow, and the statement of what every kernel has to produce, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import plan, rounding
from .engine import CLIP, EMA_ADD, EMA_KEEP, KEY_HIGH, KEY_LOW, LANES, SCALE, Engine, Memory, Tensor, total
from .rule import Rule, RuleError, specialise
from .storage import Spec


class ReferenceEngine(Engine):
    """``rule.reference`` on whole arrays; a rule without one is evaluated element by element."""

    name = "numpy"

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None) -> None:
        super().__init__(tensors, clock)
        self._slots: dict[int, tuple[int, dict[str, Any], tuple[float, ...]]] = {}

    def set_slots(self, slots: Sequence[int | None]) -> None:
        for tensor, slot in zip(self.tensors, slots, strict=True):
            tensor.slot = slot or 0

    def prepare(
        self,
        slot: int,
        kinds: Sequence[np.dtype],
        rule: Rule,
        step: int,
        options: Mapping[str, Any],
        riders: tuple[float, ...],
    ) -> None:
        self._slots[slot] = step, dict(options), riders

    def place(self, gradients: Sequence[Memory | None]) -> None:
        self._gradients = list(gradients)

    def squares(self) -> tuple[float, bool]:
        with np.errstate(all="ignore"):
            sums = [
                _squares(gradient.array, tensor.parameter)
                for tensor, gradient in zip(self.tensors, self._gradients, strict=True)
                if gradient is not None
            ]
            return total(np.concatenate([np.zeros((0, 2)), *sums]))

    def launch(self) -> None:
        with np.errstate(all="ignore"):
            for number, (tensor, gradient) in enumerate(zip(self.tensors, self._gradients, strict=True)):
                if gradient is not None:
                    self._step(number, tensor, gradient.array)
        self.clock[0] += 1

    def _step(self, number: int, tensor: Tensor, gradient: np.ndarray) -> None:
        step, options, riders = self._slots[tensor.slot]
        spec = tensor.spec(False, self.clip, self.zero)
        rule, kind, others = tensor.rule, spec.compute.type, tensor.others

        p = _parameter(tensor, spec)
        g = gradient.astype(spec.compute) * kind(riders[SCALE])
        if self.clip:
            most = kind(riders[CLIP])
            g = np.where(g > most, most, g)  # not numpy.clip: a NaN stays one here too, but -0.0 may not
            g = np.where(g < -most, -most, g)
        state = rule.State(*(memory.array.astype(spec.compute) for memory in tensor.states))
        reference = rule.reference or element_by_element(rule)
        moved, state = reference(p, g, state, step, **options)

        halves = int(riders[KEY_HIGH]), int(riders[KEY_LOW])
        draws = dict(
            zip(spec.at_random, rounding.draws(halves, number, p.size, len(spec.at_random)), strict=True)
        )  # fmt: skip
        order = plan.memory_order(p.shape, tensor.parameter.strides)
        if spec.master == "remainder":
            high, low = rounding.split(moved)
            tensor.parameter.array[...] = high.view(tensor.parameter.dtype)
            others["master"].array[...] = low
        else:
            _write(tensor.parameter, moved, draws.get(0), order)
            if spec.master:
                others["master"].array[...] = moved
        for stream, (memory, value) in enumerate(zip(tensor.states, state, strict=True), 2):
            _write(memory, value, draws.get(stream), order)
        if self.zero:
            gradient[...] = 0.0
        if "ema" in others:
            mean = others["ema"].array
            mean[...] = kind(riders[EMA_KEEP]) * mean + kind(riders[EMA_ADD]) * moved
        if "copy" in others:
            _write(others["copy"], moved, None, order)


def _squares(gradient: np.ndarray, parameter: Memory) -> np.ndarray:
    """For every BLOCK elements the sum of the squares, and 0.0 or, where one is not finite, NaN."""
    order = plan.memory_order(parameter.shape, parameter.strides)
    values = gradient.transpose(order) if gradient.ndim else gradient
    values = values.astype(np.float64).reshape(-1)
    sums = np.zeros((-(-values.size // plan.BLOCK), 2))
    for number, first in enumerate(range(0, values.size, plan.BLOCK)):
        block = values[first : first + plan.BLOCK]
        lanes = np.zeros((-(-block.size // LANES), LANES))
        lanes.reshape(-1)[: block.size] = block
        halves = np.cumsum(lanes * lanes, axis=0)[-1]  # one after the other, as numpy.sum does not promise
        while halves.size > 1:
            halves = halves[: halves.size // 2] + halves[halves.size // 2 :]
        sums[number] = halves[0], 0.0 if np.isfinite(block).all() else np.nan
    return sums


def _parameter(tensor: Tensor, spec: Spec) -> np.ndarray:
    """The parameter in the compute type, or its master weight."""
    array = tensor.parameter.array
    if spec.master == "float32":
        return tensor.others["master"].array.copy()
    if spec.master:
        return rounding.joined(array.view(np.uint16), tensor.others["master"].array)
    return array.astype(spec.compute)


def _write(memory: Memory, values: np.ndarray, draw: np.ndarray | None, order: Sequence[int]) -> None:
    """Round values to what the memory holds; ``draw``: at random, its bits in the order of the walk."""
    if draw is None:
        memory.array[...] = (
            values if values.dtype.itemsize < 8 or memory.dtype.itemsize > 2 else values.astype(np.float32)
        )
        return
    in_walk = values.transpose(order) if values.ndim else values
    made = rounding.rounded(np.ascontiguousarray(in_walk).reshape(-1), memory.dtype, draw).reshape(in_walk.shape)
    memory.array[...] = made.transpose(np.argsort(order)) if values.ndim else made


_MATH = SimpleNamespace(
    **{name: getattr(np, name, None) or getattr(math, name) for name in dir(math) if not name.startswith("_")}
)
_MATH.fabs, _MATH.pow = np.fabs, np.power


def scalar_update(rule: Rule, kind: type) -> Callable[..., Any]:
    """``update`` as plain Python on numpy scalars of ``kind``, with numpy's roots and logarithms (NaN, not errors)."""

    def wrap(function: Any) -> Any:
        scope = function.__globals__
        scope.update({name: _MATH for name, value in scope.items() if value is math})
        return function

    return specialise(rule.update, kind, wrap)


def element_by_element(rule: Rule) -> Callable[..., Any]:
    """A reference for a rule that brings none: its update, called for every element."""

    def reference(p: np.ndarray, g: np.ndarray, s: Any, step: int, **options: Any) -> Any:
        kind = p.dtype.type
        update = scalar_update(rule, kind)
        h = rule.Scalars(*map(kind, rule.scalars_at(step, options)))
        moved, states = np.empty_like(p), [np.empty_like(array) for array in s]
        for index in np.ndindex(p.shape):
            value, new = update(p[index], g[index], rule.State(*(array[index] for array in s)), h)
            if len(new) != len(states):
                raise RuleError(f"rule {rule.name!r}: update() returned {len(new)} states instead of {len(states)}")
            moved[index] = value
            for array, number in zip(states, new, strict=True):
                array[index] = number
        return moved, rule.State(*states)

    return reference
