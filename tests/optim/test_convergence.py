"""Every optimizer gets there: to the minimum of a parabola and of Rosenbrock's valley, to a network that reads digits.

Every run goes all the way with the classic ones and a little of it with the others, ``-m full`` with all.
The learning rates are those of :mod:`schuss.problems.rates` and of the registry; ``docs/optimizers.md`` lists them.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest

import schuss
from schuss import problems, schedules
from schuss.optim import registry
from schuss.problems import rates

NEAR = 0.02
"""How far from the minimum a descent may end: a hundredth of the way there."""

POINTS = 2.0
"""How many points of accuracy an optimizer may be behind AdamW."""

DIVERGES = float("inf")
SHORT = {
    # The decay of 0.01 that they have by default moves the minimum of a valley this flat.
    ("rosenbrock", "adamw-amsgrad"): 0.25,
    # Every step is a share of the weights themselves, so it is large wherever they are.
    ("rosenbrock", "fromage"): 0.4,
    # The first five steps are those of momentum, whose rate has to be small enough for the steep slopes at the start.
    ("rosenbrock", "radam"): 0.3,
    # Rates from distances and norms: small for good once the steep slopes at the start have been seen.
    ("rosenbrock", "ldog"): 0.04,
    # The mean of all points on the way still has the first ones in it.
    ("rosenbrock", "schedule-free-sgd"): 0.06,
    # Plain gradients, and twice the last one: the steep slopes allow half of SGD's rate.
    ("rosenbrock", "optimistic-gd"): 0.2,
    # It bets what it has won: thousands of steps are few.
    ("rosenbrock", "cocob"): 0.3,
    # The weights follow from sums of gradients alone, so that they begin at zero, not at the problem's start.
    ("rosenbrock", "ftrl"): 1.5,
    # They end as SGD with the rate final_lr, 0.1 by default: a hundred times what this valley allows.
    ("rosenbrock", "adabound"): DIVERGES,
    ("rosenbrock", "amsbound"): DIVERGES,
}
"""Optimizers that do not get to the minimum of a problem -> how near they come. The distances are measured; the reasons
are a reading of the rules, not an experiment, but for AdaBound's (tested below)."""

LESS = {
    # Made for the gradient of all data: the signs of a batch's are noise.
    "rprop": 92.0,
    # The weights begin at zero (see above), where units of a layer are alike and stay it.
    "ftrl": 40.0,
}
"""Optimizers that are further behind -> percent of the digits that they read."""


@pytest.mark.parametrize("name", rates.SETTLING)
def test_every_optimizer_has_a_rate(name):
    assert set(registry.VARIANTS) <= set(rates.SETTLING[name]), "run python bench/new_optimizer.py"


@pytest.mark.parametrize("key", registry.VARIANTS)
def test_the_loss_falls(key):
    problem = problems.quadratic()
    history = problems.train(problem, key, lr=schedules.cosine(rates.SETTLING["quadratic"][key], 300), epochs=300)
    assert history.loss < 0.5 * history.losses[0]


def of_classic(*fixed):
    """Of an optimizer of the classic ones in every run, of the others with ``-m full``."""
    for key in registry.VARIANTS:
        yield pytest.param(*fixed, key, marks=[] if key in registry.CLASSIC else [pytest.mark.full])


@pytest.mark.parametrize(("name", "key"), [row for name in rates.SETTLING for row in of_classic(name)])
def test_the_minimum_is_reached(name, key):
    problem, rate = problems.make(name), rates.SETTLING[name][key]
    history = problems.train(problem, key, lr=schedules.cosine(rate, rates.STEPS), epochs=rates.STEPS)
    distance = np.linalg.norm(problem.vector(history.params) - problem.vector(problem.answer))
    allowed = SHORT.get((name, key), NEAR)
    assert history.diverged == (allowed == DIVERGES)
    assert distance <= allowed, f"{distance:.3g} from it"


def test_adabound_ends_as_the_sgd_that_it_is_told_to():
    problem = problems.rosenbrock()
    rate = schedules.cosine(0.03, rates.STEPS)
    history = problems.train(problem, schuss.AdaBound, lr=rate, final_lr=0.003, epochs=rates.STEPS)
    assert np.linalg.norm(problem.vector(history.params) - problem.vector(problem.answer)) <= NEAR


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


@pytest.mark.parametrize("key", list(of_classic()))
def test_a_network_learns(key):
    assert accuracy("adamw") > 96.0
    assert accuracy(key) >= LESS.get(key, accuracy("adamw") - POINTS)
