"""Matrix rules: Adafactor, SM3 and Muon against their papers, and tensors of two engines in one optimizer."""

from __future__ import annotations

import math
from collections import namedtuple
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from cases import assert_same_bits, assert_same_optimizers
from schuss_kernels import cuda
from schuss_kernels.compound import CompoundEngine, WholeEngine
from schuss_kernels.engine import Memory
from schuss_kernels.matrix import MatrixRule, long_loops
from schuss_kernels.reference import ReferenceEngine
from schuss_kernels.rules import COMPILED, RULES, muon

import schuss

STEPS = 25
TOLERANCES = [(np.float64, 1e-10), (np.float32, 1e-5)]
SHAPES = [(7,), (6, 5), (), (3, 4, 2), (1200,), (40, 30), (0,), (0, 3)]


def rates():
    return [0.05 * (1.0 + 0.5 * math.sin(step)) for step in range(STEPS)]


def draws(shape, count=STEPS + 1, seed=0):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape) * (1 + step % 5)) for step in range(count)]


def many(seed, dtype=np.float32, shapes=SHAPES):
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


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
        states = schuss.Adafactor(many(0, shapes=shapes), convention=convention).state_dict()["state"].values()
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
    states = schuss.SM3(many(0)).state_dict()["state"].values()
    assert [len(s["accumulators"]) for s in states] == [7, 11, 1, 9, 1200, 70, 0, 3]


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
    one, other = optimizer.state_dict()["state"].values()
    assert set(one) == {"step", "momentum_buffer"}
    assert set(other) == {"step", "exp_avg", "exp_avg_sq"}
    optimizer.step([[np.ones((6, 5), np.float32)], [np.ones((6, 5), np.float32)]])
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


# ------------------------------------------------------------------------------------------ two engines in one

MIXED = {"lr": 0.05, "state_dtype": "8bit", "min_8bit_size": 100, "ema": 0.9, "rounding": "stochastic", "seed": 3}


def compiled(backend):
    return "auto" if backend == "native" else backend  # what was not compiled ahead of time, numba compiles


@pytest.mark.parametrize("options", [{"lr": 0.05}, MIXED], ids=["plain", "mixed"])
def test_two_engines_are_the_reference(options, backend):
    """Step counts, sums of squares, random bits, missing gradients: as if one engine moved all."""
    ours, reference = (schuss.Muon(many(0), **options, backend=b) for b in (compiled(backend), "numpy"))
    for step in range(6):
        said = []
        for optimizer in (ours, reference):
            gradients = many(1 + step)
            if step == 2:
                gradients[1] = gradients[4] = None
            if step == 3:
                gradients[3][0, 0, 0] = np.inf
            if step == 4:
                gradients = [g if g.ndim < 2 else None for g in gradients]
            said.append(optimizer.step(gradients, clip_norm=1.0, skip_nonfinite=True, grad_scale=0.5))
        assert said[0] == said[1]
        assert said[0].skipped == (step == 3)
    assert ours.steps == reference.steps == 5
    assert_same_optimizers(ours, reference)
    assert isinstance(reference._engine, ReferenceEngine)
    assert isinstance(ours._engine, CompoundEngine) == (backend != "numpy")


def test_two_engines_and_accumulated_gradients(backend):
    ours, reference = (schuss.Muon(many(0), backend=b) for b in (compiled(backend), "numpy"))
    for optimizer in (ours, reference):
        for step in range(3):
            optimizer.accumulate(many(1 + step))
            optimizer.accumulate(many(11 + step))
            optimizer.step(grad_scale=0.5, clip_value=0.1)
    assert_same_optimizers(ours, reference)


def test_gradients_are_set_to_zero_and_layouts_do_not_matter(backend):
    """Sums and products of whole arrays are in C order, wherever the elements lie."""
    for make in (schuss.Adafactor, schuss.SM3, schuss.Muon):
        one, other = many(0), many(0)
        other[5], other[1] = np.asfortranarray(other[5]), np.repeat(other[1], 2, 0)[::2]
        optimizers = [make(p, backend=compiled(backend)) for p in (one, other)]
        for step in range(3):
            for optimizer, order in zip(optimizers, "CF", strict=True):
                gradients = [np.array(g, order=order) for g in many(1 + step)]
                optimizer.step(gradients, zero_grad=True)
                assert not any(g.any() for g in gradients)
        for p, q in zip(one, other, strict=True):
            assert_same_bits(q, p)


