"""Other weights in the parameters' arrays, and what an optimizer keeps of the old ones."""

from __future__ import annotations

import numpy as np
import pytest
from bits import BFLOAT16, assert_same_everything, everything
from cases import arrays

import schuss

FORMS = {
    "plain": (np.float32, schuss.SGD, {}),
    "average": (np.float32, schuss.SGD, {"ema": 0.5}),
    "float32 master": (np.float16, schuss.SGD, {"master": "float32", "ema": 0.5}),
    "remainder": (BFLOAT16, schuss.SGD, {"master": "remainder", "ema": 0.5}),
    "schedule-free": (np.float32, schuss.ScheduleFreeSGD, {}),
    "schedule-free, remainder": (BFLOAT16, schuss.ScheduleFreeSGD, {"master": "remainder"}),
    "averages of its own": (np.float64, schuss.ASGD, {}),
    "distance from the start": (np.float32, schuss.DoG, {}),
}


def built(form, seed, lookahead=False):
    dtype, make, options = FORMS[form]
    params = [p.astype(dtype) for p in arrays([(4, 3), 5], np.float32, seed)]
    served = [np.zeros(p.shape, np.float32) for p in params]
    optimizer = make(params, **options, copy_to=served, backend="numpy")
    return schuss.Lookahead(optimizer, k=2) if lookahead else optimizer


@pytest.mark.parametrize("lookahead", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_reload_is_as_building(form, lookahead):
    if lookahead and "schedule" in form:
        pytest.skip("a schedule-free optimizer has an average of its own")
    ours, fresh = built(form, 0, lookahead), built(form, 1, lookahead)
    for p, loaded in zip(ours.params, fresh.params, strict=True):
        p[...] = loaded
    ours.reload_params()
    assert_same_everything(ours, fresh)
    gradients = arrays([(4, 3), 5], np.float32, 2)
    for _ in range(2):
        ours.step(gradients)
        fresh.step(gradients)
    assert_same_everything(ours, fresh)


def test_momentum_counts_and_sums_stay():
    w = np.zeros(3, np.float16)
    optimizer = schuss.SGD([w], lr=0.5, momentum=0.5, master="float32", backend="numpy")
    optimizer.step([np.ones(3, np.float16)])
    optimizer.accumulate([np.ones(3, np.float16)])
    w[:] = 8.0
    optimizer.reload_params()
    optimizer.step()
    assert optimizer.steps == 2
    assert (w == 8.0 - 0.5 * 1.5).all()


def test_a_reload_between_steps_without_a_gradient():
    """The copy that an idle tensor's average goes to is made anew."""
    w, other = np.zeros(3, BFLOAT16), np.zeros(3, BFLOAT16)
    optimizer = schuss.SGD([w, other], lr=0.5, master="remainder", ema=0.5, backend="numpy")
    optimizer.step([np.ones(3, np.float32), None])
    other[:] = 2.0
    optimizer.reload_params()
    optimizer.step([np.ones(3, np.float32), None])
    assert (optimizer.ema_params[1] == 2.0).all()


def test_while_the_parameters_hold_other_values():
    optimizer = schuss.SGD([np.ones(3)], lr=0.5, ema=0.5, backend="numpy")
    before = everything(optimizer)
    with optimizer.use_ema(), pytest.raises(RuntimeError, match=r"reload_params\(\) inside use_ema\(\)"):
        optimizer.reload_params()
    free = schuss.ScheduleFreeSGD([np.ones(3)], backend="numpy")
    with free.averaged(), pytest.raises(RuntimeError, match=r"reload_params\(\) in evaluation mode"):
        free.reload_params()
    for one, other in zip(everything(optimizer), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_params_are_the_arrays_that_steps_write():
    mine = {"a": np.ones(2), "b": [np.ones(3), np.ones(4)]}
    optimizer = schuss.SGD(mine, lr=0.5, backend="numpy")
    arrays_of_mine = mine["a"], *mine["b"]
    assert list(optimizer.params) == ["a", "b"]
    mine["a"] = mine["a"] * 2.0  # which the optimizer never sees
    found = optimizer.params["a"], *optimizer.params["b"]
    assert all(one is other for one, other in zip(found, arrays_of_mine, strict=True))
    groups = [{"params": np.ones(2)}, {"params": {"c": np.ones(3)}}]
    optimizer = schuss.SGD(groups, lr=0.5, backend="numpy")
    assert optimizer.params[0] is groups[0]["params"]
    assert optimizer.params[1]["c"] is groups[1]["params"]["c"]
