"""The schedule-free optimizers between training and evaluation."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from cases import assert_same_optimizers

import schuss

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

GRADIENTS = [
    [rng.standard_normal(shape).astype(np.float32) for shape in ((4, 3), (5,))]
    for rng in map(np.random.default_rng, range(2, 12))
]

KEPT = {
    "float64": (np.float64, {}),
    "float32": (np.float32, {}),
    "float16": (np.float16, {}),
    "bfloat16, at random": (BFLOAT16, {"rounding": "stochastic"}),
    "float16, master": (np.float16, {"master": "float32"}),
    "bfloat16, master": (BFLOAT16, {"master": "float32"}),
    "bfloat16, remainder": (BFLOAT16, {"master": "remainder"}),
}


def start(dtype):
    rng = np.random.default_rng(1)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((4, 3), (5,))]


def free(kept, make=schuss.ScheduleFreeAdamW, **more):
    dtype, options = KEPT[kept]
    params = start(dtype)
    return params, make(params, lr=0.1, **options, **more), GRADIENTS


def bits(params):
    return [p.tobytes() for p in params]


@pytest.mark.parametrize("make", [schuss.ScheduleFreeSGD, schuss.ScheduleFreeAdamW, schuss.ScheduleFreeRAdam])
@pytest.mark.parametrize("kept", KEPT)
def test_train_gives_back_the_bits_of_y(kept, make):
    """Going to and fro changes nothing; x comes out of the master weight and z, rounded once."""
    (params, opt, given), (others, never, _) = free(kept, make), free(kept, make)
    beta = 0.9
    for g in given[:8]:
        opt.step(g)
        never.step(g)
        before = bits(params)
        opt.eval()
        state = never.state_dict()["state"]
        for number, p in enumerate(params):
            z = state[str(number)]["z"]
            y = state[str(number)].get("master", others[number].astype(z.dtype))
            if y.dtype == np.uint16:  # what the bfloat16 lacks
                raw = others[number].view(np.uint16).astype(np.uint32) - (y >> np.uint16(15))
                y = ((raw << np.uint32(16)) | y).view(np.float32)
            x = y + z.dtype.type(1.0 - 1.0 / beta) * (z - y)
            np.testing.assert_array_equal(p, x.astype(p.dtype))
        opt.eval()
        opt.train()
        assert bits(params) == before
        opt.train()
        assert bits(params) == before
    assert_same_optimizers(opt, never)


def test_x_is_the_mean_of_z():
    """With weights of 1 each."""
    w = np.array([3.0, -1.0])
    opt = schuss.ScheduleFreeSGD([w], lr=0.1, weight_lr_power=0.0)
    seen = []
    for g in np.random.default_rng(0).standard_normal((6, 2)):
        opt.step([g])
        seen.append(opt.state_dict()["state"]["0"]["z"])
    with opt.averaged():
        np.testing.assert_allclose(w, np.mean(seen, axis=0), rtol=1e-12)


def test_before_the_first_step():
    w = np.array([1.0, -0.0, 2.0])
    opt = schuss.ScheduleFreeAdamW([w])
    before = w.tobytes()
    opt.train()
    opt.eval()
    assert w.tobytes() == before
    opt.train()
    assert w.tobytes() == before


def test_what_is_refused_in_evaluation_mode():
    params, opt, given = free("float32", ema=0.9)
    opt.step(given[0])
    saved = opt.state_dict()
    opt.eval()
    before = bits(params)
    refused = {
        "step": lambda: opt.step(given[1]),
        "accumulate": lambda: opt.accumulate(given[1]),
        "use_ema": lambda: opt.use_ema().__enter__(),
        "state_dict": opt.state_dict,
        "load_state_dict": lambda: opt.load_state_dict(saved),
    }
    for name, call in refused.items():
        with pytest.raises(RuntimeError, match=rf"{name}\(\) in evaluation mode: .*; call train\(\) first"):
            call()
        assert bits(params) == before
    opt.train()
    opt.step(given[1])
    with opt.use_ema():
        with pytest.raises(RuntimeError, match=r"eval\(\) inside use_ema\(\)"):
            opt.eval()
        inside = bits(params)
        opt.train()
        assert bits(params) == inside
    assert opt.steps == 2


def test_averaged_comes_back_to_what_was():
    params, opt, given = free("float32")
    opt.step(given[0])
    opt.step(given[1])
    y = bits(params)
    with opt.averaged():
        x = bits(params)
        with opt.averaged():
            assert bits(params) == x
        assert bits(params) == x
    assert bits(params) == y != x
    with pytest.raises(KeyError), opt.averaged():
        raise KeyError
    assert bits(params) == y
    opt.eval()
    with opt.averaged():
        assert bits(params) == x
    assert bits(params) == x
    opt.train()
    assert bits(params) == y


def test_groups_have_betas_of_their_own():
    one, other = np.array([1.0]), np.array([1.0])
    opt = schuss.ScheduleFreeSGD(
        [{"params": [one], "momentum": 0.5}, {"params": [other], "momentum": 0.8}], lr=0.1, weight_lr_power=0.0
    )
    for _ in range(2):
        opt.step([[np.ones(1)], [np.ones(1)]])
    np.testing.assert_allclose([one[0], other[0]], [0.825, 0.84], rtol=1e-12)
    with opt.averaged():
        np.testing.assert_allclose([one[0], other[0]], [0.85, 0.85], rtol=1e-12)


@pytest.mark.parametrize("kept", KEPT)
def test_resuming_schedule_free(kept):
    params, opt, given = free(kept, warmup_steps=5)
    for g in given[:4]:
        opt.step(g)
    copies = [p.copy() for p in params]
    options = KEPT[kept][1]
    second = schuss.ScheduleFreeAdamW(copies, lr=0.1, **options)
    second.load_state_dict(opt.state_dict())
    for g in given[4:8]:
        opt.step(g)
        second.step(g)
    assert_same_optimizers(opt, second)
    opt.eval()
    second.eval()
    assert bits(params) == bits(copies)
