"""A tensor has states from its first gradient on."""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES, arrays, assert_same_optimizers

import schuss

SHAPES = [(7,), (30, 4)]


def fields(optimizer, name):
    return set(optimizer.state_dict()["state"][name])


@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_a_frozen_tensor_has_no_states(backend):
    params = arrays(SHAPES, np.float32, 0)
    optimizer = schuss.AdamW(params, backend=backend, ema=0.9)
    assert fields(optimizer, "0") == fields(optimizer, "1") == {"step", "ema"}
    for _ in range(2):
        optimizer.step([np.ones(7, np.float32), None])
    assert fields(optimizer, "0") == {"step", "exp_avg", "exp_avg_sq", "ema"}
    assert fields(optimizer, "1") == {"step", "ema"}
    assert not optimizer._stepper.stored.states[1]
    assert "exp_avg float32" in optimizer.explain()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_unfreezing_is_as_if_the_tensor_began_then(case):
    """The frozen tensor makes the steps of an optimizer that has it alone, save for numbers that a group shares."""
    ours, alone = (case.make(arrays(SHAPES, np.float64, 0)[first:], backend="numpy") for first in (0, 1))
    for number in range(2):
        ours.step([arrays(SHAPES, np.float64, number)[0], None])
    for number in range(3):
        gradient = arrays(SHAPES, np.float64, 10 + number)[1]
        ours.step([None, gradient])
        alone.step([gradient])
    rule = ours._stepper.engine.tensors[1].rule
    if rule.measure is None or rule.over == "tensor":
        names = [name for name in ours.state_dict()["state"]["1"] if name != "running"]
        for name in names:
            mine, its = ours.state_dict()["state"]["1"][name], alone.state_dict()["state"]["0"][name]
            np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("backend", ["numpy", "auto"])
@pytest.mark.parametrize("cls", [schuss.AdamW, schuss.Prodigy])
def test_state_dicts_with_and_without_states(cls, backend):
    """Loaded into a new optimizer, into one that has trained, and with the zeros that older ones have."""
    gradients = [arrays(SHAPES, np.float32, 1 + number) for number in range(6)]

    def fresh(steps=()):
        optimizer = cls(arrays(SHAPES, np.float32, 0), lr=0.1, backend=backend)
        for both, number in steps:
            optimizer.step([gradients[number][0], gradients[number][1] if both else None])
        return optimizer

    ours = fresh([(False, 0), (False, 1)])
    saved = ours.state_dict()
    assert set(saved["state"]["1"]) <= {"step", "running"}
    values = [memory.array.copy() for memory in ours._parameters.memories]
    others = [fresh(), fresh([(True, 3), (True, 4)])]
    for other in others:
        other.load_state_dict(saved)
        assert set(other.state_dict()["state"]["1"]) <= {"step", "running"}
        for memory, value in zip(other._parameters.memories, values, strict=True):
            memory.array[...] = value
    for number in (2, 3):
        for optimizer in (ours, *others):
            optimizer.step([None if number == 2 else gradients[number][0], gradients[number][1]])
            assert_same_optimizers(optimizer, ours)


def test_states_of_zeros_are_loaded_and_missing_ones_are_not_made_up():
    optimizer = schuss.AdamW(arrays(SHAPES, np.float32, 0), backend="numpy")
    optimizer.step([np.ones(7, np.float32), None])
    saved = optimizer.state_dict()
    older = {**saved["state"]["1"], **{name: np.zeros((30, 4), np.float32) for name in ("exp_avg", "exp_avg_sq")}}
    optimizer.load_state_dict({**saved, "state": {**saved["state"], "1": older}})
    assert fields(optimizer, "1") == {"step", "exp_avg", "exp_avg_sq"}
    for entry in ({"step": 2}, {"step": 0, "exp_avg": older["exp_avg"]}):
        with pytest.raises(ValueError, match=r"the key 'exp_avg(_sq)?' is missing"):
            optimizer.load_state_dict({**saved, "state": {**saved["state"], "1": entry}})


@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_a_refused_first_gradient_makes_no_states(backend):
    optimizer = schuss.AdamW(arrays(SHAPES, np.float32, 0), backend=backend)
    for gradients in ([np.ones(7, np.float32), np.ones(3, np.float32)], ["none", np.ones((30, 4), np.float32)]):
        with pytest.raises((TypeError, ValueError), match="gradient of"):
            optimizer.step(gradients)
        assert fields(optimizer, "0") == fields(optimizer, "1") == {"step"}
    optimizer.step([np.ones(7, np.float32), None])
    assert fields(optimizer, "1") == {"step"}


def test_averages_and_means_of_frozen_tensors():
    frozen, moved = arrays(SHAPES, np.float64, 0)
    before = frozen.copy()
    optimizer = schuss.ScheduleFreeSGD([frozen, moved], lr=0.1, backend="numpy")
    optimizer.step([None, np.ones((30, 4))])
    with optimizer.averaged():
        np.testing.assert_array_equal(frozen, before)
    optimizer = schuss.ASGD([frozen, moved], backend="numpy")
    np.testing.assert_array_equal(optimizer.averaged_params[0], np.zeros(7) + optimizer.averaged_params[0])
    optimizer = schuss.Sophia([frozen, moved], backend="numpy")
    optimizer.update_hessian([np.ones(7), None])
    assert optimizer.state_dict()["state"]["0"]["hessian"].any()
    assert fields(optimizer, "1") == {"step"}
