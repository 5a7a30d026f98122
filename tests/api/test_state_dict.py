"""State dicts: they go by name, survive files, say what is not loaded, and are checked as a whole before a write."""

from __future__ import annotations

import copy
import io
import json
import warnings

import numpy as np
import pytest
from cases import assert_same_optimizers, ones

import schuss


def stepped(make=schuss.AdamW, **options):
    optimizer = make({"w": ones(3, 2), "b": ones(2)}, backend="numpy", **options)
    optimizer.step({"w": ones(3, 2), "b": ones(2)})
    return optimizer


def quiet(optimizer, saved):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.load_state_dict(saved)


def test_another_order_of_names_is_the_same_state_dict():
    shapes = {"w": (3, 2), "v": (3, 2), "b": (2,)}
    one = {name: ones(*shape) for name, shape in shapes.items()}
    other = {name: one[name].copy() for name in reversed(one)}
    optimizers = [schuss.AdamW(params, backend="numpy") for params in (one, other)]
    grads = {name: np.full(shape, number + 1.0) for number, (name, shape) in enumerate(shapes.items())}
    optimizers[0].step(grads)
    quiet(optimizers[1], optimizers[0].state_dict())
    for name, values in other.items():
        values[...] = one[name]
    for optimizer in optimizers:
        optimizer.step(grads)
    for name, values in one.items():
        np.testing.assert_array_equal(other[name], values)


def through_npz(tree):
    """A state dict with every leaf, text and number too, as ``np.savez`` and ``np.load`` give it back."""

    def leaves(node, path=()):
        if isinstance(node, dict):
            for key, value in node.items():
                yield from leaves(value, (*path, key))
        elif isinstance(node, list) and isinstance(node[0], dict):
            for number, value in enumerate(node):
                yield from leaves(value, (*path, f"[{number}]"))
        else:
            yield "/".join(path), node

    file = io.BytesIO()
    np.savez(file, **dict(leaves(tree)))
    file.seek(0)
    made = {}
    for key, value in np.load(file).items():
        *path, last = key.split("/")
        node = made
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    made["param_groups"] = [made["param_groups"][key] for key in sorted(made["param_groups"])]
    return made


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (schuss.AdamW, {"rounding": "stochastic", "seed": 2**64 - 1, "state_dtype": "bfloat16", "ema": 0.9}),
        (schuss.AdamW, {"lr": schuss.schedules.cosine(0.1, 10), "amsgrad": True}),
        (schuss.Prodigy, {}),
        (schuss.NAdam, {}),
        (lambda *args, **options: schuss.Lookahead(schuss.SGD(*args, **options), k=2), {"momentum": 0.9}),
    ],
    ids=["AdamW", "amsgrad", "Prodigy", "NAdam", "Lookahead"],
)
def test_numbers_may_be_arrays(make, options):
    one, other = stepped(make, **options), stepped(make, **options)
    other.step({"w": ones(3, 2), "b": ones(2)})  # so that there is something to load
    for values, p in zip([m.array for m in one._parameters.memories], other._parameters.memories, strict=True):
        p.array[...] = values
    quiet(other, through_npz(one.state_dict()))
    assert other.param_groups[0].options == one.param_groups[0].options
    assert other.steps == one.steps
    for optimizer in (one, other):
        optimizer.step({"w": -ones(3, 2), "b": ones(2)})
    assert_same_optimizers(one, other)


def test_a_scalar_state_of_a_number_is_a_state():
    optimizer = schuss.SGD([np.array(1.0)], momentum=0.9, backend="numpy")
    optimizer.step([np.array(1.0)])
    saved = optimizer.state_dict()
    saved["state"]["0"]["momentum_buffer"] = np.float64(5.0)
    quiet(optimizer, saved)
    assert optimizer.state_dict()["state"]["0"]["momentum_buffer"] == 5.0


@pytest.mark.parametrize(
    ("saved", "own", "message"),
    [
        (
            {"lr": schuss.schedules.cosine(0.1, 10)},
            {"lr": schuss.schedules.cosine(0.2, 20)},
            r"\['param_groups'\]\[0\]\['lr'\] was cosine\(lr=0.1, .*, this .* is cosine\(lr=0.2, .*, which stays",
        ),
        ({"ema": 0.9}, {"ema": 0.99}, r"\['ema'\]\['decay'\] was 0.9, this optimizer's is 0.99, which stays"),
        ({"k": 2}, {"k": 3}, r"\['lookahead'\]\['k'\] was 2, this optimizer's is 3, which stays"),
        ({"alpha": 0.5}, {"alpha": 0.75}, r"\['lookahead'\]\['alpha'\] was 0.5, this optimizer's is 0.75, which stays"),
    ],
    ids=["schedule", "ema", "k", "alpha"],
)
def test_what_is_not_loaded_is_told(saved, own, message):
    def made(options):
        options = dict(options)
        slow = {name: options.pop(name) for name in ("k", "alpha") if name in options}
        optimizer = stepped(schuss.SGD, **options)
        return schuss.Lookahead(optimizer, **slow) if slow else optimizer

    state = made(saved).state_dict()
    quiet(made(saved), state)
    with pytest.warns(UserWarning, match=message) as told:
        made(own).load_state_dict(state)
    assert told[0].filename == __file__
    optimizer = made(own)
    before = optimizer.state_dict()
    with pytest.raises(UserWarning, match=message):
        quiet(optimizer, state)
    np.testing.assert_equal(optimizer.state_dict(), before)


