"""Runs a rule without a compiler: its functions as plain Python, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

from .rule import Rule, RuleError
from .specialize import specialize

_MATH = SimpleNamespace(
    **{name: getattr(np, name, None) or getattr(math, name) for name in dir(math) if not name.startswith("_")}
)


def scalar_update(rule: Rule, scalar_type: type) -> Callable[..., Any]:
    """Return the rule's update as plain Python, see :func:`as_python`."""
    return as_python(rule.update, scalar_type)


def as_python(function: Any, scalar_type: type) -> Callable[..., Any]:
    """Return a rule's function as plain Python on numpy scalars of a type.

    Roots and logarithms are numpy's, which return NaN where those of ``math`` raise.
    """
    made: Callable[..., Any] = specialize(function, scalar_type, _with_numpys_math)
    return made


def _with_numpys_math(function: Any) -> Any:
    scope = function.__globals__
    scope.update({name: _MATH for name, value in scope.items() if value is math})
    return function


def _scalars(rule: Rule, scalar_type: type, step: int, options: dict[str, Any]) -> Any:
    """Return the rule's ``Scalars`` from what a reference is given."""
    running, sums = options.pop("running", None), options.pop("sums", None)
    return rule.Scalars(*map(scalar_type, rule.numbers(step, options, running, sums)[0]))


def measured_element_by_element(rule: Rule) -> Callable[..., Any]:
    """Make the numpy measure of a rule that brings none: it calls the rule's measure for every element."""

    def reference_measure(p: np.ndarray, g: np.ndarray, s: Any, step: int, **options: Any) -> Any:
        scalar_type = p.dtype.type
        measure, h = as_python(rule.measure, scalar_type), _scalars(rule, scalar_type, step, options)
        made = [np.empty_like(p) for _ in rule.Sums._fields]
        for index in np.ndindex(p.shape):
            values = measure(p[index], g[index], rule.State(*(array[index] for array in s)), h)
            for array, value in zip(made, values, strict=True):
                array[index] = value
        return rule.Sums(*made)

    return reference_measure


def element_by_element(rule: Rule) -> Callable[..., Any]:
    """Make the reference of a rule that brings none: it calls the rule's update for every element."""

    def reference(p: np.ndarray, g: np.ndarray, s: Any, step: int, **options: Any) -> Any:
        scalar_type = p.dtype.type
        update = scalar_update(rule, scalar_type)
        h = _scalars(rule, scalar_type, step, options)
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
