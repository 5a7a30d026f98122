"""Rules with a measure: a first pass that adds up, tensor by tensor or over all, and what follows from the sums."""

from __future__ import annotations

import dataclasses
import math
from collections import namedtuple

import numpy as np
import pytest
from cases import arrays, assert_same_bits
from schuss_kernels.engine.host import HostEngine
from schuss_kernels.lang.rule import Rule, RuleError

import schuss

State = namedtuple("State", ["velocity"])
Scalars = namedtuple("Scalars", ["lr", "beta", "scale"])
Sums = namedtuple("Sums", ["squares", "total", "magnitude"])
Running = namedtuple("Running", ["mean", "steps"], defaults=[0.0, 0.0])


def scalars(step, running, *, lr, beta=0.9):
    return Scalars(lr, beta, 1.0), Running(running.mean, running.steps + 1.0)


def measure(p, g, s, h):
    v = h.beta * s.velocity + g
    return Sums(v * v, p + v, abs(g))


def finish(h, sums, step, running):
    mean = 0.5 * running.mean + 0.5 * math.sqrt(sums.squares)
    return h._replace(scale=1.0 / (1.0 + mean + abs(sums.total))), running._replace(mean=mean)


def update(p, g, s, h):
    v = h.beta * s.velocity + g
    return p - h.lr * h.scale * v, State(v)


def reference_measure(p, g, s, step, *, running, lr, beta=0.9):
    v = beta * s.velocity + g
    return Sums(v * v, p + v, np.abs(g))


def reference(p, g, s, step, *, running, sums, lr, beta=0.9):
    v = beta * s.velocity + g
    mean = 0.5 * running.mean + 0.5 * math.sqrt(sums.squares)
    return p - p.dtype.type(lr) * p.dtype.type(1.0 / (1.0 + mean + abs(sums.total))) * v, State(v)


def own(over="tensor", **changes):
    rule = Rule(
        "measured",
        State,
        Scalars,
        scalars,
        update,
        reference,
        running=Running,
        Sums=Sums,
        measure=measure,
        finish=finish,
        over=over,
        reference_measure=reference_measure,
    )
    return dataclasses.replace(rule, **changes)


SIZES = [(7,), (1025,), (3, 5, 67), (0,), (), (20_001,)]


def stepped(rule, backend, dtype=np.float32, make=arrays, **options):
    params = make(SIZES, dtype, 0)
    opt = schuss.Optimizer(params, rule, lr=0.1, backend=backend, **options)
    for step in range(4):
        gradients = make(SIZES, dtype, 1 + step)
        if step in (1, 2):
            gradients[step] = None
        opt.step(gradients, clip_value=100.0 if step == 3 else None)
    return opt


def assert_same(one, other):
    for p, q in zip(one._parameters.memories, other._parameters.memories, strict=True):
        assert_same_bits(p.array, q.array)
    ours, theirs = (optimizer.state_dict()["state"] for optimizer in (one, other))
    for name in ours:
        assert ours[name].get("running") == theirs[name].get("running")
        assert_same_bits(np.asarray(ours[name]["velocity"]), np.asarray(theirs[name]["velocity"]))


@pytest.fixture
def engine(backend):
    return "auto" if backend == "native" else backend  # numba compiles what was not compiled ahead of time


