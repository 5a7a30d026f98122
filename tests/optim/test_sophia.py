"""Sophia's second launch: an estimate of the Hessian moves its running mean, and nothing else."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

import schuss

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)

KEPT = {
    "float64": (np.float64, {}),
    "float32": (np.float32, {"ema": 0.9}),
    "float16": (np.float16, {}),
    "float16, at random": (np.float16, {"rounding": "stochastic", "ema": 0.9}),
    "bfloat16, at random": (BFLOAT16, {"rounding": "stochastic", "state_dtype": "bfloat16"}),
    "bfloat16, master": (BFLOAT16, {"master": "float32", "state_dtype": "float16"}),
    "bfloat16, remainder": (BFLOAT16, {"master": "remainder", "ema": 0.9}),
    "float32, 8 bits": (np.float32, {"state_dtype": "8bit", "min_8bit_size": 0}),
    "bfloat16, 8 bits at random": (
        BFLOAT16,
        {"state_dtype": "8bit", "min_8bit_size": 0, "rounding": "stochastic", "master": "remainder"},
    ),
}


def sizes(dtype, seed):
    rng = np.random.default_rng(seed)
    shapes = [(), (0,), (7,), (300,), (17, 65)]
    return [np.asarray(rng.standard_normal(s) * 10.0 ** rng.integers(-3, 3, s), dtype) for s in shapes]


def everything(opt):
    """The bits of the parameters, and of all that the state dict has."""
    found = {f"parameter {n}": p.array.tobytes() for n, p in enumerate(opt._parameters.memories)}
    for name, entry in opt.state_dict()["state"].items():
        found |= {f"{name} {key}": np.asarray(value).tobytes() for key, value in entry.items()}
    return found


@pytest.mark.parametrize("backend", ["numpy", "auto"])
@pytest.mark.parametrize("kept", KEPT)
def test_an_estimate_moves_nothing_else(kept, backend):
    """Parameters, masters, first moments and moving averages keep their bits."""
    dtype, options = KEPT[kept]
    opt = schuss.Sophia(sizes(dtype, 0), lr=0.01, backend=backend, **options)
    opt.step(sizes(np.float32, 9))  # makes the states
    for step in range(4):
        before = everything(opt)
        opt.update_hessian(sizes(np.float32, 10 + step))
        after = everything(opt)
        changed = {key for key in before if before[key] != after[key]}
        assert changed
        assert all("hessian" in key for key in changed)
        opt.step(sizes(np.float32, step))


@pytest.mark.parametrize("kept", KEPT)
def test_sophia_is_the_same_bits_on_every_engine(kept):
    dtype, options = KEPT[kept]
    ours, reference = (
        schuss.Sophia(sizes(dtype, 0), lr=0.01, gamma=1.0, backend=backend, **options) for backend in ("auto", "numpy")
    )
    for step in range(6):
        estimate = sizes(np.float32, 20 + step) if step % 2 == 0 else None
        for opt in (ours, reference):
            opt.step(sizes(np.float32, step), hessian=estimate)
    assert everything(ours) == everything(reference)


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16])
def test_every_16_bit_parameter_stays_as_it_is(dtype):
    """Also where parameters are rounded at random."""
    w = np.arange(1 << 16).astype(np.uint16).view(dtype)
    before = w.copy()
    opt = schuss.Sophia([w], rounding="stochastic")
    for _ in range(3):
        opt.update_hessian([np.ones(w.shape, np.float32)])
    numbers = ~np.isnan(before.astype(np.float32))
    np.testing.assert_array_equal(w.view(np.uint16)[numbers], before.view(np.uint16)[numbers])
    assert np.isnan(w[~numbers]).all()


def test_the_mean_of_estimates_in_8_bits_does_not_wander():
    """It is decoded and encoded in every step."""
    rng = np.random.default_rng(0)
    w, g = rng.standard_normal((2, 4096)).astype(np.float32)
    opt = schuss.Sophia([w], lr=1e-6, betas=(0.9, 0.0), state_dtype="8bit", min_8bit_size=0)
    opt.update_hessian([rng.standard_normal(4096).astype(np.float32)])
    before = opt.state_dict()["state"]["0"]
    for _ in range(2000):
        opt.step([g])
    after = opt.state_dict()["state"]["0"]
    np.testing.assert_array_equal(after["hessian"], before["hessian"])
    np.testing.assert_allclose(after["hessian.scale"], before["hessian.scale"], rtol=1e-5)


def test_an_estimate_of_some_tensors_and_groups():
    """None leaves a mean alone; groups have betas of their own."""
    one, other, third = np.ones(2), np.ones(2), np.ones(2, np.float32)
    opt = schuss.Sophia([{"params": [one, other], "betas": (0.9, 0.5)}, {"params": [third], "betas": (0.9, 0.75)}])
    opt.update_hessian([[None, np.full(2, 4.0)], [np.full(2, 8.0)]])
    opt.update_hessian([{"params": [None, None]}, {"params": [np.full(2, 8.0, np.float16)]}])
    entries = list(opt.state_dict()["state"].values())
    assert entries[0] == {"step": 0}
    assert [entry["hessian"].tolist() for entry in entries[1:]] == [[2.0, 2.0], [3.5, 3.5]]
    opt.update_hessian([[None, None], [None]])
    assert opt.steps == 0


def test_when_an_estimate_counts():
    """In the step with the paper, after it with Optax; each group by its own convention."""
    paper, optax = np.ones(1), np.ones(1)
    groups = [{"params": [paper]}, {"params": [optax], "convention": "optax"}]
    opt = schuss.Sophia(groups, lr=0.1, betas=(0.0, 0.5), gamma=1.0, eps=1e-3, weight_decay=0.0)
    for _ in range(2):
        opt.step([[np.ones(1)], [np.ones(1)]], hessian=[[np.full(1, 8.0)], [np.full(1, 8.0)]])
    np.testing.assert_allclose(paper, 1 - 0.1 / 4 - 0.1 / 6)
    np.testing.assert_allclose(optax, 1 - 0.1 - 0.1 / 4)


@pytest.mark.parametrize("convention", ["paper", "optax"])
@pytest.mark.parametrize(
    ("estimate", "error", "message"),
    [
        ([np.ones(4), np.ones(3)], ValueError, r"hessian estimate of '0': expected shape \(3,\), got \(4,\)"),
        ([np.ones(3), np.ones(3, int)], TypeError, "hessian estimate of '1': expected a float array"),
        ([np.ones(3)], ValueError, "hessian"),
        ({"w": np.ones(3)}, TypeError, "hessian"),
        (np.ones(3), TypeError, "hessian"),
    ],
)
def test_estimates_that_cannot_be(estimate, error, message, convention):
    opt = schuss.Sophia([np.ones(3), np.ones(3)], convention=convention)
    good = [np.ones(3), np.ones(3)]
    opt.step(good, hessian=good)
    before = everything(opt)
    with pytest.raises(error, match=message):
        opt.update_hessian(estimate)
    with pytest.raises(error, match=message):
        opt.step(good, hessian=estimate)
    assert everything(opt) == before
    with pytest.raises(ValueError, match="shares memory with parameter"):
        opt.step(good, hessian=[opt._parameters.memories[1].array, good[0]])
    with pytest.raises(ValueError, match=r"gradient of '0': expected shape"):
        opt.step([np.ones(4), np.ones(3)], hessian=good)
    with pytest.raises(ValueError, match="clip_norm"):
        opt.step(good, hessian=good, clip_norm=-1.0)
    assert everything(opt) == before
    opt.step(good)
    assert opt.steps == 2


@pytest.mark.parametrize("convention", ["paper", "optax"])
def test_a_skipped_step_skips_its_estimate(convention):
    opt = schuss.Sophia([np.ones(3)], convention=convention)
    opt.step([np.ones(3)], hessian=[np.ones(3)])
    before = everything(opt)
    assert opt.step([np.full(3, np.nan)], hessian=[np.ones(3)], skip_nonfinite=True).skipped
    assert everything(opt) == before
    opt.step([np.ones(3)])
    assert opt.state_dict()["state"]["0"]["hessian"][0] == pytest.approx(0.01)


@pytest.mark.parametrize("convention", ["paper", "optax"])
def test_the_ways_to_a_step_with_an_estimate(convention):
    """Riders, sums, and steps where no tensor has a gradient, all with an estimate; the estimate is taken as it is."""
    rng = np.random.default_rng(0)
    g, h = rng.standard_normal(5), rng.standard_normal(5)
    params = [np.ones(5) for _ in range(3)]
    plain, scaled, summed = (schuss.Sophia([p], gamma=1.0, lr=0.1, convention=convention) for p in params)
    for _ in range(3):
        plain.step([g], hessian=[h])
        given = 4.0 * g
        scaled.step([given], hessian=[h], grad_scale=0.25, clip_norm=1e6, zero_grad=True)
        assert not given.any()
        summed.accumulate([g])
        summed.accumulate([g])
        summed.step(hessian=[h], grad_scale=0.5)
    np.testing.assert_array_equal(params[0], params[1])
    np.testing.assert_array_equal(params[0], params[2])
    plain.step([None], hessian=[h])
    scaled.update_hessian([h])
    assert plain.steps == scaled.steps == 3
    assert everything(plain) == everything(scaled)


def test_an_estimate_that_would_be_set_to_zero_first():
    w, g = np.ones(3), np.ones(3)
    opt = schuss.Sophia([w], convention="optax")
    with pytest.raises(ValueError, match=r"zero_grad: the hessian estimate of '0' shares memory with a gradient"):
        opt.step([g], hessian=[g], zero_grad=True)
    np.testing.assert_array_equal(w, 1.0)
    opt.step([g], hessian=[g])
    early = schuss.Sophia([w])
    early.step([g], hessian=[g], zero_grad=True)
    assert early.state_dict()["state"]["0"]["hessian"][0] == pytest.approx(0.01)


def test_estimates_with_use_ema_and_resuming():
    params = sizes(np.float32, 0)
    options = {"state_dtype": "8bit", "min_8bit_size": 0, "rounding": "stochastic", "seed": 5, "ema": 0.9}
    opt = schuss.Sophia(params, lr=0.01, **options)
    for step in range(3):
        opt.step(sizes(np.float32, step), hessian=sizes(np.float32, 10 + step))
    with opt.use_ema(), pytest.raises(RuntimeError, match=r"update_hessian\(\) inside use_ema\(\)"):
        opt.update_hessian(sizes(np.float32, 10))
    second = schuss.Sophia([p.copy() for p in params], lr=0.01, **options)
    second.load_state_dict(opt.state_dict())
    for step, each in itertools.product(range(3, 6), (opt, second)):
        each.step(sizes(np.float32, step), hessian=sizes(np.float32, 10 + step))
    assert everything(opt) == everything(second)


def test_maximize_leaves_the_estimate_as_it_is():
    up, down = np.ones(3), np.ones(3)
    schuss.Sophia([up], gamma=1.0, maximize=True).step([-np.ones(3)], hessian=[np.ones(3)])
    schuss.Sophia([down], gamma=1.0).step([np.ones(3)], hessian=[np.ones(3)])
    np.testing.assert_array_equal(up, down)
