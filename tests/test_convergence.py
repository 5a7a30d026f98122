"""Every optimizer gets there: to the minimum of a parabola and of Rosenbrock's valley, to a network that reads digits.

The learning rates are those of :mod:`schuss.problems.rates` and of the catalogue; ``docs/optimizers.md`` lists them.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

from schuss import catalogue, problems, schedules
from schuss.problems import rates

NEAR = 0.01
"""How far from the minimum a descent may end: a hundredth of what separates it from where things are flat."""

POINTS = 2.0
"""How many points of accuracy an optimizer may be behind AdamW."""

SHORT = {}
"""Optimizers that do not get to the minimum of a problem -> how near they come, and why they come no nearer."""


@pytest.mark.parametrize("key", catalogue.VARIANTS)
@pytest.mark.parametrize("name", rates.SETTLING)
def test_the_minimum_is_reached(name, key):
    problem, rate = problems.make(name), rates.SETTLING[name][key]
    history = problems.train(problem, key, lr=schedules.cosine(rate, rates.STEPS), epochs=rates.STEPS)
    distance = np.linalg.norm(problem.vector(history.params) - problem.vector(problem.answer))
    assert not history.diverged
    assert distance <= SHORT.get((name, key), (NEAR,))[0], f"{distance:.3g} from it"


@functools.cache
def accuracy(key):
    """Percent of the digits of the test set, on the mean of two orders and starts."""
    pytest.importorskip("sklearn", reason="scikit-learn has the digits")
    found = []
    for seed in (0, 1):
        problem = problems.digits_mlp(seed=seed)
        history = problems.train(problem, key, strategy="mini-batch", batch_size=64, epochs=20, seed=seed)
        found.append(problem.score(history.params))
    return 100.0 * float(np.mean(found))


@pytest.mark.parametrize("key", catalogue.VARIANTS)
def test_a_network_learns(key):
    assert accuracy("adamw") > 96.0
    assert accuracy(key) >= accuracy("adamw") - POINTS
