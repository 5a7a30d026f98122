"""Own rules with numbers that go on from step to step, and with states that start as the parameter."""

from __future__ import annotations

import dataclasses
from collections import namedtuple

import numpy as np
import pytest
from cases import arrays
from schuss_kernels.lang.rule import PARAMETER, Rule, RuleError

import schuss

Anchored = namedtuple("Anchored", ["anchor"])
Pull = namedtuple("Pull", ["lr", "pull"])
Rates = namedtuple("Rates", ["total", "largest"], defaults=[0.0, 0.0])


def anchored_scalars(step, running, *, lr):
    total, largest = running.total + lr, max(running.largest, lr)
    return Pull(lr, lr / total), Rates(total, largest)


def anchored_update(p, g, s, h):
    return p - h.lr * g + h.pull * (s.anchor - p), Anchored(s.anchor)


def anchored_reference(p, g, s, step, *, running, lr):
    return p - lr * g + lr / (running.total + lr) * (s.anchor - p), s


def anchored(reference=anchored_reference):
    return Rule(
        "anchored",
        Anchored,
        Pull,
        anchored_scalars,
        anchored_update,
        reference,
        lambda: Anchored(PARAMETER),
        running=Rates,
    )


def rates(step):
    return 0.1 / (1 + step)


@pytest.mark.parametrize("reference", [anchored_reference, None], ids=["reference", "element by element"])
def test_running_numbers_and_states_that_start_as_the_parameter(backend, reference):
    if backend == "native":
        pytest.skip("rules of one's own are compiled by numba")
    made = {}
    for engine in (backend, "numpy"):
        params = arrays([33, 5, 7], np.float32, 0)
        start = [p.copy() for p in params]
        opt = schuss.Optimizer(params, anchored(reference), lr=rates, backend=engine)
        for step in range(5):
            gradients = arrays([33, 5, 7], np.float32, 1 + step)
            if step in (1, 3):
                gradients[1] = None  # its own history
            if step == 3:
                opt.step(gradients, skip_nonfinite=True)
                gradients[0][0] = np.nan
                assert opt.step(gradients, skip_nonfinite=True).skipped
            else:
                opt.step(gradients)
        saved = opt.state_dict()
        for number, steps in (("0", (0, 1, 2, 3, 4)), ("1", (0, 2, 4))):
            entry = saved["state"][number]
            assert entry["step"] == len(steps)
            np.testing.assert_allclose(entry["running"]["total"], sum(map(rates, steps)), rtol=1e-12)
            assert entry["running"]["largest"] == 0.1
            np.testing.assert_array_equal(entry["anchor"], start[int(number)])
        made[engine] = params, saved
    for ours, expected in zip(made[backend][0], made["numpy"][0], strict=True):
        np.testing.assert_array_equal(ours, expected)

    resumed = schuss.Optimizer([p.copy() for p in params], anchored(reference), lr=rates, backend=backend)
    resumed.load_state_dict(made[backend][1])
    gradients = arrays([33, 5, 7], np.float32, 9)
    opt.step(gradients)
    resumed.step(gradients)
    for ours, expected in zip(resumed._parameters.memories, opt._parameters.memories, strict=True):
        np.testing.assert_array_equal(ours.array, expected.array)
    assert resumed.state_dict()["state"]["1"]["running"] == opt.state_dict()["state"]["1"]["running"]


def test_states_that_are_weights_keep_their_precision():
    opt = schuss.Optimizer(arrays([5000], np.float32, 0), anchored(), lr=0.1, state_dtype="8bit", backend="numba")
    assert opt._stepper.engine.tensors[0].states[0].dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"running": [1, 2]}, "running must be a namedtuple class"),
        ({"running": namedtuple("Rates", ["total"])}, "running must have a default for every number"),
        ({"scalars": lambda step, *, lr: Pull(lr, 0.0)}, r"scalars takes \(step, running, \*, lr, ...\)"),
    ],
)
def test_wrong_running_numbers(changes, message):
    with pytest.raises(RuleError, match=f"rule 'anchored': {message}"):
        dataclasses.replace(anchored(), **changes)


def test_scalars_without_running_numbers():
    rule = dataclasses.replace(anchored(), scalars=lambda step, running, *, lr: Pull(lr, 0.0))
    opt = schuss.Optimizer([np.ones(3)], rule, lr=0.1, backend="numpy")
    with pytest.raises(RuleError, match=r"scalars\(\) must return \(Pull\(.*\), Rates\(.*\)\); it returned Pull"):
        opt.step([np.ones(3)])


def test_running_numbers_that_cannot_be_loaded():
    opt = schuss.Optimizer([np.ones(3)], anchored(), lr=0.1, backend="numpy")
    saved = opt.state_dict()
    for running, message in (
        ({"total": 1.0}, "the key 'largest' is missing"),
        ({"total": "1", "largest": 2}, "number"),
    ):
        saved["state"]["0"]["running"] = running
        with pytest.raises((TypeError, ValueError), match=message):
            opt.load_state_dict(saved)
