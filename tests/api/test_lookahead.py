"""Lookahead: slow weights in the same pass, bit for bit the reference, in every storage and beside every rider."""

from __future__ import annotations

import json

import numpy as np
import pytest
from cases import CASES, arrays, assert_same_bits, assert_same_optimizers, needs_native

import schuss

SIZES = [(7,), (6, 5), (), (1500,), (0,)]


def compiled(backend):
    return "auto" if backend == "native" else backend  # what was not compiled ahead of time, numba compiles


def pair(make, backend, k=3, alpha=0.3, dtype=np.float32, **options):
    """An optimizer with slow weights twice, compiled and reference."""
    return [
        schuss.Lookahead(make(arrays(SIZES, dtype, 0), backend=b, **options), k, alpha)
        for b in (compiled(backend), "numpy")
    ]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-5)])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_paper(k, dtype, tolerance, backend):
    """Zhang et al. 2019, Algorithm 1, around plain descent."""
    rng = np.random.default_rng(0)
    start, *gradients = rng.standard_normal((24, 9))
    w = np.array(start, dtype)
    optimizer = schuss.Lookahead(schuss.SGD([w], lr=0.1, backend=compiled(backend)), k=k, alpha=0.5)
    phi = theta = start
    for number, g in enumerate(gradients, 1):
        optimizer.param_groups[0]["lr"] = rate = 0.1 + 0.05 * np.sin(number)
        optimizer.step([np.asarray(g, dtype)])
        theta = theta - rate * g
        if number % k == 0:
            phi = phi + 0.5 * (theta - phi)
            theta = phi
        assert np.abs(w - theta).max() <= tolerance * np.abs(theta).max()
    assert np.abs(optimizer.slow_params[0] - phi).max() <= tolerance * np.abs(phi).max()


@pytest.mark.full  # in pairs with all else: test_combinations
@pytest.mark.parametrize("case", [c for c in CASES if "ScheduleFree" not in str(c)][::6], ids=str)
def test_around_optimizers_of_all_kinds(case):
    ours, reference = pair(case.make, "numba", **case.options)
    for step in range(7):
        for optimizer in (ours, reference):
            gradients = arrays(SIZES, np.float32, 1 + step)
            optimizer.step([g if number != step % 5 else None for number, g in enumerate(gradients)])
    assert ours.steps == reference.steps == 7
    assert_same_optimizers(ours, reference)


KEPT = {
    "float32": (np.float32, {}),
    "float64": (np.float64, {}),
    "float16": (np.float16, {"state_dtype": "float16", "rounding": "stochastic"}),
    "float16, master": (np.float16, {"master": "float32", "ema": 0.9}),
    "bfloat16, remainder": ("bfloat16", {"master": "remainder"}),
    "bfloat16": ("bfloat16", {"rounding": "stochastic", "seed": 5, "ema": 0.5}),
    "8 bits": (np.float32, {"state_dtype": "8bit", "min_8bit_size": 20, "rounding": "stochastic", "ema": 0.9}),
}


@pytest.mark.parametrize("kept", KEPT)
def test_every_storage_and_rider(kept, backend):
    dtype, options = KEPT[kept]
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)
    made, copies = [], []
    for engine in (compiled(backend), "numpy"):
        params = [np.array(p, order="F") for p in arrays(SIZES, np.float32, 0)]
        params = [np.array(p, dtype, order="K") for p in params]
        copy = [np.zeros_like(p, np.float32) for p in params]
        optimizer = schuss.Lookahead(
            schuss.AdamW(params, lr=0.05, backend=engine, copy_to=copy, **options), k=2, alpha=0.7
        )
        for step in range(6):
            gradients = arrays(SIZES, dtype, 1 + step)
            gradients[1] = np.asarray(gradients[1], order="CF"[step % 2])
            gradients[0][:1] = np.inf if step == 3 else 1.0
            optimizer.step(gradients, clip_value=2.0, zero_grad=True, skip_nonfinite=True, clip_norm=5.0)
        made.append(optimizer)
        copies.append(copy)
    assert made[0].steps == 5
    states = [optimizer.state_dict()["state"] for optimizer in made]
    for name in states[0]:
        for field, value in states[0][name].items():
            np.testing.assert_array_equal(np.asarray(value), np.asarray(states[1][name][field]), f"{field} of {name}")
    for ours, expected in zip(made[0]._parameters.memories, made[1]._parameters.memories, strict=True):
        np.testing.assert_array_equal(ours.array, expected.array)
    for ours, expected in zip(*copies, strict=True):
        assert_same_bits(ours, expected)


