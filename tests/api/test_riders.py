"""What rides along in a step: scaling, clipping, skipping, zeroing, moving averages, copies, accumulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from bits import BFLOAT16, assert_same_everything, everything, raw
from cases import CASES, arrays, assert_same_bits
from layouts import strided

import schuss

RIDERS = {
    "grad_scale": {"grad_scale": 1 / 3},
    "clip_norm": {"clip_norm": 0.5},
    "clip_value": {"clip_value": 0.01},
    "skip_nonfinite": {"skip_nonfinite": True},
    "zero_grad": {"zero_grad": True},
}
KEEPERS = {
    "ema": {"ema": 0.9},
    "copy_to": {"copy_to": BFLOAT16},
    "bfloat16 states": {"state_dtype": "bfloat16"},
    "stochastic": {"state_dtype": "bfloat16", "rounding": "stochastic"},
    "maximize": {"maximize": True},
    "master": {"master": "remainder"},
}
PAIRS = list(itertools.combinations([*RIDERS, *KEEPERS], 2))
SHAPES = [(0,), (7,), (1000,), (3, 5, 67), (5001,)]


def built(case, backend, shapes, seed=0, dtype=np.float32, **options):
    """An optimizer over new parameters, and the copies it writes."""
    params = arrays(shapes, BFLOAT16 if "master" in options else dtype, seed)
    if "copy_to" in options:
        options["copy_to"] = [np.zeros(p.shape, options["copy_to"]) for p in params]
    return case.make(params, **{**case.options, **options}, backend=backend)


def run(optimizer, shapes, riders, steps=4, bad=None):
    """Steps with changing gradients; the gradients as they were left, and what the steps said."""
    left, said = [], []
    for step in range(steps):
        gradients = arrays(shapes, np.float32, 10 + step)
        if step == bad:
            gradients[-1].flat[3] = np.inf
        if step == 2:
            gradients[1] = None
        said.append(optimizer.step(gradients, **riders))
        left += [raw(g) for g in gradients if g is not None]
    return left, said


@pytest.mark.full  # the pairs are in test_combinations, each on another optimizer
@pytest.mark.parametrize("pair", PAIRS, ids=" and ".join)
@pytest.mark.parametrize("case", [CASES[0], CASES[5], CASES[17]], ids=str)
def test_every_two_together(case, pair):
    """Any two riders or ways of keeping, on three optimizers, with a gradient that is infinite once: bit for bit."""
    riders = {k: v for name in pair if name in RIDERS for k, v in RIDERS[name].items()}
    options = {k: v for name in pair if name in KEEPERS for k, v in KEEPERS[name].items()}
    if case is CASES[0] and "rounding" in options and "master" not in options:
        options["dtype"] = BFLOAT16  # plain descent has no state that could be rounded
    if "rounding" in options and "master" in options and case is CASES[0]:
        pytest.skip("nothing is rounded")
    bad = 1 if "skip_nonfinite" in riders else None
    ours, reference = (built(case, backend, SHAPES, **options) for backend in ("auto", "numpy"))
    (left, said), (expected, expected_said) = (run(o, SHAPES, riders, bad=bad) for o in (ours, reference))
    assert_same_everything(ours, reference)
    for one, other in zip(left, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [i.skipped for i in said] == [i.skipped for i in expected_said] == [n == bad for n in range(4)]
    np.testing.assert_array_equal([i.grad_norm for i in said], [i.grad_norm for i in expected_said])
    assert ours.steps == reference.steps == 4 - (bad is not None)


ALL = {k: v for rider in RIDERS.values() for k, v in rider.items()}


@pytest.mark.full
@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_together_on_every_optimizer(case):
    ours, reference = (
        built(case, backend, SHAPES, ema=0.99, copy_to=np.float16, dtype=np.float32) for backend in ("auto", "numpy")
    )
    results = [run(optimizer, SHAPES, ALL, bad=2) for optimizer in (ours, reference)]
    assert_same_everything(ours, reference)
    assert results[0][1] == results[1][1]


def test_all_together_on_every_engine_and_layout(backend):
    engine = "auto" if backend == "native" else backend
    made = []
    for name in (engine, "numpy"):
        optimizer = schuss.AdamW([np.asarray(a, np.float32) for a in strided(0)], ema=0.9, backend=name)
        for step in range(3):
            gradients = [np.array(a, np.float32) for a in strided(1 + step)]
            gradients[1] = np.repeat(gradients[1], 2, 0)[::2]
            info = optimizer.step(gradients, grad_scale=0.5, clip_norm=1.0, clip_value=0.01, zero_grad=True)
            assert not any(g.any() for g in gradients)
        made.append((optimizer, info))
    assert_same_everything(made[0][0], made[1][0])
    assert made[0][1] == made[1][1]


# ------------------------------------------------------------------------------------------------------- the norm


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, BFLOAT16], ids=lambda d: np.dtype(d).name)
def test_the_norm(dtype, backend):
    sizes = [0, 1, 15, 16, 17, 1023, 1024, 1025, 50_000]
    optimizer = schuss.SGD(arrays(sizes, np.float32, 0), lr=0.1, backend="auto" if backend == "native" else backend)
    gradients = [np.asarray(g, dtype) for g in arrays(sizes, np.float32, 1)]
    info = optimizer.step(gradients, clip_norm=1e9, grad_scale=-0.25)
    exact = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in gradients)) * 0.25
    assert abs(info.grad_norm - exact) <= 1e-12 * exact
    assert not info.skipped


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_norm_is_the_same_for_any_threads_and_chunks(threads, backend, monkeypatch):
    from schuss_kernels.engine.host import HostEngine

    sizes, norms = [70_001, 3, 9_000], set()
    for chunk in (1024, 4096, 65_536):
        monkeypatch.setattr(HostEngine, "chunk_and_span_sizes", lambda self, elements, chunk=chunk: (chunk, chunk))
        monkeypatch.setattr(HostEngine, "serial_below", 0)
        optimizer = schuss.SGD(arrays(sizes, np.float32, 0), lr=0.1, threads=threads, backend=backend)
        norms.add(optimizer.step(arrays(sizes, np.float32, 1), clip_norm=1.0).grad_norm)
    reference = schuss.SGD(arrays(sizes, np.float32, 0), lr=0.1, backend="numpy")
    assert norms == {reference.step(arrays(sizes, np.float32, 1), clip_norm=1.0).grad_norm}


def test_clipping_is_torchs():
    torch = pytest.importorskip("torch")
    sizes = [1000, 30]
    gradients = arrays(sizes, np.float32, 1)
    params = arrays(sizes, np.float32, 0)
    theirs = [torch.from_numpy(p.copy()).requires_grad_() for p in params]
    for parameter, gradient in zip(theirs, gradients, strict=True):
        parameter.grad = torch.from_numpy(gradient.copy())
    norm = torch.nn.utils.clip_grad_norm_(theirs, 0.7)
    torch.nn.utils.clip_grad_value_(theirs, 0.02)
    torch.optim.SGD(theirs, lr=0.1).step()
    info = schuss.SGD(params, lr=0.1).step(gradients, clip_norm=0.7, clip_value=0.02)
    np.testing.assert_allclose(info.grad_norm, norm.item(), rtol=1e-5)
    for ours, other in zip(params, theirs, strict=True):
        np.testing.assert_allclose(ours, other.detach().numpy(), rtol=1e-6, atol=1e-6)


def test_a_norm_below_the_limit_changes_nothing():
    one, other = (schuss.AdamW(arrays([100], np.float32, 0)) for _ in range(2))
    gradients = arrays([100], np.float32, 1)
    one.step(gradients)
    other.step(gradients, clip_norm=1e12)
    assert_same_everything(one, other)


# ------------------------------------------------------------------------------------------------- skipping and zeroing


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("place", [0, 17, 1023, 4999])
def test_a_skipped_step_changes_nothing(value, dtype, place, backend):
    w = arrays([5000, 10], np.float32, 0)
    optimizer = schuss.AdamW(w, ema=0.9, backend="auto" if backend == "native" else backend)
    good = arrays([5000, 10], dtype, 1)
    optimizer.step(good, skip_nonfinite=True)
    before, bad = everything(optimizer), arrays([5000, 10], dtype, 2)
    bad[0][place] = value
    info = optimizer.step(bad, skip_nonfinite=True, zero_grad=True)
    assert info.skipped
    assert not np.isfinite(info.grad_norm)
    assert not any(g.any() for g in bad), "an infinity in a buffer that is added to would skip all steps to come"
    for one, other in zip(everything(optimizer), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert optimizer.steps == 1
    assert [entry["step"] for entry in optimizer.state_dict()["state"].values()] == [1, 1]
    assert not optimizer.step(good, skip_nonfinite=True).skipped
    assert optimizer.steps == 2


def test_large_float64_gradients_are_finite():
    """Their squares overflow; they themselves do not."""
    w = [np.ones(3)]
    info = schuss.SGD(w, lr=1e-200).step([np.full(3, 1e200)], skip_nonfinite=True)
    assert not info.skipped
    np.testing.assert_allclose(w[0], 0.0, atol=1e-12)


def test_zero_grad(backend):
    gradients = [*arrays([300_000, 5], np.float32, 0), np.ones((6, 8), np.float32)[::2, 1:5]]
    outside = gradients[2].base.copy()
    params = [*arrays([300_000, 5], np.float32, 1), np.ones((3, 4), np.float32)]
    optimizer = schuss.SGD(params, lr=0.1, threads=2, backend="auto" if backend == "native" else backend)
    for _ in range(3):
        for g in gradients:
            g[...] = 1.0
        optimizer.step(gradients, zero_grad=True)
        assert not any(g.any() for g in gradients)
    outside[::2, 1:5] = 0.0
    assert_same_bits(gradients[2].base, outside)
    assert optimizer.steps == 3


def test_zero_grad_refuses_what_it_cannot_write(backend):
    """In the first step, and where the step before was right."""
    optimizer = schuss.SGD(arrays([10, 10], np.float32, 0), lr=0.1, backend="auto" if backend == "native" else backend)
    before = everything(optimizer)
    one, two = arrays([10, 10], np.float32, 1)
    optimizer_steps = [
        ([one, one], "zero_grad: the gradients of '0' and '1' share memory"),
        ([one, np.broadcast_to(np.float32(1), (10,))], "zero_grad: the gradient of '1' is read-only"),
        ([one, np.lib.stride_tricks.as_strided(two, (10,), (0,))], "zero_grad: the gradient of '1' overlaps itself"),
    ]
    for _ in range(2):
        for gradients, message in optimizer_steps:
            with pytest.raises(ValueError, match=message):
                optimizer.step(gradients, zero_grad=True)
        for now, then in zip(everything(optimizer), before, strict=True):
            np.testing.assert_array_equal(now, then)
        optimizer.step([one, two], zero_grad=True)
        before = everything(optimizer)
    two.flags.writeable = False
    with pytest.raises(ValueError, match="the gradient of '1' is read-only"):  # the same array as in the step before
        optimizer.step([one, two], zero_grad=True)


BAD = [
    ({"grad_scale": np.nan}, "grad_scale: expected a finite number, got nan"),
    ({"grad_scale": "1"}, "grad_scale: expected a number or None"),
    ({"clip_norm": -1.0}, "clip_norm: expected a number above 0, or infinity to measure the norm and clip nothing"),
    ({"clip_norm": 0.0}, "clip_norm: expected a number above 0, .*; got 0.0"),
    ({"clip_norm": 10**400}, r"clip_norm: expected a number that float64 has, or infinity; got 1000+\.\.\.000"),
    ({"grad_scale": 10**400}, r"grad_scale: expected a finite number, got 1000+\.\.\.000"),
    ({"clip_norm": True}, "clip_norm: expected a number or None, got True"),
    ({"clip_value": np.inf}, "clip_value: expected a finite number"),
    ({"skip_nonfinite": 1}, "skip_nonfinite: expected True or False, got 1"),
    ({"zero_grad": "yes"}, "zero_grad: expected True or False"),
]


@pytest.mark.parametrize(("riders", "message"), BAD, ids=[str(riders) for riders, _ in BAD])
def test_riders_that_cannot_be(riders, message):
    w, g = arrays([5, 5], np.float32, 0)
    optimizer, before = schuss.SGD([w], lr=0.1), w.copy()
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.step([g], **riders)
    assert_same_bits(w, before)
    assert optimizer.steps == 0


# -------------------------------------------------------------------------------------------- averages and copies


def test_ema_params_and_use_ema():
    params = {"w": np.ones((2, 3), np.float32), "b": [np.zeros(4, BFLOAT16)]}
    optimizer = schuss.SGD(params, lr=0.5, ema=0.75)
    for _ in range(2):
        optimizer.step({"w": np.ones((2, 3), np.float32), "b": [np.full(4, 2.0, np.float32)]})
    average = optimizer.ema_params
    assert average.keys() == params.keys()
    expected = 0.75 * (0.75 * 1.0 + 0.25 * 0.5) + 0.25 * 0.0
    assert (average["w"] == np.float32(expected)).all()
    assert average["b"][0].dtype == np.float32
    held = params["w"].copy()
    with optimizer.use_ema():
        assert_same_bits(params["w"], average["w"])
        assert_same_bits(params["b"][0], average["b"][0].astype(BFLOAT16))
        with pytest.raises(RuntimeError, match="inside use_ema"):
            optimizer.step({"w": held, "b": [None]})
        with pytest.raises(RuntimeError, match="inside use_ema"):
            optimizer.state_dict()
        with pytest.raises(RuntimeError, match="inside use_ema"), optimizer.use_ema():
            pass
    assert_same_bits(params["w"], held)
    with pytest.raises(KeyError), optimizer.use_ema():
        raise KeyError
    assert_same_bits(params["w"], held)
    with pytest.raises(RuntimeError, match=r"build it with ema=0\.999"):
        _ = schuss.SGD([np.ones(1)], lr=0.1).ema_params


def test_copies_in_groups():
    one, two = np.ones((4, 5), np.float32).T, np.ones(3)
    copies = [np.zeros((4, 5), np.float16).T, np.zeros(3, np.float32)]
    groups = [{"params": one}, {"params": {"x": two}, "lr": 0.25}]
    optimizer = schuss.SGD(groups, lr=0.5, copy_to=[copies[0], {"params": {"x": copies[1]}}])
    optimizer.step([np.ones((5, 4), np.float32), {"x": np.ones(3)}])
    assert (copies[0] == 0.5).all()
    assert (copies[1] == 0.75).all()


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32, np.float64], ids=str)
def test_copies_of_every_dtype(dtype, backend):
    """Of parameters of every dtype, larger ones too."""
    for own in (np.float16, BFLOAT16, np.float32, np.float64):
        ours, reference = (
            schuss.RMSprop(
                [np.array(p) for p in arrays([(), (3, 5), 100], own, 0)],
                copy_to=[np.zeros(shape, dtype) for shape in [(), (3, 5), 100]],
                backend=kind,
            )
            for kind in ("auto" if backend == "native" else backend, "numpy")
        )
        for step in range(2):
            for optimizer in (ours, reference):
                optimizer.step(list(map(np.array, arrays([(), (3, 5), 100], np.float32, 1 + step))))
        assert_same_everything(ours, reference)
        for parameter, others in zip(ours._parameters.memories, ours._stepper.stored.others, strict=True):
            if own in (np.float32, np.float64):  # others are rounded, copies are of what was computed
                expected = parameter.array.astype(dtype)
                np.testing.assert_array_equal(raw(others["copy"].array), raw(expected))


BAD_COPIES = [
    (np.zeros(4, np.float16), r"copy_to of '0': expected shape \(4, 6\), got \(4,\)"),
    (np.zeros((6, 4), np.float16).T, "copy_to of '0': expected a dense array"),
    (np.zeros((4, 12), np.float16)[:, ::2], "copy_to of '0': expected a dense array"),
    (np.zeros((4, 6), np.int8), "copy_to of '0': expected a float array .* got int8"),
    (np.broadcast_to(np.float16(0), (4, 6)), "copy_to of '0' is read-only"),
    (None, "copy_to of '0': expected a float array .* got NoneType"),
]


@pytest.mark.parametrize(("copy", "message"), BAD_COPIES, ids=[message[:40] for _, message in BAD_COPIES])
def test_copies_that_cannot_be(copy, message):
    with pytest.raises((TypeError, ValueError), match=message):
        schuss.SGD([np.ones((4, 6), np.float32)], lr=0.1, copy_to=[copy])


def test_a_copy_must_not_be_the_parameter():
    w = np.ones(4, np.float32)
    with pytest.raises(ValueError, match="copy_to of '0' shares memory with another array"):
        schuss.SGD([w], lr=0.1, copy_to=[w])
    with pytest.raises(ValueError, match="copy_to do not fit the parameters: expected 1 items, got 2"):
        schuss.SGD([w], lr=0.1, copy_to=[np.zeros(4), np.zeros(4)])


# ------------------------------------------------------------------------------------------------------- accumulation


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BFLOAT16], ids=lambda d: np.dtype(d).name)
def test_accumulation(dtype, backend):
    sizes = [4000, 7, 0]
    engine = "auto" if backend == "native" else backend
    ours = schuss.AdamW(arrays(sizes, np.float32, 0), lr=0.1, backend=engine)
    whole = schuss.AdamW(arrays(sizes, np.float32, 0), lr=0.1, backend="numpy")
    for cycle in range(3):
        batches = [[np.asarray(g, dtype) for g in arrays(sizes, np.float32, 10 * cycle + n)] for n in range(3)]
        total = [np.zeros(size, np.float32) for size in sizes]
        for batch in batches:
            ours.accumulate(batch)
            total = [t + g.astype(np.float32) for t, g in zip(total, batch, strict=True)]
        assert ours.step(grad_scale=1 / 3, clip_norm=1.0) == whole.step(total, grad_scale=1 / 3, clip_norm=1.0)
    assert_same_everything(ours, whole)
    assert ours.steps == 3


def test_accumulation_and_missing_gradients():
    params = {"a": np.zeros(3), "b": np.zeros(2), "c": np.zeros(1)}
    optimizer = schuss.SGD(params, lr=1.0)
    optimizer.accumulate({"a": np.ones(3), "b": None, "c": None})
    optimizer.accumulate({"a": np.ones(3), "b": np.ones(2), "c": None})
    optimizer.step()
    assert [p[0] for p in params.values()] == [-2.0, -1.0, 0.0]
    assert [e["step"] for e in optimizer.state_dict()["state"].values()] == [1, 1, 0]
    with pytest.raises(ValueError, match="no gradients were given, and none were accumulated"):
        optimizer.step()
    optimizer.accumulate({"a": np.ones(3), "b": None, "c": None})
    with pytest.raises(ValueError, match="there are accumulated gradients"):
        optimizer.step({"a": np.ones(3), "b": None, "c": None})
    with pytest.raises(ValueError, match=r"gradient of 'a': expected shape \(3,\), got \(4,\)"):
        optimizer.accumulate({"a": np.ones(4), "b": None, "c": None})
    optimizer.step()
    assert [p[0] for p in params.values()] == [-3.0, -1.0, 0.0]


def test_a_skipped_sum_is_forgotten():
    w = np.zeros(3, np.float32)
    optimizer = schuss.SGD([w], lr=1.0)
    optimizer.accumulate([np.array([1, np.inf, 0], np.float32)])
    assert optimizer.step(skip_nonfinite=True).skipped
    optimizer.accumulate([np.ones(3, np.float32)])
    assert not optimizer.step(skip_nonfinite=True).skipped
    assert (w == -1.0).all()
