"""What a rule's functions may call, and what is said of everything else."""

from __future__ import annotations

import math
import operator
from collections import namedtuple

import numpy as np
import pytest
from schuss_kernels.lang import calls
from schuss_kernels.rules import COMPILED

import schuss
from schuss import elementary

State, Scalars, Sums = namedtuple("State", []), namedtuple("Scalars", ["lr"]), namedtuple("Sums", ["size"])


def scalars(step, *, lr=0.1):
    return Scalars(lr)


def curved(x):
    return math.exp(x)


def plain(x):
    return elementary.tanh(x) if x > 0.0 else -math.sqrt(abs(x))


def make(update, **parts):
    return schuss.Rule("mine", State, Scalars, scalars, update, **parts)


@pytest.mark.parametrize(
    ("update", "said"),
    [
        (lambda p, g, s, h: (math.tanh(p), s), "calls math.tanh, which .*: use schuss.elementary.tanh. It may use"),
        (lambda p, g, s, h: (np.arctan2(p, g), s), "calls np.arctan2, .*: use schuss.elementary.atan2"),
        (lambda p, g, s, h: (np.maximum(p, g), s), r"calls np.maximum, .*: use max\(x, y\) or a conditional"),
        (lambda p, g, s, h: (p * g**2, s), r"has the operator \*\*, .*: use schuss.elementary.power.*, or x \* x for"),
        (lambda p, g, s, h: (pow(p, g), s), "calls pow, .*: use schuss.elementary.power"),
        (lambda p, g, s, h: (operator.mul(p, g), s), "calls operator.mul, which does not give the same bits on every"),
        (lambda p, g, s, h: (p - curved(g), s), r"calls math.exp in curved\(\), .*: use schuss.elementary.exp"),
        (lambda p, g, s, h: ((lambda x: math.log2(x))(p), s), r"calls math.log2, .*: use schuss.elementary.log\(x\) t"),
    ],
)
def test_calls_with_other_bits_elsewhere_are_named_when_the_rule_is_made(update, said):
    with pytest.raises(schuss.RuleError, match=rf"rule 'mine': update\(\) {said}"):
        make(update)


def test_of_what_a_function_closes_over_and_of_measures():
    root = np.cbrt
    with pytest.raises(schuss.RuleError, match=r"update\(\) calls root, .*: use schuss.elementary.cube_root"):
        make(lambda p, g, s, h: (root(p), s))
    parts = {"Sums": Sums, "measure": lambda p, g, s, h: Sums(math.sin(g)), "finish": lambda h, sums, step: h}
    with pytest.raises(schuss.RuleError, match=r"measure\(\) calls math.sin"):
        make(lambda p, g, s, h: (p, s), **parts)


def test_a_helper_that_is_defined_later_is_named_when_the_rule_is_first_used():
    scope = {"State": State, "math": math}
    exec("def update(p, g, s, h): return p - later(g), s", scope)
    rule = make(scope["update"])
    exec("def later(x): return math.exp(x)", scope)
    with pytest.raises(schuss.RuleError, match=r"update\(\) calls math.exp in later\(\)"):
        schuss.Optimizer([np.ones(3)], rule, backend="numba")


def test_what_a_rule_may_call():
    make(lambda p, g, s, h: (plain(p) + max(p, g) - min(p, np.sqrt(abs(g))) if math.isfinite(g) else np.float32(p), s))
    make(lambda p, g, s, h: (schuss.elementary.power(p, g), State()))
    make(lambda p, g, s, h: (p, s), finish=lambda h, sums, step: Scalars(math.exp(1.0)), Sums=Sums, measure=measure)


def measure(p, g, s, h):
    return Sums(g * g)


@pytest.mark.parametrize("name", COMPILED)
def test_built_in_rules_call_nothing_else(name):
    rule = COMPILED[name]
    for function in (rule.update, rule.measure, rule.finish):  # of these `finish` is compiled, too
        assert function is None or calls.complaint(function) is None