@pytest.mark.parametrize("over", ["tensor", "all"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("plain", [False, True], ids=["reference", "element by element"])
def test_kernel_equals_reference(engine, dtype, over, plain):
    if plain and dtype == np.float32:
        pytest.skip("once is enough")
    rule = own(over)
    slow = own(over, reference=None, reference_measure=None) if plain else rule
    assert_same(stepped(rule, engine, dtype), stepped(slow, "numpy", dtype))


def test_all_go_on_together_where_one_has_no_gradient():
    """The numbers of a group, and its count of steps, are those of all its tensors; the tensor itself is left alone."""
    params = arrays([5, 6], np.float32, 0)
    opt = schuss.Optimizer(params, own("all"), lr=0.1, backend="numpy")
    one, other = arrays([5, 6], np.float32, 1)
    opt.step([one, other])
    before = params[1].copy()
    opt.step([one, None])
    opt.step([one, None])
    assert_same_bits(params[1], before)
    entries = list(opt.state_dict()["state"].values())
    assert [entry["step"] for entry in entries] == [3, 3]
    assert entries[0]["running"] == entries[1]["running"]
    assert entries[0]["running"]["steps"] == 3.0
    opt.step([one, other])
    entries = list(opt.state_dict()["state"].values())
    assert entries[0]["running"] == entries[1]["running"]
    assert entries[0]["running"]["steps"] == 4.0


def strided(sizes, dtype, seed):
    return [np.repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a for a in arrays(sizes, dtype, seed)]


@pytest.mark.parametrize("options", [{}, {"state_dtype": "8bit", "min_8bit_size": 0}], ids=["plain", "8-bit"])
@pytest.mark.parametrize("make", [arrays, strided], ids=["dense", "strided"])
def test_storages_and_layouts(engine, make, options):
    assert_same(stepped(own(), engine, make=make, **options), stepped(own(), "numpy", make=make, **options))


@pytest.mark.parametrize("beside", [{"ema": 0.9}, {"copy_to": np.float16}], ids=str)
def test_8bit_states_beside_an_average_or_a_copy(engine, beside):
    """The first pass finds the scales of the states behind what it does not touch itself."""
    made = []
    for backend in (engine, "numpy"):
        params = arrays([700, 33], np.float32, 0)
        copies = {"copy_to": [np.zeros(p.shape, beside["copy_to"]) for p in params]} if "copy_to" in beside else {}
        opt = schuss.LAMB(params, state_dtype="8bit", min_8bit_size=0, backend=backend, **{**beside, **copies})
        for step in range(3):
            opt.step(arrays([700, 33], np.float32, 1 + step))
        made.append(params)
    for ours, expected in zip(*made, strict=True):
        assert_same_bits(ours, expected)


@pytest.mark.parametrize("chunk", [1024, 3072])
@pytest.mark.parametrize("threads", [1, 3])
def test_sums_do_not_depend_on_threads_and_chunks(engine, threads, chunk, monkeypatch):
    expected = stepped(own(), "numpy")
    monkeypatch.setattr(HostEngine, "chunk_and_span_sizes", lambda self, elements: (chunk, chunk))
    monkeypatch.setattr(HostEngine, "serial_below", 0)
    assert_same(stepped(own(), engine, threads=threads), expected)


def test_every_tensor_has_its_own_numbers_or_all_have_one():
    each = stepped(own("tensor"), "numpy").state_dict()["state"]
    assert len({entry["running"]["mean"] for entry in each.values()}) > 3
    params = arrays([5, 6], np.float32, 0)
    opt = schuss.Optimizer(params, own("all"), lr=0.1, backend="numpy")
    opt.step(arrays([5, 6], np.float32, 1))
    both = opt.state_dict()["state"]
    v = np.concatenate(arrays([5, 6], np.float32, 1)).astype(np.float64)
    np.testing.assert_allclose(both["0"]["running"]["mean"], 0.5 * np.sqrt((v * v).sum()), rtol=1e-6)
    assert both["0"]["running"] == both["1"]["running"]


def test_groups_of_rules_with_and_without_a_measure(engine):
    """A measured group and a plain one: the first pass goes over the first only."""
    made = []
    for backend in (engine, "numpy"):
        params = arrays([50, 70], np.float32, 0)
        groups = [{"params": [params[0]], "trust": True}, {"params": [params[1]], "trust": False}]

        def select(*, trust, **_):
            return own() if trust else PLAIN

        opt = Chosen(groups, select, lr=0.1, backend=backend)
        for step in range(3):
            opt.step([[g] for g in arrays([50, 70], np.float32, 1 + step)])
        made.append(params)
    for ours, expected in zip(*made, strict=True):
        assert_same_bits(ours, expected)


class Chosen(schuss.Optimizer):
    def __init__(self, params, select, lr=0.1, beta=0.9, trust=True, **common):
        super().__init__(params, select, lr=lr, beta=beta, trust=trust, **common)


PlainScalars = namedtuple("PlainScalars", ["lr", "beta"])
PLAIN = Rule(
    "unmeasured",
    State,
    PlainScalars,
    lambda step, *, lr, beta=0.9: PlainScalars(lr, beta),
    lambda p, g, s, h: (p - h.lr * (h.beta * s.velocity + g), State(h.beta * s.velocity + g)),
)


def test_with_skipping_and_resuming(engine):
    params = arrays([3000, 5], np.float32, 0)
    opt = schuss.Optimizer(params, own(), lr=0.1, backend=engine)
    opt.step(arrays([3000, 5], np.float32, 1), clip_norm=1.0, skip_nonfinite=True)
    bad = arrays([3000, 5], np.float32, 2)
    bad[0][17] = np.inf
    before = opt.state_dict()["state"]["0"]["running"]
    assert opt.step(bad, skip_nonfinite=True).skipped
    assert opt.state_dict()["state"]["0"]["running"] == before
    resumed = schuss.Optimizer([p.copy() for p in params], own(), lr=0.1, backend=engine)
    resumed.load_state_dict(opt.state_dict())
    for optimizer in (opt, resumed):
        optimizer.step(arrays([3000, 5], np.float32, 3))
    assert_same(opt, resumed)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"over": "tensors"}, "over must be 'tensor' or 'all'; got 'tensors'"),
        ({"measure": None}, "Sums, measure and finish go together; measure is missing"),
        ({"finish": None}, "Sums, measure and finish go together; finish is missing"),
        ({"Sums": list}, "Sums must be a namedtuple class"),
        ({"finish": print}, "finish must be a plain function"),
    ],
)
def test_wrong_rules(changes, message):
    with pytest.raises(RuleError, match=f"rule 'measured': {message}"):
        own(**changes)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda p, g, s, h: p * p, r"measure\(\) must return Sums\(squares, total, magnitude\); it returns float32"),
        (
            lambda p, g, s, h: Sums(2 * p, p, p),
            r"measure\(\) must return numbers of type float32; it returns squares as float64",
        ),
    ],
)
def test_wrong_measures_are_explained(bad, message):
    with pytest.raises(RuleError, match=message):
        schuss.Optimizer([np.ones(3, np.float32)], own(measure=bad), lr=0.1, backend="numba")


