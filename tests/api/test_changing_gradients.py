"""Gradients that change from step to step: which there are, their dtypes and layouts, and the options of the step."""

from __future__ import annotations

import numpy as np
import pytest
from cases import arrays, assert_same_optimizers
from schuss_kernels.engine.plan_engine import MAX_PLANS, PlanEngine

import schuss

SHAPES = [(7,), (30, 4), (), (5, 6)]


@pytest.fixture
def built(monkeypatch):
    """One entry for every plan that is built."""
    plans = []
    build = PlanEngine.build_plan
    monkeypatch.setattr(PlanEngine, "build_plan", lambda engine: plans.append(engine) or build(engine))
    return plans


def pair(cls=schuss.AdamW, params=None, **options):
    """An optimizer with kernels, and one with the reference."""
    made = []
    for backend in ("numba", "numpy"):
        own = arrays(SHAPES, np.float32, 0) if params is None else params()
        made.append(cls(own, lr=0.01, backend=backend, **options))
    return made


def step(optimizers, gradients, **options):
    for optimizer in optimizers:
        optimizer.step([None if g is None else g.copy(order="K") for g in gradients], **options)
    assert_same_optimizers(*optimizers)


def in_form(gradients, form):
    if form == "float64":
        return [gradients[0], gradients[1].astype(np.float64), *gradients[2:]]
    return [g.copy(order="F") if form == "fortran" else g for g in gradients]


def test_a_plan_is_built_once_for_each_form_and_option(built):
    optimizers = pair(schuss.SGD)
    forms = ["dense", "float64", "dense", "float64", "dense"]
    options = [{}, {}, {"zero_grad": True}, {"zero_grad": True}, {"clip_norm": 0.5}]
    for number in range(30):
        gradients = in_form(arrays(SHAPES, np.float32, 1 + number), forms[number % 5])
        if number % 4 == 3:
            gradients[1] = None
        if number == 20:  # every form and option has been seen with and without all gradients
            built.clear()
        step(optimizers, gradients, **options[number % 5])
    assert not built


def test_the_number_of_plans_is_bounded():
    optimizers = pair(schuss.SGD)
    for number in range(2 * MAX_PLANS):
        gradients = arrays(SHAPES, np.float32, number)
        for place in range(4):
            if number >> place & 1:
                gradients[place] = gradients[place].astype(np.float64)
        step(optimizers, gradients)
    assert len(optimizers[0]._stepper.engine._plans) < MAX_PLANS


def test_which_gradients_there_are_changes(monkeypatch):
    """Without a look at each array in Python, and with the step counts of each tensor."""
    optimizers = pair()
    step(optimizers, arrays(SHAPES, np.float32, 1))
    draw = np.random.default_rng(0)
    looked = []
    parameters = optimizers[0]._parameters
    monkeypatch.setattr(parameters, "check_gradients", lambda *given: looked.append(given))
    for number in range(12):
        there = draw.random(4) < 0.5
        gradients = [g if t else None for g, t in zip(arrays(SHAPES, np.float32, 2 + number), there, strict=True)]
        step(optimizers, gradients)
    assert not looked
    assert len({entry["step"] for entry in optimizers[0].state_dict()["state"].values()}) > 1


@pytest.mark.parametrize("cls", [schuss.AdamW, schuss.NAdam, schuss.ScheduleFreeAdamW, schuss.LAMB, schuss.Prodigy])
def test_a_group_for_every_tensor(cls):
    """Scalars of many groups are computed together: as the reference has them, one by one."""

    def params():
        return [
            {"params": [w], "lr": schedule if n % 3 == 0 else 0.01 * (1 + n % 2), "maximize": n == 3}
            for n, w in enumerate(arrays([(5,)] * 7, np.float32, 0))
        ]

    schedule = schuss.schedules.cosine(0.02, 10)
    optimizers = pair(cls, params)
    for number in range(5):
        gradients = [[g] for g in arrays([(5,)] * 7, np.float32, 1 + number)]
        if number == 2:
            gradients[4] = [None]
        for optimizer in optimizers:
            optimizer.step([list(g) for g in gradients], grad_scale=0.5 if number == 3 else None)
            optimizer.param_groups[1]["lr"] = 0.03 / (1 + number)
        assert_same_optimizers(*optimizers)


def test_a_function_that_groups_share_is_called_once_a_step():
    called = []
    groups = [{"params": [np.ones(3)], "lr": lambda step: called.append(step) or 0.1}]
    groups += [{"params": [np.ones(3)], "lr": groups[0]["lr"]} for _ in range(5)]
    optimizer = schuss.SGD(groups, backend="numpy")
    for _ in range(3):
        optimizer.step([[np.ones(3)] for _ in groups])
    assert called == [0, 1, 2]


def test_accumulated_gradients_that_change(built):
    optimizers = pair(schuss.SGD)
    for number in range(12):
        gradients = in_form(arrays(SHAPES, np.float32, number), ("dense", "float64")[number % 2])
        if number % 3 == 1:
            gradients[3] = None
        if number == 6:
            built.clear()
        for optimizer in optimizers:
            optimizer.accumulate([None if g is None else g.copy() for g in gradients])
            if number % 4 == 3:
                optimizer.step()
        if number % 4 == 3:
            assert_same_optimizers(*optimizers)
    assert not built
