"""Matrix rules against their papers: Adafactor, SM3 and Muon."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import assert_same_bits, initial_states
from matrices import many
from schuss_kernels.rules import muon

import schuss

STEPS = 25
TOLERANCES = [(np.float64, 1e-10), (np.float32, 1e-5)]


def rates():
    return [0.05 * (1.0 + 0.5 * math.sin(step)) for step in range(STEPS)]


def draws(shape, count=STEPS + 1, seed=0):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape) * (1 + step % 5)) for step in range(count)]


def close(make, paper, shape, dtype, tolerance, **options):
    """An optimizer's way against a paper's, both from the same start."""
    start, *gradients = draws(shape)
    w = np.array(start, dtype)
    optimizer = make([w], **options)
    for number, (expected, g, rate) in enumerate(zip(paper(start, gradients), gradients, rates(), strict=True)):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step([np.asarray(g, dtype)])
        error = np.abs(w - expected).max() / np.abs(expected).max()
        assert error <= tolerance, f"step {number + 1}: {error:.1e}"


def shazeer(decay):
    """Shazeer & Stern 2018, Algorithms 4 (matrices) and 5 (vectors), with sums, as printed."""

    def paper(x, gradients, eps1=1e-30, eps2=1e-3, d=1.0):
        n, *rest = x.shape
        row, col, v = np.zeros(n), np.zeros(rest), np.zeros(n)
        for t, (g, rate) in enumerate(zip(gradients, rates(), strict=True), 1):
            x = x * (1 - rate * decay)
            beta2, rho = 1 - t**-0.8, min(rate, 1 / math.sqrt(t))
            alpha = max(eps2, math.sqrt((x**2).mean())) * rho
            squares = g**2 + eps1
            if rest:
                row = beta2 * row + (1 - beta2) * squares.sum(axis=1)
                col = beta2 * col + (1 - beta2) * squares.sum(axis=0)
                v = np.outer(row, col) / row.sum()
            else:
                v = beta2 * v + (1 - beta2) * squares
            u = g / np.sqrt(v)
            x = x - alpha * u / max(1.0, math.sqrt((u**2).mean()) / d)
            yield x

    return paper


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize(("convention", "decay"), [("paper", 0.0), ("keras", 0.1)])
@pytest.mark.parametrize("shape", [(6, 5), (5, 6), (9,)])
def test_adafactor(shape, convention, decay, dtype, tolerance):
    options = {"convention": convention, "weight_decay": decay}
    close(schuss.Adafactor, shazeer(decay), shape, dtype, tolerance, **options)


@pytest.mark.parametrize("convention", ["torch", "keras", "paper"])
def test_adafactor_takes_more_axes_as_many_matrices(convention):
    """But for the size of the weights and of the step, which are the whole array's."""
    start, g = draws((2, 4, 3), 2)
    whole, parts = start.copy(), list(start.copy())
    options = {"convention": convention, "scale_parameter": False, "d": 1e6}
    schuss.Adafactor([whole], **options).step([g])
    schuss.Adafactor(parts, **options).step(list(g))
    np.testing.assert_allclose(whole, parts, rtol=1e-14)


def test_adafactor_factors_what_the_convention_does():
    shapes = [(200, 3, 130), (200, 100), (3, 2, 1)]
    for convention, expected in (
        ("torch", [[(200, 3, 1), (200, 1, 130)], [(200, 1), (1, 100)], [(3, 2, 1), (3, 1, 1)]]),
        ("optax", [[(200, 3, 1), (1, 3, 130)], [(200, 100)], [(3, 2, 1)]]),
    ):
        states = initial_states(schuss.Adafactor(many(0, shapes=shapes), convention=convention)).values()
        assert [[a.shape for name, a in s.items() if name != "step"] for s in states] == expected


def test_adafactor_with_another_convention_between_steps():
    """States of other shapes start anew; the others stay."""
    params = many(0, shapes=[(200, 3, 130), (150, 160)])
    optimizer = schuss.Adafactor(params)
    optimizer.step(many(1, shapes=[(200, 3, 130), (150, 160)]))
    before = optimizer.state_dict()["state"]["1"]["row_var"]
    optimizer.param_groups[0]["convention"] = "optax"
    states = optimizer.state_dict()["state"]
    np.testing.assert_array_equal(states["1"]["row_var"], before)
    assert states["0"]["col_var"].shape == (1, 3, 130)
    assert not states["0"]["col_var"].any()
    optimizer.step(many(2, shapes=[(200, 3, 130), (150, 160)]))
    assert all(np.isfinite(p).all() for p in params)


def test_adafactor_wrong_options():
    with pytest.raises(ValueError, match=r"d, the limit .* above 0; got 0.0"):
        schuss.Adafactor([np.ones(3)], d=0.0)
    with pytest.raises(ValueError, match=r"beta2_decay: expected a number of at most 0, got 0\.5"):
        schuss.Adafactor([np.ones(3)], beta2_decay=0.5)
    with pytest.raises(ValueError, match="min_dim"):
        schuss.Adafactor([np.ones(3)], min_dim=-1)


def anil(momentum):
    """Anil et al. 2019, Algorithm SM3-II, over the sets of all elements that share an index of an axis."""

    def paper(w, gradients):
        sums = [np.zeros(extent) for extent in w.shape]
        m = np.zeros(w.shape)
        for g, rate in zip(gradients, rates(), strict=True):
            largest = [np.zeros(extent) for extent in w.shape]
            u = np.zeros(w.shape)
            for i in np.ndindex(w.shape):
                v = min(mu[j] for mu, j in zip(sums, i, strict=True)) + g[i] ** 2
                u[i] = g[i] / math.sqrt(v) if v > 0 else 0.0
                for mu, j in zip(largest, i, strict=True):
                    mu[j] = max(mu[j], v)
            sums = largest
            m = momentum * m + (1 - momentum) * u
            w = w - rate * m
            yield w

    return paper


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("shape", [(9,), (6, 5), (2, 3, 4)])
def test_sm3(shape, momentum, dtype, tolerance):
    close(schuss.SM3, anil(momentum), shape, dtype, tolerance, momentum=momentum)


