"""Matrix rules: tensors of two engines in one optimizer, own rules, devices, and tensors side by side."""

from __future__ import annotations

import math
import sys
import types
from collections import namedtuple
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from cases import assert_same_bits, assert_same_optimizers, initial_states
from matrices import many
from schuss_kernels.cuda.memory import CudaMemory
from schuss_kernels.engine.matrix import MatrixEngine, MixedEngine
from schuss_kernels.engine.reference import ReferenceEngine
from schuss_kernels.lang.matrix_rule import MatrixRule, long_loops
from schuss_kernels.rules import COMPILED, RULES

import schuss

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
    assert isinstance(reference._stepper.engine, ReferenceEngine)
    assert isinstance(ours._stepper.engine, MixedEngine) == (backend != "numpy")


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
    optimizer = schuss.Optimizer(many(0), rule, weight_decay=0.0, backend="numba")
    optimizer.step(many(1))
    broken.append(True)
    before = [p.array.copy() for p in optimizer._parameters.memories]
    with pytest.raises(ZeroDivisionError):
        optimizer.step(many(2))
    assert optimizer.steps == 1
    for p, old in zip(optimizer._parameters.memories, before, strict=True):
        np.testing.assert_array_equal(p.array, old)
    broken.clear()
    optimizer.step(many(2))
    assert optimizer.steps == 2
    assert {entry["step"] for entry in optimizer.state_dict()["state"].values()} == {2}


def test_factored_states_stay_as_they_are_computed(backend):
    options = {"state_dtype": "8bit", "min_8bit_size": 1, "backend": compiled(backend)}
    [state] = initial_states(schuss.Adafactor([np.ones((20, 30), np.float32)], **options)).values()
    assert state["row_var"].dtype == state["col_var"].dtype == np.float32
    [state] = initial_states(schuss.SM3([np.ones((20, 30), np.float32)], **options)).values()
    assert state["accumulators"].dtype == np.float32
    assert state["momentum_buffer"].dtype == np.int8
    assert state["momentum_buffer.scale"].shape == (3,)
    [state] = initial_states(schuss.Adafactor([np.ones(20, np.float32)], **options)).values()
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


FOR_ADAMW = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-4, "weight_decay": 0.01}


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
    ours = schuss.Optimizer(one, own(), **FOR_ADAMW, backend=compiled(backend))
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
    again = schuss.Optimizer([p.copy() for p in one], own(), **FOR_ADAMW, backend=compiled(backend))
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
        ({"not_negative": ("columns",)}, "'columns' is not one of its states"),
    ):
        with pytest.raises(schuss.RuleError, match=message):
            own(**changes)
    with pytest.raises(schuss.RuleError, match="reference must be a plain function"):
        MatrixRule("own", OwnState, None)
    with pytest.raises(schuss.RuleError, match=r"reference takes \(p, g, s, step, \*, lr, ...\); this one takes 3"):
        MatrixRule("own", OwnState, lambda p, g, s: p)
    with pytest.raises(schuss.RuleError, match=r"shapes\(\) must return 2 shapes \(mean, rows\); it returned 1"):
        schuss.Optimizer([np.ones((2, 2))], own(shapes=lambda shape: [None]), **FOR_ADAMW)
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


class DeviceMemory(CudaMemory):
    """Device memory, without a device."""

    def read(self):
        return self.array.values.copy(order="C")

    def write(self, values):
        self.array.values[...] = values


def test_arrays_on_a_device_are_copied_to_the_host_and_back():
    def moved(memory):
        scales = None if memory.scales is None else moved(memory.scales)
        array = OnDevice(memory.array.copy(order="K"))
        return DeviceMemory(array, memory.address, memory.dtype, memory.shape, memory.strides, scales=scales)

    shapes = [(20, 30), (9,)]
    host = schuss.SM3(many(0, shapes=shapes), **{**MIXED, "backend": "numpy"})
    assert initial_states(host)
    tensors = [
        replace(
            tensor,
            parameter=moved(tensor.parameter),
            states=tuple(map(moved, tensor.states)),
            others={name: moved(memory) for name, memory in tensor.others.items()},
        )
        for tensor in host._stepper.engine.tensors
    ]
    engine = MatrixEngine(tensors)
    engine._slots = host._stepper.engine._slots
    engine.configure(False, True, True)
    for step in range(3):
        gradients = many(1 + step, shapes=shapes)
        there = [OnDevice(g.copy()) for g in gradients]
        single = np.dtype(np.float32)
        info = host.step(gradients, zero_grad=True, skip_nonfinite=True)
        engine.set_gradients([DeviceMemory(g, 0, single, g.values.shape, g.values.strides) for g in there])
        assert math.sqrt(engine.grad_squares()[0]) == info.grad_norm
        engine.launch()
        assert not any(g.values.any() for g in there)
    for ours, theirs in zip(tensors, host._stepper.engine.tensors, strict=True):
        pairs = (([t.parameter, *t.stored_arrays(), *t.scales()]) for t in (ours, theirs))
        for a, b in zip(*pairs, strict=True):
            np.testing.assert_array_equal(a.array.values, b.array)


# ------------------------------------------------------------------------------------------------------------- speed

LARGE = [(300, 40, 3, 3), (64, 3, 7, 7), (500, 300), (40, 2, 50), (1000,), (), (0, 4), (3, 70_000)]


@pytest.mark.parametrize("options", [{}, {"master": "float32", "ema": 0.9}])
@pytest.mark.parametrize("make", [schuss.Adafactor, schuss.SM3])
def test_tensors_side_by_side(make, options, monkeypatch):
    """However many threads there are, the numbers are those of one tensor after the other."""
    dtype = np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if options else np.float32)
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


def test_no_more_tensors_side_by_side_than_torch_may_use_threads(monkeypatch):
    pools = []
    monkeypatch.setattr(futures, "ThreadPoolExecutor", lambda count: pools.append(count) or ThreadPoolExecutor(count))
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(get_num_threads=lambda: 2))
    for threads in (None, 3):
        schuss.Adafactor(many(0, shapes=LARGE), threads=threads, backend="numba").step(many(1, shapes=LARGE))
    assert pools == [2, 3]


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