def test_steps_are_counted_once_and_never_for_a_rule_that_raises():
    State = namedtuple("State", ["mean"])
    broken = []

    def reference(p, g, s, step, *, lr=0.1):
        if broken:
            raise ZeroDivisionError("broken")
        return p - lr * g, s

    rule = MatrixRule("own", State, reference, fits=lambda shape: len(shape) == 2, otherwise=RULES["sgd"])
    optimizer = schuss.Optimizer(many(0), rule, backend="numba")
    optimizer.step(many(1))
    broken.append(True)
    before = [p.array.copy() for p in optimizer._parameters]
    with pytest.raises(ZeroDivisionError):
        optimizer.step(many(2))
    assert optimizer.steps == 1
    for p, old in zip(optimizer._parameters, before, strict=True):
        np.testing.assert_array_equal(p.array, old)
    broken.clear()
    optimizer.step(many(2))
    assert optimizer.steps == 2
    assert {entry["step"] for entry in optimizer.state_dict()["state"].values()} == {2}


def test_factored_states_stay_as_they_are_computed(backend):
    options = {"state_dtype": "8bit", "min_8bit_size": 1, "backend": compiled(backend)}
    [state] = schuss.Adafactor([np.ones((20, 30), np.float32)], **options).state_dict()["state"].values()
    assert state["row_var"].dtype == state["col_var"].dtype == np.float32
    [state] = schuss.SM3([np.ones((20, 30), np.float32)], **options).state_dict()["state"].values()
    assert state["accumulators"].dtype == np.float32
    assert state["momentum_buffer"].dtype == np.int8
    assert state["momentum_buffer.scale"].shape == (3,)
    [state] = schuss.Adafactor([np.ones(20, np.float32)], **options).state_dict()["state"].values()
    assert state["variance"].dtype == np.uint8


def test_a_state_of_another_shape_is_refused():
    optimizer = schuss.Adafactor([np.ones((3, 4))])
    saved = optimizer.state_dict()
    saved["state"]["0"]["row_var"] = np.ones((4, 1))
    with pytest.raises(ValueError, match=r"\['row_var'\]: expected shape \(3, 1\), got \(4, 1\)"):
        optimizer.load_state_dict(saved)


def test_no_kernel_is_compiled_for_them():
    assert not any(rule.matrix for rule in COMPILED.values())
    assert {"muon_adamw", "muon_adamw_keras", "muon_nadamw_optax"} <= set(RULES)
    assert RULES["muon_adamw"].update is RULES["adamw"].update
    listed = {found.name: found for found in schuss.optimizers()}
    assert {listed[name].kind for name in ("adafactor", "sm3", "muon")} == {"matrix"}
    assert 12.0 < listed["adafactor"].bytes_per_parameter < 12.1


def test_explain_tells_what_runs_on_what():
    said = schuss.Muon(many(0), backend="numba").explain()
    assert "and numpy for 4 tensor(s)" in said
    assert "rule muon (numpy, whole arrays: not one element-wise launch): 4 tensors" in said
    assert "kernel muon_adamw (dense): 3 tensors" in said
    said = schuss.SM3(many(0), backend="auto").explain()
    assert "backend numpy" in said
    assert "one element-wise launch" in said


# ---------------------------------------------------------------------------------------------------- own rules

OwnState = namedtuple("OwnState", ["mean", "rows"])


def own_reference(p, g, s, step, *, lr, beta=0.5, scale=1.0):
    """Not a known optimizer: a mean, over the root of the rows' mean squares."""
    mean = beta * s.mean + (1.0 - beta) * g
    rows = s.rows + np.mean(g * g, axis=1)
    return p - lr * scale * mean / np.sqrt(rows)[:, None], OwnState(mean, rows)


def own(**changes):
    given = {
        "shapes": lambda shape: [None, shape[:1]],
        "fits": lambda shape: len(shape) == 2,
        "otherwise": RULES["adamw"],
        "limits": {"beta": schuss.FRACTION},
        "not_negative": ("rows",),
    }
    return MatrixRule("own", OwnState, own_reference, **{**given, **changes})