def test_sm3_keeps_one_number_for_each_index():
    states = initial_states(schuss.SM3(many(0))).values()
    assert [len(s["accumulators"]) for s in states] == [7, 11, 1, 9, 1200, 70, 0, 3]


def test_sm3_on_every_axis():
    """Against loops over the elements, on axes short and long, with a gradient that is zero for a while."""
    shape = (3, 40, 2, 5)
    rng = np.random.default_rng(3)
    w = rng.standard_normal(shape)
    optimizer = schuss.SM3([w], lr=0.1, momentum=0.0)
    expected, sums = w.copy(), [np.zeros(n) for n in shape]
    for step in range(4):
        g = rng.standard_normal(shape) * (rng.random(shape) < 0.3) * (step > 0)
        new = [np.zeros(n) for n in shape]
        for place in np.ndindex(shape):
            v = min(kept[i] for kept, i in zip(sums, place, strict=True)) + g[place] ** 2
            if v > 0.0:
                expected[place] -= 0.1 * (g[place] / math.sqrt(v))
            for kept, i in zip(new, place, strict=True):
                kept[i] = max(kept[i], v)
        sums = new
        optimizer.step([g])
        np.testing.assert_allclose(w, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("convention", ["torch", "keras", "optax"])
@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (16, 16)])
def test_muon_moves_by_a_matrix_that_is_nearly_orthogonal(shape, convention):
    rows, columns = shape
    w = np.zeros(shape, np.float32)
    [g] = many(0, shapes=[shape])
    schuss.Muon([w], lr=1.0, convention=convention, weight_decay=0.0, rms_scale=0.0).step([g])
    scale = math.sqrt(max(1.0, columns / rows if convention == "optax" else rows / columns))
    values = np.linalg.svd(-w / scale, compute_uv=False)
    assert 0.4 < values.min() <= values.max() < 1.3
    u, _, vt = np.linalg.svd(g, full_matrices=False)
    assert (u.T @ (-w / scale) @ vt.T).diagonal().min() > 0.4, "along the gradient's own singular vectors"


def test_muon_with_the_scale_of_adamw():
    w = np.zeros((30, 50), np.float32)
    schuss.Muon([w], lr=1.0, weight_decay=0.0, rms_scale=0.2).step(many(0, shapes=[(30, 50)]))
    assert 0.1 < np.sqrt((w**2).mean()) < 0.3


def test_muon_takes_filters_as_rows():
    """As its authors do; the first axis stays."""
    one, other = np.zeros((6, 3, 2, 2)), np.zeros((6, 12))
    [g] = many(0, np.float64, [(6, 12)])
    schuss.Muon([one]).step([g.reshape(one.shape)])
    schuss.Muon([other]).step([g])
    np.testing.assert_array_equal(one.reshape(6, 12), other)


@pytest.mark.parametrize("convention", ["torch", "keras", "optax"])
def test_muon_moves_vectors_as_adamw(convention, backend):
    w, v = np.ones(9, np.float32), np.ones(9, np.float32)
    backend = "auto" if backend == "native" else backend
    decay = {"torch": 0.01, "keras": 0.004, "optax": 0.0}[convention]
    muon_ = schuss.Muon([w], lr=0.01, convention=convention, nesterov=False, backend=backend)
    adam = schuss.AdamW([v], lr=0.01, weight_decay=decay, convention=convention, backend=backend)
    for g in many(1, shapes=[(9,)] * 5):
        muon_.step([g])
        adam.step([g])
    assert_same_bits(w, v)


def test_muon_with_a_group_for_adamw_alone():
    w, embedding = many(0, shapes=[(6, 5), (6, 5)])
    start = embedding.copy()
    optimizer = schuss.Muon([{"params": [w]}, {"params": [embedding], "only_adam": True}], lr=0.1, adam_lr_ratio=0.1)
    optimizer.step([[np.ones((6, 5), np.float32)], [np.ones((6, 5), np.float32)]])
    one, other = optimizer.state_dict()["state"].values()
    assert set(one) == {"step", "momentum_buffer"}
    assert set(other) == {"step", "exp_avg", "exp_avg_sq"}
    alone = schuss.AdamW([start], lr=0.1 * 0.1)
    alone.step([np.ones((6, 5), np.float32)])
    np.testing.assert_array_equal(embedding, start)


def test_muon_wrong_options():
    with pytest.raises(ValueError, match=r"ns_steps: expected a whole number, got 2\.5"):
        schuss.Muon([np.ones((2, 2))], ns_steps=2.5)
    with pytest.raises(ValueError, match="momentum: expected at least 0 and below 1"):
        schuss.Muon([np.ones((2, 2))], momentum=1.0)
    with pytest.raises(ValueError, match="expected one of 'torch', 'keras', 'optax'; got 'paper'"):
        schuss.Muon([np.ones((2, 2))], convention="paper")


def test_bfloat16_is_rounded_to_the_nearest():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed; it is what this compares with")
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [rng.standard_normal(1000) * 10.0 ** rng.integers(-38, 38, 1000), [np.inf, -np.inf, np.nan]]
    )
    values = np.concatenate([values, np.float32(1.0) + np.arange(64) * 2.0**-10]).astype(np.float32)
    expected = values.astype(ml_dtypes.bfloat16).astype(np.float64)
    np.testing.assert_array_equal(muon.bfloat16(values), expected)