SOME = (
    r"finish\(\) must return \(Scalars\(lr, beta, scale\), Running\(mean, steps\)\), where a namedtuple of some of the "
    r"scalars will do; it returned "
)


def test_a_finish_that_returns_something_else():
    opt = schuss.Optimizer([np.ones(3)], own(finish=lambda h, sums, step, running: h), lr=0.1, backend="numpy")
    with pytest.raises(RuleError, match=SOME):
        opt.step([np.ones(3)])


@pytest.mark.parametrize(("over", "of"), [("tensor", "of parameter 'b'"), ("all", "of all")])
def test_a_finish_that_raises(over, of):
    """The error names the rule, the tensor and what was measured; nothing is written."""

    def divides(h, sums, step, running):
        return h._replace(scale=1.0 / sums.squares), running

    params = {"a": np.ones(3), "b": np.ones(2)}
    opt = schuss.Optimizer(params, own(over, finish=divides), lr=0.1, backend="numpy")
    said = (
        rf"rule 'measured': finish\(\) with the sums {of}, Sums\(squares=0.0, .*\), raised ZeroDivisionError: float div"
    )
    with pytest.raises(RuleError, match=said):
        opt.step({"a": np.full(3, float(over == "tensor")), "b": np.zeros(2)})
    assert params["a"].tolist() == [1.0] * 3