def test_an_own_rule(backend):
    one, other = many(0), many(0)
    ours = schuss.Optimizer(one, own(), lr=0.1, eps=1e-4, backend=compiled(backend))
    adamw = schuss.AdamW(other, lr=0.1, eps=1e-4, backend=compiled(backend))
    assert set(ours.param_groups[0].options) >= {"lr", "beta", "scale", "betas", "eps", "weight_decay", "maximize"}
    mean, rows, expected = np.zeros((6, 5), np.float32), np.zeros(6, np.float32), other[1].copy()
    for step in range(4):
        ours.step(many(1 + step))
        adamw.step(many(1 + step))
        g = many(1 + step)[1]
        mean, rows = 0.5 * mean + 0.5 * g, rows + np.mean(g * g, axis=1)
        expected = expected - 0.1 * 1.0 * mean / np.sqrt(rows)[:, None]
    assert_same_bits(one[1], expected)
    for number in (0, 2, 3, 4):
        assert_same_bits(one[number], other[number])
    saved = ours.state_dict()
    assert saved["state"]["1"]["rows"].shape == (6,)
    again = schuss.Optimizer([p.copy() for p in one], own(), lr=0.1, eps=1e-4, backend=compiled(backend))
    again.load_state_dict(saved)
    ours.step(many(9))
    again.step(many(9))
    assert_same_optimizers(ours, again)
    with pytest.raises(ValueError, match="beta: expected at least 0 and below 1"):
        ours.param_groups[0]["beta"] = 2.0
    with pytest.raises(ValueError, match="betas: expected at least 0 and below 1"):
        ours.param_groups[0]["betas"] = (2.0, 0.0)


def test_own_rules_that_are_wrong():
    for changes, message in (
        ({"otherwise": 3}, "otherwise must be a rule or None; got 3"),
        ({"not_negative": ("columns",)}, "'columns' is none of its states"),
    ):
        with pytest.raises(schuss.RuleError, match=message):
            own(**changes)
    with pytest.raises(schuss.RuleError, match="reference must be a plain function"):
        MatrixRule("own", OwnState, None)
    with pytest.raises(schuss.RuleError, match=r"reference takes \(p, g, s, step, \*, lr, ...\); this one takes 3"):
        MatrixRule("own", OwnState, lambda p, g, s: p)
    with pytest.raises(schuss.RuleError, match=r"shapes\(\) must return 2 shapes \(mean, rows\); it returned 1"):
        schuss.Optimizer([np.ones((2, 2))], own(shapes=lambda shape: [None]), lr=0.1)
    with pytest.raises(ValueError, match=r"parameter '1': the rule 'own' takes no array of shape \(3,\)"):
        schuss.Optimizer([np.ones((2, 2)), np.ones(3)], own(otherwise=None), lr=0.1)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda p, s: (p, s[:1]), "returned 1 states instead of 2"),
        (lambda p, s: (p.sum(), s), r"returned p of shape \(\), expected \(2, 3\)"),
        (lambda p, s: (p, OwnState(s.mean, s.rows[:1])), r"returned rows of shape \(1,\), expected \(2,\)"),
    ],
)
def test_what_an_own_rule_returns_is_checked_before_anything_is_written(returned, message):
    def reference(p, g, s, step, *, lr=0.1):
        return returned(p - lr * g, s)

    w = np.ones((2, 3))
    rule = MatrixRule("own", OwnState, reference, shapes=lambda shape: [None, shape[:1]])
    optimizer = schuss.Optimizer([w], rule)
    with pytest.raises(schuss.RuleError, match=message):
        optimizer.step([np.ones((2, 3))])
    assert (w == 1.0).all()
    assert optimizer.steps == 0


# --------------------------------------------------------------------------------------------- arrays on a device


class OnDevice:
    """An array that numpy cannot see."""

    def __init__(self, values):
        self.values = values


def test_arrays_on_a_device_are_copied_to_the_host_and_back(monkeypatch):
    monkeypatch.setattr(cuda, "to_host", lambda memory: memory.array.values.copy(order="C"))
    monkeypatch.setattr(cuda, "from_host", lambda values, memory: memory.array.values.__setitem__(..., values))

    def moved(memory):
        scales = None if memory.scales is None else moved(memory.scales)
        return replace(memory, array=OnDevice(memory.array.copy(order="K")), scales=scales)

    shapes = [(20, 30), (9,)]
    host = schuss.SM3(many(0, shapes=shapes), **{**MIXED, "backend": "numpy"})
    tensors = [
        replace(
            tensor,
            parameter=moved(tensor.parameter),
            states=tuple(map(moved, tensor.states)),
            others={name: moved(memory) for name, memory in tensor.others.items()},
        )
        for tensor in host._engine.tensors
    ]
    engine = WholeEngine(tensors)
    engine._slots = host._engine._slots
    engine.ride(False, True, True)
    for step in range(3):
        gradients = many(1 + step, shapes=shapes)
        there = [OnDevice(g.copy()) for g in gradients]
        info = host.step(gradients, zero_grad=True, skip_nonfinite=True)
        engine.place([Memory(g, 0, np.dtype(np.float32), g.values.shape, g.values.strides) for g in there])
        assert math.sqrt(engine.squares()[0]) == info.grad_norm
        engine.launch()
        assert not any(g.values.any() for g in there)
    for ours, theirs in zip(tensors, host._engine.tensors, strict=True):
        pairs = (([t.parameter, *t.kept(), *t.scales()]) for t in (ours, theirs))
        for a, b in zip(*pairs, strict=True):
            np.testing.assert_array_equal(a.array.values, b.array)