def test_what_rides_along_sees_the_parameters_after_they_met():
    w, copy = np.array([1.0]), np.zeros(1)
    optimizer = schuss.Lookahead(schuss.SGD([w], lr=1.0, ema=0.5, copy_to=[copy]), k=2)
    optimizer.step([np.array([1.0])])
    assert (w[0], optimizer.slow_params[0][0]) == (0.0, 1.0)
    optimizer.step([np.array([1.0])])  # to -1, and half of the way back to 1
    assert (w[0], copy[0], optimizer.slow_params[0][0]) == (0.0, 0.0, 0.0)
    assert optimizer.ema_params[0][0] == 0.5 * 0.5 + 0.5 * 0.0
    with optimizer.use_ema():
        assert w[0] == 0.25
    assert w[0] == 0.0


def test_a_tensor_without_a_gradient_is_left_alone(backend):
    one, other = np.ones(3), np.ones(3)
    optimizer = schuss.Lookahead(schuss.SGD([one, other], lr=0.25, backend=compiled(backend)), k=2)
    g = np.ones(3)
    for gradients in ([g, g], [g, None], [g, g]):
        optimizer.step(gradients)
    assert one[0] == 0.75 - 0.25
    assert other[0] == 0.5
    assert [slow[0] for slow in optimizer.slow_params] == [0.75, 1.0]
    optimizer.step([None, g])
    assert (one[0], other[0]) == (0.5, 0.625)


@pytest.mark.parametrize("convention", ["paper", "optax"])
def test_a_step_with_an_estimate_of_the_hessian_syncs_too(convention):
    def run(with_step):
        optimizer = schuss.Lookahead(schuss.Sophia([np.ones(3)], lr=0.1, convention=convention, backend="numpy"), k=2)
        for step in range(4):
            estimate = [np.full(3, 1.0 + step)]
            if with_step:
                optimizer.step([np.full(3, 0.5)], hessian=estimate)
            elif convention == "paper":
                optimizer.update_hessian(estimate)
                optimizer.step([np.full(3, 0.5)])
            else:
                optimizer.step([np.full(3, 0.5)])
                optimizer.update_hessian(estimate)
        return optimizer

    one, other = run(True), run(False)
    assert_same_optimizers(one, other)
    assert_same_bits(one.slow_params[0], other.slow_params[0])
    assert (one.slow_params[0] < 1.0).all()


def test_steps_between_use_the_plan_and_kernels_that_there_are(backend):
    """Only a column changes."""
    optimizer = schuss.Lookahead(schuss.AdamW(arrays(SIZES, np.float32, 0), backend=compiled(backend)), k=2)
    inner, plans = optimizer.optimizer._stepper.engine, []
    for step in range(6):
        optimizer.step(arrays(SIZES, np.float32, step))
        plans.append(getattr(optimizer._stepper.engine, "plan", None))
        assert optimizer._stepper.engine.syncs == bool(step % 2)
    assert optimizer._stepper.engine is inner
    assert all(made is plans[0] for made in plans)


@needs_native
def test_the_steps_between_run_what_was_compiled_ahead_of_time():
    plain = schuss.AdamW(arrays(SIZES, np.float32, 0), backend="auto")
    ahead = schuss.Lookahead(schuss.AdamW(arrays(SIZES, np.float32, 0), backend="auto"), k=2)
    for step in range(3):
        for optimizer in (plain, ahead):
            optimizer.step(arrays(SIZES, np.float32, step))
    if plain.backend == "native":
        assert plain._stepper.engine.plan.rows[:, 0].tolist() == ahead._stepper.engine.plan.rows[:, 0].tolist()


@pytest.mark.parametrize("after", range(4))
def test_resuming_continues_bit_for_bit(after, backend):
    def made(params):
        return schuss.Lookahead(schuss.Adam(params, lr=0.1, ema=0.9, backend=compiled(backend)), k=3, alpha=0.4)

    params = arrays(SIZES, np.float32, 0)
    whole = made(params)
    for step in range(after):
        whole.step(arrays(SIZES, np.float32, step))
    saved, again = whole.state_dict(), made([p.copy() for p in params])
    assert saved["lookahead"] == {"phase": after % 3, "k": 3, "alpha": 0.4}
    assert saved["state"]["1"]["slow"].dtype == np.float32
    json.dumps(saved["lookahead"])
    again.load_state_dict(saved)
    for step in range(after, 8):
        whole.step(arrays(SIZES, np.float32, step))
        again.step(arrays(SIZES, np.float32, step))
    assert_same_optimizers(whole, again)


def test_state_dicts_with_and_without_slow_weights_are_told_apart():
    plain, ahead = schuss.SGD([np.ones(3)]), schuss.Lookahead(schuss.SGD([np.ones(3)]))
    with pytest.raises(ValueError, match="saved without Lookahead, this optimizer is with"):
        ahead.load_state_dict(plain.state_dict())
    with pytest.raises(ValueError, match="saved with Lookahead, this optimizer is without"):
        plain.load_state_dict(ahead.state_dict())
    saved = ahead.state_dict()
    del saved["lookahead"]["phase"]
    with pytest.raises(ValueError, match="the key 'phase' is missing"):
        ahead.load_state_dict(saved)


