"""What an option of 0 leaves alone: infinite parameters without a decay, every parameter at a learning rate of 0."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from cases import CASES, assert_same_bits, said

import schuss

FOUND = {variant.name: variant for variant in schuss.optimizers()}


def masked_step(make, *given, steps=1, **options):
    """Step a tensor with an entry of -inf, whose gradient is 0, without weight decay; the entry must stay."""
    w = np.array([[1.0, -np.inf], [0.5, -2.0]], np.float32)
    optimizer = make(*given, [w], **options, backend="numpy")
    for group in optimizer.param_groups:
        group.update({name: 0.0 for name in ("weight_decay", "adam_weight_decay") if group.get(name)})
    for _ in range(steps):
        optimizer.step([np.array([[1.0, 0.0], [1.0, 1.0]], np.float32)])
    assert w[0, 1] == -np.inf
    assert np.isfinite(w.ravel()[[0, 2, 3]]).all()


@pytest.mark.parametrize("name", FOUND)
def test_an_infinite_parameter_without_a_gradient_stays(name):
    """As masks are, such as -inf in logits; 0 * inf would be NaN."""
    masked_step(schuss.make, name, steps=3)


@pytest.mark.parametrize("case", [case for case in CASES if "convention" in case.options], ids=str)
def test_an_infinite_parameter_stays_in_every_convention(case):
    masked_step(case.make, **case.options)


def test_decay_of_an_infinite_parameter(backend):
    for options in ({}, {"momentum": 0.9}, {"weight_decay": 0.1}):
        w = [np.array([np.inf, 1.0, -np.inf, -0.0], np.float32) for _ in range(2)]
        g = [np.array([0.0, 0.0, 1.0, -0.0], np.float32)]
        for p, engine in zip(w, ("auto" if backend == "native" else backend, "numpy"), strict=True):
            schuss.SGD([p], lr=0.1, backend=engine, **options).step(g)
        assert_same_bits(*w)
        if "weight_decay" not in options:
            np.testing.assert_array_equal(np.isinf(w[0]), [True, False, True, False])


def rates(variant):
    """Whether an optimizer has a learning rate to start a warm-up with."""
    return "lr" in variant.cls.__init__.__code__.co_varnames


WARMED = [(schuss.make, (name,), {}) for name, variant in FOUND.items() if rates(variant)] + [
    (cls, (), {"convention": convention, **options})
    for cls, conventions, options in (
        (schuss.FTRL, ("paper", "keras"), {"learning_rate_power": -0.4}),
        (schuss.FTRL, ("keras",), {"l2": 0.1, "l2_shrinkage": 0.1, "weight_decay": 0.1}),
        (schuss.Rprop, ("paper", "optax"), {}),
    )
    for convention in conventions
]


@pytest.mark.parametrize(("make", "given", "options"), WARMED, ids=said)
def test_a_warm_up_from_zero(make, given, options):
    rng = np.random.default_rng(0)
    start = rng.normal(size=(6, 5)).astype(np.float32)
    w = start.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer = make(*given, [w], lr=lambda step: 0.0 if step < 2 else 0.01, backend="numpy", **options)
        for _ in range(2):
            optimizer.step([rng.normal(size=w.shape).astype(np.float32)])
        np.testing.assert_array_equal(w, start)
        for _ in range(5):
            optimizer.step([np.ones(w.shape, np.float32)])
    assert np.isfinite(w).all()
    assert (w != start).any()


def test_ftrl_after_steps_at_zero_is_as_new(backend):
    """Neither sum has changed, so that the parameter is not forgotten; 1e-40 is a rate that nothing is divided by."""
    engine = "auto" if backend == "native" else backend
    w, v = np.array([1.0, -2.0], np.float32), np.array([1.0, -2.0], np.float32)
    warmed = schuss.FTRL([w], lr=lambda step: [0.0, 1e-40, 0.1][step], backend=engine)
    for _ in range(3):
        warmed.step([np.array([0.5, 3.0], np.float32)])
    schuss.FTRL([v], lr=0.1, backend="numpy").step([np.array([0.5, 3.0], np.float32)])
    assert_same_bits(w, v)


@pytest.mark.parametrize("cls", [schuss.ScheduleFreeRAdam, schuss.QHAdam])
@pytest.mark.parametrize("huge", [1e20, 3e38])
def test_one_huge_gradient_leaves_finite_weights(cls, huge):
    """Its square is infinite in float32, and counts where it is multiplied by more than 0 alone."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=8).astype(np.float32)
    optimizer = cls([w], backend="numpy")
    for step in range(12):
        optimizer.step([np.full(8, huge, np.float32) if step == 3 else rng.normal(size=8).astype(np.float32)])
    assert np.isfinite(w).all()