# ------------------------------------------------------------------------------------------------------------- speed

LARGE = [(300, 40, 3, 3), (64, 3, 7, 7), (500, 300), (40, 2, 50), (1000,), (), (0, 4), (3, 70_000)]


@pytest.mark.parametrize("options", [{}, {"master": "float32", "ema": 0.9}])
@pytest.mark.parametrize("make", [schuss.Adafactor, schuss.SM3])
def test_tensors_side_by_side(make, options, monkeypatch):
    """However many threads there are, the numbers are those of one tensor after the other."""
    dtype = np.dtype(ml_dtypes.bfloat16 if options else np.float32)
    parameters = [[p.astype(dtype) for p in many(0, shapes=LARGE)] for _ in range(3)]
    pools = []
    monkeypatch.setattr(futures, "ThreadPoolExecutor", lambda count: pools.append(count) or ThreadPoolExecutor(count))
    plain = make(parameters[0], lr=0.01, backend="numpy", **options)
    one, three = (make(w, lr=0.01, threads=count, **options) for w, count in zip(parameters[1:], (1, 3), strict=True))
    for step in range(3):
        gradients = [g.astype(dtype) for g in many(1 + step, shapes=LARGE)]
        gradients[step] = None
        for optimizer in (plain, one, three):
            optimizer.step(gradients, clip_value=1.5)
    assert pools == [3] * 3
    assert_same_optimizers(three, plain)
    assert_same_optimizers(one, plain)


def test_only_rules_that_allow_it_are_stepped_side_by_side(monkeypatch):
    monkeypatch.setattr(futures, "ThreadPoolExecutor", None)  # to call it would fail
    parameters = many(0, shapes=[(400, 300), (300, 400), (90_000,)])
    muon_ = schuss.Muon(parameters, threads=2)
    muon_.step(many(1, shapes=[(400, 300), (300, 400), (90_000,)]))
    small = schuss.Adafactor(many(0, shapes=[(40, 30), (30, 40)]), threads=2)
    small.step(many(1, shapes=[(40, 30), (30, 40)]))
    single = schuss.Adafactor(many(0, shapes=[(400, 300)]), threads=2)
    single.step(many(1, shapes=[(400, 300)]))


def test_an_error_beside_others(monkeypatch):
    State = namedtuple("State", [])

    def reference(p, g, s, step, *, lr):
        return (p[:1] if p.shape == (300, 300) else p - lr * g), s

    rule = MatrixRule("side", State, reference, side_by_side=True)
    optimizer = schuss.Optimizer(many(0, shapes=[(300, 301), (300, 300), (302, 300)]), rule, lr=0.1, threads=2)
    with pytest.raises(schuss.RuleError, match="returned p of shape"):
        optimizer.step(many(1, shapes=[(300, 301), (300, 300), (302, 300)]))
    assert optimizer.steps == 0


@pytest.mark.parametrize(
    "shape", [(), (5,), (40, 40), (3, 40), (40, 3), (6, 7, 3, 3), (2, 2, 2), (1, 1), (64, 3, 31, 40)]
)
def test_long_loops(shape):
    x = np.asarray(np.random.default_rng(0).standard_normal(shape))
    made = long_loops(x)
    assert_same_bits(made, x)
    if shape == (6, 7, 3, 3):
        assert made.strides == (8, 3 * 3 * 6 * 8, 3 * 6 * 8, 6 * 8)  # all are short
    if shape in ((40, 40), (3, 40), (64, 3, 31, 40), (5,), ()):
        assert made is x
    if shape == (40, 3):
        assert made.strides == (8, 320)


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