def test_lamb_against_the_paper():
    """Algorithm 2, transcribed, over changing gradients and rates."""
    params = arrays([30, (4, 5)], np.float64, 0)
    theirs = [p.copy() for p in params]
    moments = [(np.zeros(p.shape), np.zeros(p.shape)) for p in params]
    opt = schuss.LAMB(params, lr=0.1, weight_decay=0.05)
    for step in range(1, 22):
        rate = opt.param_groups[0]["lr"] = 0.1 / step
        gradients = arrays([30, (4, 5)], np.float64, step)
        opt.step(gradients)
        for p, g, (m, v) in zip(theirs, gradients, moments, strict=True):
            m[...], v[...] = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            r = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-6) + 0.05 * p
            p -= rate * np.linalg.norm(p) / np.linalg.norm(r) * r
    for ours, expected in zip(params, theirs, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-10)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("over", ["tensor", "all"])
def test_scalars_that_leave_the_running_numbers_to_finish(over, backend):
    def plain(step, *, lr, beta=0.9):
        return Scalars(lr, beta, 1.0)

    def counted(step, running, *, lr, beta=0.9):
        return plain(step, lr=lr, beta=beta), running

    assert own(scalars=plain).keeps_running
    assert not own(scalars=counted).keeps_running
    assert list(own(scalars=plain).options) == ["lr", "beta"]
    one, other = (stepped(own(over, scalars=scalars), backend) for scalars in (plain, counted))
    assert_same(one, other)
    assert one.state_dict()["state"]["0"]["running"]["mean"] > 0.0


def test_a_finish_that_returns_some_of_the_scalars():
    Found = namedtuple("Found", ["scale"])

    def some(h, sums, step, running):
        made, after = finish(h, sums, step, running)
        return Found(made.scale), after

    assert_same(stepped(own(finish=some), "numpy"), stepped(own(), "numpy"))
    assert_same(stepped(own(finish=some), "numba"), stepped(own(), "numpy"))
    Other = namedtuple("Other", ["speed"])
    opt = schuss.Optimizer([np.ones(3)], own(finish=lambda *given: (Other(1.0), Running())), lr=0.1, backend="numpy")
    with pytest.raises(RuleError, match=SOME):
        opt.step([np.ones(3)])


@pytest.mark.parametrize(("dtype", "huge"), [(np.float32, 1e25), (np.float64, 1e160), (np.float64, 1e300)])
@pytest.mark.parametrize("make", [schuss.LARS, schuss.Fromage, schuss.MARS, schuss.MARSLion])
def test_norms_whose_squares_overflow(make, dtype, huge):
    """These go by the gradient's direction alone, so that its size changes next to nothing."""
    start, g = (np.random.default_rng(seed).normal(size=3000) for seed in (0, 1))
    ended = []
    for size in (1e5, huge):
        ended.append(start.astype(dtype))
        optimizer = make([ended[-1]], lr=0.1, backend="numpy")
        optimizer.step([(g * size).astype(dtype)])
    assert np.count_nonzero(ended[1] != start.astype(dtype)) > 2900
    np.testing.assert_allclose(*ended, rtol=0.0, atol=1e-6 if dtype == np.float32 else 1e-12)


def test_a_norm_whose_squares_overflow_in_a_kernel(backend):
    """Some elements are huge, others are not, and both kinds count."""
    g = np.where(np.arange(3000) % 3, 3e18, 5e17).astype(np.float32)
    g[5] = -1e25
    ended = [np.random.default_rng(0).normal(size=3000).astype(np.float32) for _ in range(2)]
    for w, engine in zip(ended, ("auto" if backend == "native" else backend, "numpy"), strict=True):
        schuss.LARS([w], lr=0.1, backend=engine).step([g])
    assert_same_bits(*ended)