def test_state_dicts_without_these_numbers_load():
    optimizer = schuss.Lookahead(stepped(schuss.SGD, ema=0.9), k=3)
    saved = optimizer.state_dict()
    saved["lookahead"] = {"phase": saved["lookahead"]["phase"]}
    del saved["ema"]
    quiet(optimizer, saved)


def test_a_function_has_another_address_in_every_process():
    optimizer = stepped(schuss.SGD, lr=lambda step: 0.1)
    saved = optimizer.state_dict()
    assert " at 0x" in saved["param_groups"][0]["lr"]
    saved["param_groups"][0]["lr"] = saved["param_groups"][0]["lr"].replace(" at 0x", " at 0x1")
    quiet(optimizer, saved)


def put(*path, value):
    def change(saved):
        for key in path[:-1]:
            saved = saved[key]
        saved[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            put("steps", value=2**63),
            ValueError,
            r"\['steps'\]: expected a number of at least 0 and below 2\*\*63, got 92",
        ),
        (
            put("state", "w", "step", value=2**5000),
            ValueError,
            r"\['w'\]\['step'\]: .*below 2\*\*63, got one of 5001 bits",
        ),
        (put("steps", value=-1), ValueError, r"\['steps'\]: expected a number of at least 0 .*, got -1"),
        (put("steps", value=True), TypeError, r"\['steps'\]: expected a whole number, got True"),
        (put("steps", value=np.array([1, 2])), TypeError, r"\['steps'\]: expected a whole number, got \[1, 2\]"),
        (put("state", "w", "step", value=1.5), TypeError, r"\['w'\]\['step'\]: expected a whole number, got 1.5"),
        (
            put("random", "seed", value=2**64),
            ValueError,
            r"the seed: expected a number of at least 0 and below 2\*\*64",
        ),
        (put("lookahead", "phase", value=2**63), ValueError, r"\['phase'\]: .*below 2\*\*63"),
        (put("lookahead", "k", value="five"), TypeError, r"\['lookahead'\]\['k'\]: expected a number, got 'five'"),
        (put("lookahead", value=None), TypeError, r"\['lookahead'\]: expected a dict, got NoneType"),
        (put("ema", "decay", value=[0.9]), TypeError, r"\['ema'\]\['decay'\]: expected a number, got \[0.9\]"),
        (put("state", value=None), TypeError, r"\['state'\]: expected a dict, got NoneType"),
        (put("state", "w", value=[1]), TypeError, r"\['state'\]\['w'\]: expected a dict, got list"),
        (put("param_groups", value="x"), ValueError, r"expected 1 parameter group\(s\), got str"),
        (put("param_groups", 0, "params", value=7), TypeError, r"\['params'\]: expected a list of names, got 7"),
        (put("param_groups", 0, "params", value=["w", "w", "b"]), ValueError, r"\[0\]: it holds the parameters"),
        (
            put("state", "w", "exp_avg", value=np.ma.masked_array(ones(3, 2), ones(3, 2))),
            TypeError,
            r"\['w'\]\['exp_avg'\]: expected an array, got a masked array, whose mask would be ignored",
        ),
        (put("state", "w", "running", value={"mu_product": "x"}), TypeError, r"\['mu_product'\]: expected a number"),
        (
            put("state", "w", "running", value={"mu_product": np.array([1.0])}),
            TypeError,
            r"\['mu_product'\]: expected a number, got \[1.0\]",
        ),
    ],
)
def test_what_does_not_fit_is_refused_as_a_whole(change, error, message):
    optimizer = schuss.Lookahead(
        stepped(schuss.NAdam, ema=0.9, state_dtype="bfloat16", rounding="stochastic", seed=3), k=5
    )
    before = optimizer.state_dict()
    bad = copy.deepcopy(before)
    change(bad)
    optimizer.step({"w": -ones(3, 2), "b": ones(2)})
    before = optimizer.state_dict()
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(bad)
    np.testing.assert_equal(optimizer.state_dict(), before)


@pytest.mark.parametrize("make", [schuss.SGD, schuss.AdamW, schuss.NAdam, schuss.Prodigy])
def test_the_largest_count_can_be_stepped_from(make):
    optimizer = stepped(make)
    saved = optimizer.state_dict()
    saved["steps"] = saved["state"]["w"]["step"] = saved["state"]["b"]["step"] = 2**63 - 1
    quiet(optimizer, saved)
    optimizer.step({"w": ones(3, 2), "b": ones(2)})
    assert optimizer.steps == 2**63


def test_options_through_json():
    optimizer = stepped(schuss.AdamW, betas=(0.8, 0.9))
    saved = optimizer.state_dict()
    saved["param_groups"] = json.loads(json.dumps(saved["param_groups"]))
    quiet(optimizer, saved)
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.9)
