"""The engine without a compiler: each rule's numpy reference, tensor by tensor.

Slow, and the statement of what every kernel has to produce, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from .engine import Engine, Memory, Tensor
from .rule import Rule, RuleError, specialise


class ReferenceEngine(Engine):
    """``rule.reference`` on whole arrays; a rule without one is evaluated element by element."""

    name = "numpy"

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None) -> None:
        super().__init__(tensors, clock)
        self._slots: dict[int, tuple[int, dict[str, Any], float]] = {}

    def set_slots(self, slots: Sequence[int]) -> None:
        for tensor, slot in zip(self.tensors, slots, strict=True):
            tensor.slot = slot

    def prepare(
        self, slot: int, kinds: Sequence[np.dtype], rule: Rule, step: int, options: Mapping[str, Any], scale: float
    ) -> None:
        self._slots[slot] = step, dict(options), scale

    def step(self, gradients: Sequence[Memory | None]) -> None:
        with np.errstate(all="ignore"):
            for tensor, gradient in zip(self.tensors, gradients, strict=True):
                if gradient is not None:
                    self._step(tensor, gradient.array)
        self.clock[0] += 1

    def _step(self, tensor: Tensor, gradient: np.ndarray) -> None:
        step, options, scale = self._slots[tensor.slot]
        parameter, rule = tensor.parameter.array, tensor.rule
        g = gradient.astype(parameter.dtype) * scale
        state = rule.State(*(memory.array for memory in tensor.states))
        reference = rule.reference or element_by_element(rule)
        moved, state = reference(parameter, g, state, step, **options)
        parameter[...] = moved
        for memory, value in zip(tensor.states, state, strict=True):
            memory.array[...] = value


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