@pytest.mark.parametrize("master", ["float32", "remainder"])
def test_it_goes_on_from_where_the_optimizer_is(master):
    """From its master weights, and its steps are none of Lookahead's."""
    w = np.ones(3, pytest.importorskip("ml_dtypes").bfloat16)
    sgd = schuss.SGD([w], lr=2.0**-12, master=master)
    for _ in range(3):
        sgd.step([np.ones(3, w.dtype)])
    optimizer = schuss.Lookahead(sgd, k=2)
    assert optimizer.slow_params[0].dtype == np.float32
    assert optimizer.slow_params[0].tolist() == [1.0 - 3 * 2.0**-12] * 3
    assert optimizer.state_dict()["lookahead"] == {"phase": 0, "k": 2, "alpha": 0.5}
    for _ in range(2):
        optimizer.step([np.ones(3, w.dtype)])
    assert optimizer.steps == sgd.steps == 5
    assert optimizer.slow_params[0].tolist() == [1.0 - 4 * 2.0**-12] * 3


def test_it_is_as_the_optimizer_in_all_else():
    w = np.ones(4, np.float32)
    optimizer = schuss.Lookahead(schuss.SGD({"w": w}, lr=0.1), k=1, alpha=1.0)
    assert isinstance(optimizer, schuss.Optimizer)
    assert isinstance(optimizer, schuss.SGD)
    assert isinstance(optimizer, schuss.Lookahead)
    optimizer.accumulate({"w": np.ones(4, np.float32)})
    optimizer.step(grad_scale=0.5)
    assert_same_bits(w, np.full(4, 1.0, np.float32) - np.float32(0.1) * np.float32(0.5))
    optimizer.param_groups[0]["momentum"] = 0.9  # another rule, which has a state
    optimizer.step({"w": np.ones(4, np.float32)})
    assert set(optimizer.state_dict()["state"]["w"]) == {"step", "momentum_buffer", "slow"}
    assert optimizer.slow_params["w"] is optimizer._stepper.stored.others[0]["slow"].array
    assert repr(optimizer).startswith("<Lookahead, k=1, alpha=1: <SGD: 1 tensors")
    assert "every 1 steps the slow weights too, in the same pass: 32 bytes more" in optimizer.explain()
    assert {"k", "slow_params", "accumulate", "param_groups"} <= set(dir(optimizer))
    with pytest.raises(TypeError, match="cannot be pickled"):
        optimizer.__reduce__()
    with pytest.raises(AttributeError, match="stroll"):
        optimizer.stroll()


def test_minimize_takes_it():
    found = schuss.minimize(
        lambda x: ((x - 3.0) ** 2).sum(),
        np.zeros(2),
        jac=lambda x: 2.0 * (x - 3.0),
        steps=200,
        optimizer=lambda params, **_: schuss.Lookahead(schuss.SGD(params, lr=0.1)),
    )
    np.testing.assert_allclose(found.x, 3.0, rtol=1e-4)


def test_it_is_listed():
    [found] = [found for found in schuss.optimizers() if found.cls is schuss.Lookahead]
    assert found.name == "lookahead-adamw"
    assert isinstance(schuss.make(found.name, [np.ones(3)], lr=0.1), schuss.Lookahead)


def test_what_it_refuses():
    sgd = schuss.SGD([np.ones(3)], ema=0.9)
    for value, error in ((0, ValueError), (-1, ValueError), (2.0, TypeError), (None, TypeError), (True, ValueError)):
        with pytest.raises(error, match="Lookahead: k: expected a whole number"):
            schuss.Lookahead(sgd, k=value)
    for value, error in ((0.0, ValueError), (1.5, ValueError), (float("nan"), ValueError), ("1", TypeError)):
        with pytest.raises(error, match="Lookahead: alpha: expected a number"):
            schuss.Lookahead(sgd, alpha=value)
    with pytest.raises(TypeError, match="Lookahead: expected an optimizer of schuss, got 3"):
        schuss.Lookahead(3)
    with pytest.raises(ValueError, match="ScheduleFreeSGD has an average of its own"):
        schuss.Lookahead(schuss.ScheduleFreeSGD([np.ones(3)]))
    with sgd.use_ema(), pytest.raises(RuntimeError, match=r"Lookahead\(\) inside use_ema\(\)"):
        schuss.Lookahead(sgd)
    ahead = schuss.Lookahead(sgd)
    for again in (ahead, sgd):
        with pytest.raises(ValueError, match="slow weights"):
            schuss.Lookahead(again)
