"""Functions of a rule for the host, called once for many groups: the bits of one call a group."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import options_of
from schuss_kernels.lang import batched
from schuss_kernels.rules import RULES


def one_by_one(function, arguments):
    return np.array([list(function(*values)) for values in zip(*arguments, strict=True)], np.float64).T


def together(function, arguments):
    return batched.call(function, len(arguments[0]), [batched.argument(values) for values in arguments])


def assert_same(function, *arguments):
    assert together(function, arguments).tobytes() == one_by_one(function, arguments).tobytes()


def branches(lr, flag, beta):
    rate = max(lr, 0.25) if lr > 0.1 else lr / beta[0]
    return rate, -rate + 1, abs(2 - rate) * (3.0 if flag else beta[1]), min(rate, 1.0) ** 2.5, 0.5**rate


@pytest.mark.parametrize("seed", range(3))
def test_branches_and_operators(seed):
    draw = np.random.default_rng(seed)
    rates = draw.random(40).tolist()
    betas = [(0.5, 0.75) if seed else (number, 0.5) for number in rates]
    assert_same(branches, rates, [bool(seed)] * 40, betas)
    assert_same(branches, rates, [number > 0.5 for number in rates], betas)


def test_what_batched_numbers_do_not_have_is_computed_one_by_one():
    rates = [0.1, 0.2, 0.3, -0.0, 0.0]
    assert_same(lambda lr: (math.sqrt(lr), math.exp(lr), math.copysign(1.0, lr), lr // 0.07), rates)
    assert_same(lambda lr: (1.0 / (lr - 7.0), 1e300 * (1e300 * lr)), rates)


def test_errors_are_those_of_a_group():
    with pytest.raises(ZeroDivisionError):
        together(lambda lr: (1.0 / lr,), [[1.0, 0.0, 2.0, 3.0]])


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if not rule.matrix])
def test_scalars_of_every_rule(name):
    """Groups that differ in some options; running numbers as they are after different histories."""
    rule = RULES[name]
    options = options_of(rule)
    draw, names, count = np.random.default_rng(0), rule.scalar_names, 12
    given = [
        [
            value * (1.0 - 0.25 * float(draw.integers(0, 3))) if type(value) is float and draw.random() < 0.5 else value
            for _ in range(count)
        ]
        for value in (options[name] for name in names)
    ]
    running = [None] * count if rule.running is None else [rule.running() for _ in range(count)]
    for step in (1, 2, 7):

        def begin(before, *values, step=step):
            scalars, after = rule.begin(step, dict(zip(names, values, strict=True)), before)
            return (*scalars, *(after or ()))

        assert_same(begin, running, *given)
        if rule.running is not None:
            numbers = together(begin, [running, *given])[len(rule.Scalars._fields) :].T.tolist()
            running = [rule.running(*own) for own in numbers]


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.measure is not None])
def test_finish_of_every_rule_that_measures(name):
    rule, draw, count = RULES[name], np.random.default_rng(1), 20
    options = {key: options_of(rule)[key] for key in rule.scalar_names}
    (scalars, running) = rule.begin(3, options, None if rule.running is None else rule.running())
    sums = [np.where(draw.random(count) < 0.2, 0.0, draw.random(count) * 3.0).tolist() for _ in rule.Sums._fields]
    before = [list(scalars), *([list(running)] if running is not None else [])]
    given = [[number] * count for numbers in before for number in numbers]

    def end(*values):
        first, second = len(scalars), len(given)
        begun = rule.Scalars(*values[:first]), rule.running and rule.running(*values[first:second])
        found, after = rule.end(begun, values[second:], 3)
        return (*found, *(after or ()))

    assert_same(end, *given, *sums)
