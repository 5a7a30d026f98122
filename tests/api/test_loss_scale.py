"""The loss scale: torch's growth and backing off, its limits, and what it takes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import schuss

SKIPPED, CLEAN = schuss.StepInfo(float("nan"), True), schuss.StepInfo(1.0, False)


def test_dynamic_loss_scale_is_torchs():
    torch = pytest.importorskip("torch")
    theirs = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=3)
    ours = schuss.DynamicLossScale(1024.0, growth_interval=3)
    w = torch.ones(2, requires_grad=True)
    descent, optimizer = torch.optim.SGD([w], lr=1e-6), schuss.SGD([np.ones(2, np.float32)], lr=1e-6)
    for finite in [True, True, False, True, True, True, True, False, False, True, True, True, True, True, True]:
        value = 1.0 if finite else np.inf
        w.grad = None
        theirs.scale((w * value).sum()).backward()
        theirs.step(descent)
        theirs.update()
        gradients = [np.full(2, value * ours.scale, np.float32)]
        ours.update(optimizer.step(gradients, grad_scale=ours.grad_scale, skip_nonfinite=True))
        assert ours.scale == theirs.get_scale()
    again = schuss.DynamicLossScale()
    again.load_state_dict(ours.state_dict())
    assert again.state_dict() == ours.state_dict()
    assert f"{ours.scale:g}" in repr(ours)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0.0}, "scale: expected a finite number above 0"),
        ({"scale": "1"}, "scale: expected a number"),
        ({"scale": 1e39}, r"scale: expected a number from 2\*\*-126 to 2\*\*127, got 1e\+39"),
        ({"min_scale": 1e-39}, r"min_scale: expected a number from 2\*\*-126"),
        ({"scale": 1.0, "min_scale": 2.0}, r"min_scale: expected at most the scale, 1, got 2\.0"),
        ({"growth_factor": 1.0}, "growth_factor: expected a finite number above 1"),
        ({"backoff_factor": 1.0}, "backoff_factor: expected a finite number above 0 and below 1"),
        ({"growth_interval": 0}, "growth_interval: expected at least 1"),
        ({"growth_interval": 2.5}, "growth_interval: expected a whole number"),
    ],
)
def test_loss_scales_that_cannot_be(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        schuss.DynamicLossScale(**arguments)
    with pytest.raises(ValueError, match="the key 'growth_factor' is missing"):
        schuss.DynamicLossScale().load_state_dict({"scale": 1.0})


def test_the_scale_has_a_floor_and_says_when_it_is_reached():
    w, scaler = [np.ones(2, np.float32)], schuss.DynamicLossScale(scale=4.0, min_scale=1.5)
    optimizer, bad = schuss.SGD(w, lr=0.5, backend="numpy"), [np.array([1.0, np.inf], np.float32)]

    def step(gradients):
        scaler.update(optimizer.step(gradients, grad_scale=scaler.grad_scale, skip_nonfinite=True))
        return scaler.scale

    assert step(bad) == 2.0
    with pytest.warns(
        RuntimeWarning, match=r"the scale has fallen to min_scale, 1\.5, and the gradients are still not"
    ):
        assert step(bad) == 1.5
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        assert step(bad) == 1.5
    assert "its min_scale" in repr(scaler)
    step([np.array([1.5, 3.0], np.float32)])
    np.testing.assert_array_equal(w[0], [0.5, 0.0])


@pytest.mark.filterwarnings("ignore:DynamicLossScale")
def test_the_scale_stays_where_float32_has_it_and_its_reciprocal():
    scaler = schuss.DynamicLossScale(growth_interval=1)
    for info, count in ((SKIPPED, 3000), (CLEAN, 3000)):
        for _ in range(count):
            scaler.update(info)
        assert 0.0 < np.float32(scaler.grad_scale) < np.inf
        assert 0.0 < np.float32(scaler.scale) < np.inf
    assert scaler.scale == 2.0**127
    again = schuss.DynamicLossScale()
    again.load_state_dict(scaler.state_dict())
    assert again.state_dict() == scaler.state_dict()


def test_a_growth_interval_that_is_lowered_under_the_clean_steps():
    scaler = schuss.DynamicLossScale(scale=1.0)
    for _ in range(50):
        scaler.update(CLEAN)
    scaler.growth_interval = 10
    scaler.update(CLEAN)
    assert (scaler.scale, scaler.clean_steps) == (2.0, 0)


def test_numpys_numbers_are_numbers():
    for number in (np.float32(8), np.int64(8), np.array(8.0)):
        assert schuss.DynamicLossScale(number, growth_interval=np.array(5), min_scale=number).state_dict() == {
            "scale": 8.0,
            "growth_factor": 2.0,
            "backoff_factor": 0.5,
            "growth_interval": 5,
            "clean_steps": 0,
            "min_scale": 8.0,
        }


def test_a_state_without_a_floor_is_of_before_there_was_one():
    saved = {name: value for name, value in schuss.DynamicLossScale().state_dict().items() if name != "min_scale"}
    scaler = schuss.DynamicLossScale(min_scale=0.25)
    scaler.load_state_dict({**saved, "scale": 1e-300})
    assert (scaler.scale, scaler.min_scale) == (0.25, 0.25)
