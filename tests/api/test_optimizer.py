"""The API: structures, groups, schedules, missing gradients, state dicts, what explain() says."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from cases import BACKENDS, CASES, READY, arrays, assert_same_bits, assert_same_optimizers, ones
from pairs import pairwise
from schuss_kernels.engine.extension import ExtensionEngine
from schuss_kernels.native import library

import schuss


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("params", "grads"),
    [
        (lambda: [ones(3), ones(2)], lambda: [ones(3), ones(2)]),
        (lambda: (ones(3), ones(2)), lambda: [ones(3), ones(2)]),
        (lambda: {"a": ones(3), "b": ones(2)}, lambda: {"b": ones(2), "a": ones(3)}),
        (
            lambda: {"a": {"w": ones(3)}, "b": [ones(2), (ones(1),)]},
            lambda: {"b": [ones(2), [ones(1)]], "a": {"w": ones(3)}},
        ),
        (lambda: ones(3), lambda: ones(3)),
        (lambda: iter([ones(3), ones(2)]), lambda: iter([ones(3), ones(2)])),
        (lambda: {1: ones(3), None: ones(2)}, lambda: {1: ones(3), None: ones(2)}),
    ],
)
def test_structures(params, grads, backend):
    given = params()
    optimizer = schuss.SGD(given, lr=0.25, backend=backend)
    optimizer.step(grads())
    for memory in optimizer._parameters.memories:
        np.testing.assert_array_equal(memory.array, 0.75)


def test_parameters_are_updated_where_they_are(backend):
    params = {"w": ones(4)}
    held = params["w"]
    schuss.SGD(params, lr=1.0, backend=backend).step({"w": ones(4)})
    assert params["w"] is held
    assert (held == 0).all()


def test_groups(backend):
    a, b, c = ones(3), ones(2), ones(2)
    groups = [{"params": [a], "lr": 0.1}, {"params": {"b": b, "c": c}, "weight_decay": 0.5}]
    optimizer = schuss.AdamW(groups, lr=0.01, backend=backend)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.01]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.5]
    alone = [
        schuss.AdamW([ones(3)], lr=0.1, backend="numpy"),
        schuss.AdamW([ones(2), ones(2)], lr=0.01, weight_decay=0.5, backend="numpy"),
    ]
    for _ in range(3):
        optimizer.step([[ones(3)], {"c": ones(2), "b": ones(2)}])
        alone[0].step([ones(3)])
        alone[1].step([ones(2), ones(2)])
    assert_same_bits(a, alone[0]._parameters.memories[0].array)
    assert_same_bits(b, alone[1]._parameters.memories[0].array)
    optimizer.step([{"params": [ones(3)]}, {"params": {"b": ones(2), "c": None}}])
    assert [entry["step"] for entry in optimizer.state_dict()["state"].values()] == [4, 4, 3]
    assert list(optimizer.state_dict()["state"]) == ["0.0", "1.b", "1.c"]


def test_groups_with_other_rules_share_a_launch(backend):
    """Momentum in one group, none in the other, float64 in the third."""
    params = [ones(3), ones(3), ones(3, dtype=np.float64)]
    optimizer = schuss.SGD(
        [
            {"params": params[0]},
            {"params": params[1], "momentum": 0.9},
            {"params": params[2], "momentum": 0.9, "nesterov": True},
        ],
        lr=0.5,
        backend=backend,
    )
    for _ in range(2):
        optimizer.step([ones(3), ones(3), ones(3)])
    np.testing.assert_allclose(
        [p[0] for p in params], [0.0, 1 - 0.5 - 0.5 * 1.9, 1 - 0.5 * 1.9 - 0.5 * (1 + 0.9 * 1.9)], rtol=1e-6
    )
    assert optimizer.explain().count("kernel") == 3
    assert len(optimizer._stepper.engine.plan.rows) == 3


def test_options_edited_between_steps(backend):
    w, v = ones(5), ones(5)
    optimizer = schuss.SGD([w], lr=0.1, backend=backend)
    other = schuss.SGD([v], lr=0.3, momentum=0.5, backend="numpy")
    optimizer.step([ones(5)])
    np.testing.assert_allclose(w, 0.9)
    w[:] = 1.0
    optimizer.param_groups[0].update(lr=0.3, momentum=0.5)  # another rule, with a state that the first had not
    for _ in range(3):
        optimizer.step([ones(5)])
        other.step([ones(5)])
    assert_same_bits(w, v)
    optimizer.param_groups[0]["momentum"] = 0.0
    optimizer.step([ones(5)])
    np.testing.assert_allclose(w, v - 0.3, rtol=1e-6)
    group = optimizer.param_groups[0]
    group |= {"maximize": True}
    optimizer.step([ones(5)])
    np.testing.assert_allclose(w, v, rtol=1e-6)


def test_turning_amsgrad_on_keeps_the_moments(backend):
    w, v = ones(5), ones(5)
    optimizer, always = schuss.Adam([w], backend=backend), schuss.Adam([v], amsgrad=True, backend="numpy")
    for step in range(4):
        if step == 1:
            optimizer.param_groups[0]["amsgrad"] = True
        g = [np.full(5, 1.0 + step, np.float32)]
        optimizer.step(g)
        always.step(g)
    assert_same_bits(w, v)  # the second moment only grew, so its largest value is the same


def test_lr_as_a_function():
    seen = []

    def lr(step):
        seen.append(step)
        return 0.5 / (1 + step)

    w = ones(2)
    optimizer = schuss.SGD([w], lr=lr)
    for _ in range(3):
        optimizer.step([ones(2)])
    assert seen == [0, 1, 2]
    np.testing.assert_allclose(w, 1 - 0.5 - 0.25 - 0.5 / 3, rtol=1e-6)
    scheduled, by_hand = schuss.AdamW([ones(9)], lr=schuss.schedules.cosine(0.1, 10)), schuss.AdamW([ones(9)], lr=0.1)
    for step in range(12):
        by_hand.param_groups[0]["lr"] = schuss.schedules.cosine(0.1, 10)(step)
        scheduled.step([ones(9)])
        by_hand.step([ones(9)])
    assert_same_optimizers(scheduled, by_hand)


def test_lr_as_a_function_is_called_once_a_step(backend):
    """A function with a state of its own, such as an iterator, does not run ahead."""
    seen, rates = [], iter(np.arange(1.0, 20.0))

    def lr(step):
        seen.append(step)
        return next(rates)

    w, v, u = ones(2), ones(2), ones(3)
    groups = [{"params": [w, v]}, {"params": [u], "momentum": 0.5}]
    optimizer = schuss.SGD(groups, lr=lr, backend=backend)
    for step in range(4):  # fresh arrays, None, another dtype, a skipped step
        g = np.full(2, 0.0, np.float64 if step == 2 else np.float32)
        bad = [[g * np.nan, g], [None]]
        optimizer.step([[g, g if step % 2 else None], [ones(3)]])
        assert optimizer.step(bad, skip_nonfinite=True).skipped
    assert seen == [0, 1, 2, 3]
    optimizer.param_groups[0]["momentum"] = 0.9
    optimizer.step([[ones(2), ones(2)], [None]], clip_norm=1e9)
    assert seen == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(w, 1.0 - 5.0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_tensors_without_gradients_stand_still(backend):
    """Each tensor counts its own steps, as in torch."""
    params = arrays([10, 20, 30], np.float32, 0)
    optimizer = schuss.AdamW(params, backend=backend)
    alone = [schuss.AdamW(arrays([n], np.float32, 0), backend=backend) for n in (10, 20, 30)]
    for one, p in zip(alone, params, strict=True):
        one._parameters.memories[0].array[:] = p
    pattern = [(1, 1, 1), (1, 0, 1), (1, 0, 1), (0, 0, 0), (0, 1, 0), (1, 1, 1), (1, 0, 0), (1, 1, 1)]
    for step, present in enumerate(pattern):
        gradients = arrays([10, 20, 30], np.float32, 1 + step)
        optimizer.step([g if here else None for g, here in zip(gradients, present, strict=True)])
        for one, g, here in zip(alone, gradients, present, strict=True):
            if here:
                one.step([g])
    for one, p, (name, entry) in zip(alone, params, optimizer.state_dict()["state"].items(), strict=True):
        assert_same_bits(p, one._parameters.memories[0].array, name)
        assert entry["step"] == one.steps
    assert optimizer.steps == 7


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tensor_without_gradient_when_the_rule_changes(backend):
    """It still stands at no step when its first gradient comes with the next rule."""
    w, v, alone = ones(2), ones(2), ones(2)
    optimizer, other = schuss.AdamW([w, v], backend=backend), schuss.AdamW([alone], amsgrad=True, backend="numpy")
    optimizer.step([ones(2), None])
    optimizer.param_groups[0]["amsgrad"] = True
    optimizer.step([ones(2), ones(2)])
    other.step([ones(2)])
    assert_same_bits(v, alone)
    assert [entry["step"] for entry in optimizer.state_dict()["state"].values()] == [2, 1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_state_dict_of_a_rule_that_has_not_stepped_yet(backend):
    """An option that was changed has chosen it, and a state with it."""
    optimizer = schuss.SGD([ones(2)], lr=0.5, backend=backend)
    optimizer.step([ones(2)])
    optimizer.param_groups[0]["momentum"] = 0.9
    saved = optimizer.state_dict()
    assert saved["param_groups"][0]["rule"] == "sgd_momentum"
    assert (saved["state"]["0"]["momentum_buffer"] == 0).all()


def test_maximize_is_descent_on_the_negative(backend):
    w, v = arrays([50, 50], np.float32, 0)
    v[:] = w
    up, down = schuss.Adam([w], maximize=True, backend=backend), schuss.Adam([v], backend=backend)
    for step in range(4):
        (g,) = arrays([50], np.float32, step)
        up.step([g])
        down.step([-g])
    assert_same_bits(w, v)


def through_json(state):
    """What a person could do without pickle: arrays to lists and back."""

    def plain(value):
        return (
            {"dtype": value.dtype.str, "values": value.ravel().tolist(), "shape": value.shape}
            if isinstance(value, np.ndarray)
            else value
        )

    def back(value):
        if isinstance(value, dict) and set(value) == {"dtype", "values", "shape"}:
            return np.array(value["values"], value["dtype"]).reshape(value["shape"])
        return {k: back(v) for k, v in value.items()} if isinstance(value, dict) else value

    return back(json.loads(json.dumps(state, default=plain)))


def through_pickle(state):
    return pickle.loads(pickle.dumps(state))


@pytest.mark.parametrize("kind", BACKENDS)
@pytest.mark.parametrize(
    "case", [CASES[3], CASES[17], *(c for c in CASES if c.make in (schuss.DoG, schuss.NAdam))], ids=str
)
def test_resuming_on_every_backend(case, kind):
    assert_resuming_continues_bit_for_bit(case, np.float32, through_json, kind)


@pairwise(case=CASES, dtype=[np.float32, np.float64], through=[through_json, through_pickle, dict], kind=READY)
def test_resuming_continues_bit_for_bit(case, dtype, through, kind):
    assert_resuming_continues_bit_for_bit(case, dtype, through, kind)


def assert_resuming_continues_bit_for_bit(case, dtype, through, backend):
    sizes = [(9, 4), (100,), ()]
    params = {str(n): p for n, p in enumerate(arrays(sizes, dtype, 0))}
    params["0"] = np.asfortranarray(params["0"])
    whole = case.make(params, **case.options, backend=backend)
    steps = [{str(n): g for n, g in enumerate(arrays(sizes, dtype, 1 + step))} for step in range(8)]
    steps[2]["1"] = None
    for g in steps[:4]:
        whole.step(g)
    saved = through(whole.state_dict())
    copied = {name: p.copy(order="K") for name, p in params.items()}  # sums over a tensor go by its order in memory
    resumed = case.make(copied, **{**case.options, "lr": 123.0}, backend=backend)
    resumed.load_state_dict(saved)
    for g in steps[4:]:
        whole.step(g)
        resumed.step(g)
    assert resumed.steps == whole.steps == 8
    assert_same_optimizers(resumed, whole)


def test_a_state_dict_is_a_copy():
    optimizer = schuss.Adam([ones(3)])
    optimizer.step([ones(3)])
    saved = optimizer.state_dict()
    before = copy.deepcopy(saved)
    optimizer.step([ones(3)])
    saved["state"]["0"]["exp_avg"][:] = np.nan
    assert np.isfinite(optimizer.state_dict()["state"]["0"]["exp_avg"]).all()
    optimizer.load_state_dict(before)
    before["state"]["0"]["exp_avg"][:] = np.nan
    assert np.isfinite(optimizer.state_dict()["state"]["0"]["exp_avg"]).all()


def test_state_dict_reads_like_this():
    optimizer = schuss.SGD({"w": ones(2)}, lr=0.5, momentum=0.9)
    optimizer.step({"w": ones(2)})
    saved = optimizer.state_dict()
    np.testing.assert_array_equal(saved["state"]["w"].pop("momentum_buffer"), [1.0, 1.0])
    assert saved == {
        "schuss": 1,
        "optimizer": "SGD",
        "steps": 1,
        "param_groups": [
            {
                "lr": 0.5,
                "momentum": 0.9,
                "dampening": 0.0,
                "weight_decay": 0.0,
                "nesterov": False,
                "convention": "torch",
                "maximize": False,
                "rule": "sgd_momentum",
                "params": ["w"],
            }
        ],
        "state": {"w": {"step": 1}},
    }


def test_state_with_a_schedule():
    schedule = schuss.schedules.linear(0.1, 0.0, 10)
    optimizer, other = schuss.SGD([ones(2)], lr=schedule), schuss.SGD([ones(2)], lr=schedule)
    optimizer.step([ones(2)])
    optimizer.step([ones(2)])
    saved = optimizer.state_dict()
    assert "linear" in saved["param_groups"][0]["lr"]
    other._parameters.memories[0].array[:] = optimizer._parameters.memories[0].array
    other.load_state_dict(saved)
    optimizer.step([ones(2)])
    other.step([ones(2)])
    assert_same_optimizers(optimizer, other)


@pytest.mark.parametrize(("before", "after"), [("numba", "numpy"), ("native", "numpy"), ("native", "numba")])
def test_one_backend_reads_what_another_wrote(before, after):
    if "native" in (before, after) and library.available() is not None:
        pytest.skip(str(library.available()))
    one, two = (schuss.RMSprop([ones(5)], centered=True, backend=backend) for backend in (before, after))
    one.step([ones(5)])
    two._parameters.memories[0].array[:] = one._parameters.memories[0].array
    two.load_state_dict(one.state_dict())
    for optimizer in (one, two):
        optimizer.step([ones(5)])
    assert_same_optimizers(one, two)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_explain(backend):
    optimizer = schuss.AdamW({"w": ones(10, 10), "slice": ones(10, 10)[:, ::2]}, threads=3, backend=backend)
    said = optimizer.explain()
    expected = [
        "AdamW: 2 tensors, 150 parameters",
        "4,200 bytes, 28 per parameter",
        "kernel adamw (dense)",
        "kernel adamw (strided)",
        "'slice'",
        "exp_avg float32",
        {"numba": "backend numba: compiled for the CPU", "native": "backend native: compiled ahead of time"}[backend],
        "one launch over 2 chunk(s) by 1 thread(s)",
    ]
    for words in expected:
        assert words in said, said
    assert "by 3 thread(s)" in schuss.AdamW([ones(400_000)], threads=3, backend=backend).explain()
    assert "one call per tensor" in schuss.AdamW([ones(3)], backend="numpy").explain()
    assert "24 bytes per parameter" in schuss.SGD([ones(3, dtype=np.float64)]).explain()


@pytest.mark.parametrize("backend", BACKENDS)
def test_repr_and_no_pickling(backend):
    optimizer = schuss.SGD([ones(3), ones(1000)], backend=backend)
    assert repr(optimizer) == f"<SGD: 2 tensors, 1,003 parameters, backend {backend}>"
    for copier in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="state_dict"):
            copier(optimizer)


def test_many_tensors(backend):
    params = [ones(1 + n % 7) for n in range(5000)]
    optimizer = schuss.SGD(params, lr=1.0, backend=backend)
    optimizer.step([ones(1 + n % 7) for n in range(5000)])
    assert all((p == 0).all() for p in params)


def test_one_gradient_for_several_parameters(backend):
    w, v, g = ones(4), ones(4), ones(4)
    schuss.SGD([w, v], lr=1.0, backend=backend).step([g, g])
    assert (w == 0).all()
    assert (v == 0).all()


def test_interleaved_views_are_not_overlap(backend):
    memory = ones(10)
    optimizer = schuss.SGD([memory[::2]], lr=1.0, backend=backend)
    for times in (1, 2):
        optimizer.step([memory[1::2]])
        np.testing.assert_array_equal(memory, [1 - times, 1] * 5)
    memory[:] = 1
    optimizer = schuss.SGD([memory[::2], memory[1::2]], lr=1.0, backend=backend)
    optimizer.step([ones(5), 2 * ones(5)])
    np.testing.assert_array_equal(memory, [0, -1] * 5)


def test_gradients_may_be_numpy_scalars_for_0d_parameters(backend):
    w = np.array(1.0)
    optimizer = schuss.SGD([w], lr=1.0, backend=backend)
    optimizer.step([np.float64(0.25)])
    optimizer.step([np.float32(0.25)])
    assert w == 0.5
    optimizer.step([np.float32(0.125)])
    assert w == 0.375


@pytest.mark.parametrize("rides", [{}, {"clip_norm": 1e9}], ids=["alone", "clipped"])
@pytest.mark.parametrize("kind", [schuss.SGD, schuss.NovoGrad, schuss.DoG, schuss.Prodigy, schuss.Adafactor])
@pytest.mark.parametrize("number", [np.float64, np.array], ids=["numbers", "arrays"])
def test_gradients_are_held_until_the_step_is_made(number, kind, rides, backend, monkeypatch):
    """Whatever others do meanwhile with the caller's list, and with memory that is free."""
    params = [np.array(float(n)) for n in range(1, 6)]
    optimizer = kind(params, lr=0.1, backend=backend)
    other = kind([p.copy() for p in params], lr=0.1, backend="numpy")
    given, spoils = [], []

    def spoiling(run):
        def spoiled(*arguments):
            given.clear()
            spoils.extend(np.full((), np.nan) for _ in range(100))
            return run(*arguments)

        return spoiled

    for name in ("launch", "step_two_pass", "add_grad_squares", "add_measures"):
        if hasattr(optimizer._stepper.engine, name):
            monkeypatch.setattr(optimizer._stepper.engine, name, spoiling(getattr(optimizer._stepper.engine, name)))
    for step in range(3):
        numbers = [0.25 * (step + n) for n in range(1, 6)]
        given[:] = map(number, numbers)
        optimizer.step(given, **rides)
        other.step([np.array(g) for g in numbers], **rides)
        assert_same_optimizers(optimizer, other)
    extension = isinstance(optimizer._stepper.engine, ExtensionEngine)  # one compiled call from the list to the clock
    assert spoils or number is np.array or (extension and not rides)
