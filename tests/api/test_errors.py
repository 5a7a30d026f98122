"""Bad input: an error that names the tensor or option, what was expected and what came; nothing written."""

from __future__ import annotations

import numpy as np
import pytest
from cases import BACKENDS, assert_same_bits, needs_native, ones
from schuss_kernels.cpu import engine as cpu_engine
from schuss_kernels.native import library

import schuss

NAN, INF = float("nan"), float("inf")


def params():
    return {"w": ones(3, 2), "b": ones(2)}


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (
            [np.ones(3, np.int64)],
            TypeError,
            r"parameter '0': expected a float array \(float64, .* or bfloat16\), got int64",
        ),
        ({"w": ones(3).astype(np.complex64)}, TypeError, r"parameter 'w': .*got complex64"),
        ({"w": ones(3).astype(">f4")}, TypeError, r"parameter 'w': .*got '>f4', a float of the other byte order"),
        ({"w": np.array([1.0, None], object)}, TypeError, r"parameter 'w': .*got object"),
        ({"w": np.ones(3, bool)}, TypeError, r"parameter 'w': .*got bool"),
        ({"w": np.ones(3, [("x", "f4")])}, TypeError, r"parameter 'w': .*x"),
        ({"w": np.array(["a"])}, TypeError, r"parameter 'w': .*got <U1"),
        ({"a": {"w": 1.5}}, TypeError, r"parameter 'a.w': expected a float array .*, got float 1.5"),
        ({"w": "weights"}, TypeError, r"parameter 'w': .*got str 'weights'"),
        ({"w": None}, TypeError, r"parameter 'w': .*got NoneType"),
        ({"w": np.float32(1)}, ValueError, r"parameter 'w' is read-only"),
        ({"w": np.ma.masked_array(ones(3))}, TypeError, r"parameter 'w': .*masked"),
        ({"w": read_only(ones(3))}, ValueError, r"parameter 'w' is read-only"),
        ({"w": np.broadcast_to(ones(1), (3,))}, ValueError, r"parameter 'w' is read-only"),
        ([], ValueError, r"params: there is no array"),
        ({}, ValueError, r"params: there is no array"),
        ([[], {}], ValueError, r"params: there is no array"),
        (None, TypeError, r"parameter '0': .*got NoneType"),
        ({"a.b": ones(1), "a": {"b": ones(1)}}, ValueError, r"two parameters would be called 'a.b'"),
    ],
)
def test_parameters(bad, error, message):
    with pytest.raises(error, match=message):
        schuss.AdamW(bad)


def test_a_parameter_that_overlaps_itself():
    memory = ones(10)
    twice = np.lib.stride_tricks.as_strided(memory, (4, 4), (4, 4))
    with pytest.raises(ValueError, match=r"parameter 'w' overlaps itself \(shape \(4, 4\), strides \(4, 4\)\)"):
        schuss.SGD({"w": twice})
    still = np.lib.stride_tricks.as_strided(memory, (3,), (0,))
    with pytest.raises(ValueError, match="overlaps itself"):
        schuss.SGD({"w": still})
    crossed = np.lib.stride_tricks.as_strided(memory, (2, 2), (12, 8))  # 0, 2, 3, 5: tangled, but each its own
    schuss.SGD({"w": crossed}, lr=1.0).step({"w": ones(2, 2)})
    np.testing.assert_array_equal(memory, [0, 1, 0, 0, 1, 0, 1, 1, 1, 1])


def test_the_same_or_overlapping_parameters():
    memory = ones(10)
    with pytest.raises(ValueError, match="parameters 'a' and 'b' share memory"):
        schuss.SGD({"a": memory, "b": memory})
    with pytest.raises(ValueError, match="parameters '1' and '2' share memory"):
        schuss.SGD([ones(3), memory[2:6], memory[5:]])
    with pytest.raises(ValueError, match=r"parameters '0.0' and '1.0' share memory"):
        schuss.SGD([{"params": [memory]}, {"params": [memory[::3]]}])
    with pytest.raises(ValueError, match="share memory"):
        schuss.SGD([memory, memory[4:5].reshape(())])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ({"w": ones(3, 2)}, ValueError, r"gradients do not fit the parameters: no 'b' \(None stands for no gradient\)"),
        ({"w": ones(3, 2), "b": ones(2), "c": ones(2)}, ValueError, r"not expected: 'c'"),
        ({"w": ones(3, 2), "x": ones(2)}, ValueError, r"no 'b'; not expected: 'x'"),
        ([ones(3, 2), ones(2)], TypeError, r"expected a dict, got list"),
        (None, TypeError, r"expected a dict, got NoneType"),
        (ones(3, 2), TypeError, r"expected a dict, got ndarray"),
        ({"w": [ones(3, 2)], "b": ones(2)}, TypeError, r"gradient of 'w': expected a float array .*, got list"),
        ({"w": ones(2, 3), "b": ones(2)}, ValueError, r"gradient of 'w': expected shape \(3, 2\), got \(2, 3\)"),
        ({"w": ones(3, 2), "b": ones(1)}, ValueError, r"gradient of 'b': expected shape \(2,\), got \(1,\)"),
        ({"w": ones(3, 2), "b": np.float32(1)}, ValueError, r"gradient of 'b': expected shape \(2,\), got \(\)"),
        (
            {"w": ones(3, 2), "b": np.ones(2, int)},
            TypeError,
            r"gradient of 'b': expected a float array .* or None, got int64",
        ),
        ({"w": ones(3, 2), "b": np.ones(2, complex)}, TypeError, r"gradient of 'b': .*got complex128"),
        ({"w": ones(3, 2), "b": ones(2).astype(">f4")}, TypeError, r"gradient of 'b': .*byte order"),
        ({"w": ones(3, 2), "b": np.ones(2, object)}, TypeError, r"gradient of 'b': .*got object"),
        ({"w": ones(3, 2), "b": 0.5}, TypeError, r"gradient of 'b': .*got float 0.5"),
        ({"w": ones(3, 2), "b": np.ma.masked_array(ones(2), [0, 1])}, TypeError, r"gradient of 'b': .*mask"),
    ],
)
def test_gradients(bad, error, message, backend):
    kept = params()
    optimizer = schuss.AdamW(kept, backend=backend)
    optimizer.step({"w": ones(3, 2), "b": ones(2)})
    before, saved = {name: p.copy() for name, p in kept.items()}, optimizer.state_dict()
    with pytest.raises(error, match=message):
        optimizer.step(bad)
    unchanged(optimizer, kept, before, saved)


def unchanged(optimizer, kept, before, saved):
    for name, p in kept.items():
        assert_same_bits(p, before[name])
    now = optimizer.state_dict()
    assert now["steps"] == saved["steps"]
    assert now["param_groups"] == saved["param_groups"]
    for name, entry in saved["state"].items():
        for field, value in entry.items():
            np.testing.assert_array_equal(now["state"][name][field], value)


def test_nested_gradients_name_the_place():
    optimizer = schuss.SGD({"layers": [{"w": ones(2)}, {"w": ones(2)}]})
    with pytest.raises(ValueError, match=r"gradients at 'layers.1' do not fit the parameters: no 'w'"):
        optimizer.step({"layers": [{"w": ones(2)}, {}]})
    with pytest.raises(ValueError, match=r"gradients at 'layers' do not fit.*expected 2 items, got 1"):
        optimizer.step({"layers": [{"w": ones(2)}]})


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_gradient_that_overlaps_a_parameter(backend):
    memory = ones(10)
    optimizer = schuss.SGD({"w": memory[:5], "b": ones(2)}, backend=backend)
    for bad in (memory[:5], memory[4:9], memory[5:0:-1], memory[:9:2]):
        with pytest.raises(ValueError, match="gradient of 'w' shares memory with parameter 'w'"):
            optimizer.step({"w": bad, "b": ones(2)})
    with pytest.raises(ValueError, match="gradient of 'b' shares memory with parameter 'w'"):
        optimizer.step({"w": ones(5), "b": memory[3:5]})
    optimizer.step({"w": ones(5), "b": ones(2)})  # now that all addresses are known
    with pytest.raises(ValueError, match="gradient of 'b' shares memory with parameter 'w'"):
        optimizer.step({"w": ones(5), "b": memory[3:5]})
    assert optimizer.steps == 1
    optimizer.step({"w": memory[5:], "b": ones(2)})


def resized(array, size=50_000):
    array.resize(size, refcheck=False)


CHANGES = [
    (resized, r"was resized: expected shape \(40,\), got \(50000,\); build a new optimizer for it"),
    (lambda array: resized(array, 3), r"was resized: expected shape \(40,\), got \(3,\)"),
    (read_only, "was made read-only; it is written in every step and must be writable"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES, ids=["larger", "smaller", "read-only"])
@pytest.mark.parametrize("options", [{}, {"clip_norm": 1.0}], ids=["one pass", "two passes"])
@pytest.mark.parametrize("kind", [*BACKENDS, "prange"])
def test_arrays_that_were_changed_after_the_start(kind, options, change, message, monkeypatch):
    """A parameter, and the copy of one: the step would write to memory that belongs to others by now."""
    if kind == "prange":
        monkeypatch.setattr(cpu_engine, "is_usable", lambda: False)
    for name in ("parameter 'w'", "copy_to of 'w'"):
        w, v, copy, gradients = ones(40), ones(5), ones(40), {"v": ones(5), "w": ones(40)}
        backend = {"native": "auto", "prange": "numba"}.get(kind, kind)  # copies in float32 are not ahead of time
        optimizer = schuss.SGD({"v": v, "w": w}, copy_to={"v": ones(5), "w": copy}, backend=backend)
        optimizer.step(gradients, **options)
        before = v.copy()
        change(w if name == "parameter 'w'" else copy)
        for _ in range(2):
            with pytest.raises(ValueError, match=f"{name} {message}"):
                optimizer.step(gradients, **options)
        assert_same_bits(v, before)
        assert optimizer.steps == 1
        if change is read_only:
            w.flags.writeable = copy.flags.writeable = True
            optimizer.step(gradients, **options)
            assert optimizer.steps == 2


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (make, {name: value}, name)
        for make, names in [
            (schuss.SGD, ["lr", "momentum", "dampening", "weight_decay"]),
            (schuss.Adagrad, ["lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"]),
            (schuss.RMSprop, ["lr", "alpha", "eps", "weight_decay", "momentum"]),
            (schuss.Adam, ["lr", "eps", "weight_decay"]),
            (schuss.AdamW, ["lr", "eps", "weight_decay"]),
        ]
        for name in names
        for value in (NAN, -0.1, INF, -INF, "0.1", None, [0.1], True, 1j, 10**400)
        if value is not None or name not in make._conventions["torch"].defaults  # there it is the convention's default
    ]
    + [
        (schuss.RMSprop, {"alpha": 1.0}, "alpha: expected at least 0 and below 1; got 1.0"),
        (schuss.Adam, {"betas": (0.9, 1.0)}, r"betas: expected at least 0 and below 1; got \(0.9, 1.0\)"),
        (schuss.Adam, {"betas": (NAN, 0.9)}, "betas"),
        (schuss.Adam, {"betas": (0.9,)}, "betas: expected 2 numbers"),
        (schuss.Adam, {"betas": 0.9}, "betas: expected a tuple of 2 numbers"),
        (schuss.Adam, {"betas": (0.9, "x")}, "betas"),
        (schuss.Adam, {"amsgrad": 1}, "amsgrad: expected True or False; got 1"),
        (schuss.SGD, {"nesterov": True}, "nesterov needs momentum above 0 and no dampening"),
        (schuss.SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov needs momentum"),
        (schuss.SGD, {"nesterov": "yes"}, "nesterov"),
        (schuss.RMSprop, {"centered": None}, "centered: expected True or False"),
        (schuss.AdamW, {"maximize": "up"}, "maximize: expected True or False"),
    ],
)
def test_hyper_parameters(make, options, message):
    with pytest.raises((TypeError, ValueError), match=f"parameter group 0.*{message}|{message}"):
        make([ones(2)], **options)
    with pytest.raises((TypeError, ValueError), match=message):
        make([{"params": [ones(2)]}, {"params": [ones(2)], **options}])
    fine = make([ones(2)])
    before = dict(fine.param_groups[0])
    for write in (
        fine.param_groups[0].update,
        lambda o: [fine.param_groups[0].__setitem__(k, v) for k, v in o.items()],
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            write(options)
    assert dict(fine.param_groups[0]) == before


@pytest.mark.parametrize("value", [NAN, -1.0, INF, "x", None])
def test_an_lr_function_that_returns_nonsense(value):
    kept = params()
    optimizer = schuss.AdamW(kept, lr=lambda step: 0.1 if step < 2 else value)
    for _ in range(2):
        optimizer.step({"w": ones(3, 2), "b": ones(2)})
    before, saved = {name: p.copy() for name, p in kept.items()}, optimizer.state_dict()
    with pytest.raises((TypeError, ValueError), match=r"parameter group 0: lr\(2\) returned"):
        optimizer.step({"w": ones(3, 2), "b": ones(2)})
    now = optimizer.state_dict()
    assert now["steps"] == 2
    for name in kept:
        assert_same_bits(kept[name], before[name])
        np.testing.assert_array_equal(now["state"][name]["exp_avg"], saved["state"][name]["exp_avg"])


def test_unknown_options():
    with pytest.raises(TypeError, match="learning_rate"):
        schuss.AdamW([ones(2)], learning_rate=0.1)
    with pytest.raises(
        TypeError, match=r"parameter group 1: unknown option 'weight_decai', did you mean 'weight_decay'\?"
    ):
        schuss.AdamW([{"params": [ones(2)]}, {"params": [ones(2)], "weight_decai": 0.1}])
    optimizer = schuss.AdamW([ones(2)])
    with pytest.raises(
        TypeError, match=r"unknown option 'learning_rate', did you mean 'lr'\? \(the options are lr, betas"
    ):
        optimizer.param_groups[0]["learning_rate"] = 0.1
    with pytest.raises(ValueError, match="'params' cannot be replaced"):
        optimizer.param_groups[0]["params"] = [ones(2)]
    for remove in (lambda g: g.pop("lr"), lambda g: g.clear(), lambda g: g.__delitem__("lr"), lambda g: g.popitem()):
        with pytest.raises(TypeError, match="changed, not removed"):
            remove(optimizer.param_groups[0])
    with pytest.raises(TypeError, match="unknown option 'x'"):
        optimizer.param_groups[0].setdefault("x", 1)
    assert optimizer.param_groups[0].setdefault("lr", 5) == 1e-3
    with pytest.raises(ValueError, match=r"backend: expected one of 'auto', .*, got 'gpu'"):
        schuss.AdamW([ones(2)], backend="gpu")
    for threads in (0, -1, 1.5, "2", True):
        with pytest.raises(ValueError, match=r"threads: expected a whole number of at least 1, or None; got"):
            schuss.AdamW([ones(2)], threads=threads)
    with pytest.raises(TypeError, match=r"rule: expected a schuss.Rule, got 'adam'"):
        schuss.Optimizer([ones(2)], "adam")


def test_cuda_is_only_missed_by_those_who_ask_for_it():
    with pytest.raises((RuntimeError, TypeError), match="backend='cuda'"):
        schuss.AdamW([ones(2)], backend="cuda")


@needs_native
def test_kernels_that_are_there_need_no_compiler(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert schuss.SGD([ones(2)]).backend == "native"


def test_without_a_compiler(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")

    def missing():
        raise library.Unavailable("there is no native extension")

    monkeypatch.setattr(library, "library", missing)
    assert schuss.SGD([ones(2)]).backend == "numpy"
    with pytest.raises(RuntimeError, match="backend='numba': the environment variable NUMBA_DISABLE_JIT"):
        schuss.SGD([ones(2)], backend="numba")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_stream_is_for_device_arrays(backend):
    w = ones(2)
    with pytest.raises(TypeError, match=f"stream: backend '{backend}' has no streams; expected None, got 7"):
        schuss.AdamW([w], backend=backend).step([ones(2)], stream=7)
    assert (w == 1).all()


def made():
    optimizer = schuss.AdamW(params(), amsgrad=True)
    optimizer.step({"w": ones(3, 2), "b": ones(2)})
    return optimizer


def broken(change):
    saved = made().state_dict()
    change(saved)
    return saved


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("schuss"), "state_dict: the key 'schuss' is missing"),
        (lambda s: s.pop("steps"), "the key 'steps' is missing"),
        (lambda s: s.pop("optimizer"), "the key 'optimizer' is missing"),
        (lambda s: s.pop("param_groups"), "the key 'param_groups' is missing"),
        (lambda s: s.pop("state"), "the key 'state' is missing"),
        (lambda s: s.update(schuss=2), r"format 2 is newer than this schuss reads \(up to 1\)"),
        (lambda s: s.update(schuss="new"), "state_dict"),
        (lambda s: s.update(optimizer="SGD"), "it belongs to SGD, this optimizer is AdamW"),
        (lambda s: s.update(steps=-1), r"state_dict\['steps'\]"),
        (lambda s: s.update(steps=1.5), r"state_dict\['steps'\]"),
        (lambda s: s.update(param_groups=[]), r"expected 1 parameter group\(s\), got 0"),
        (lambda s: s["param_groups"][0].pop("lr"), r"state_dict\['param_groups'\]\[0\]: the key 'lr' is missing"),
        (lambda s: s["param_groups"][0].update(lr=NAN), "lr"),
        (lambda s: s["param_groups"][0].update(lr="cosine(...)"), "lr was a function"),
        (lambda s: s["param_groups"][0].update(betas=(0.9, 2.0)), "betas"),
        (lambda s: s["param_groups"][0].update(params=["b", "v"]), "holds the parameters"),
        (lambda s: s["state"].pop("b"), "no 'b'"),
        (lambda s: s["state"].update(c={}), "not expected: 'c'"),
        (lambda s: s["state"]["b"].pop("exp_avg"), r"state_dict\['state'\]\['b'\]: the key 'exp_avg' is missing"),
        (lambda s: s["state"]["b"].pop("step"), "the key 'step' is missing"),
        (lambda s: s["state"]["b"].update(step=-3), "expected a number of at least 0 .*, got -3"),
        (lambda s: s["state"]["b"].update(momentum=ones(2)), "'momentum' is no state of this optimizer"),
        (lambda s: s["state"]["b"].update(exp_avg=ones(3)), r"\['exp_avg'\]: expected shape \(2,\), got \(3,\)"),
        (lambda s: s["state"]["b"].update(exp_avg=ones(2, dtype=np.float64)), "expected dtype float32, got float64"),
        (lambda s: s["state"]["b"].update(exp_avg=[1.0, 1.0]), "expected an array, got list"),
        (lambda s: s["state"].update(b=3), "expected a dict, got int"),
        (lambda s: s["param_groups"][0].update(amsgrad=False), "it belongs to the rule 'adamw_amsgrad'.* runs 'adamw'"),
        (lambda s: s["param_groups"][0].update(amsgrad=False, rule="adamw"), "'max_exp_avg_sq' is no state"),
        (lambda s: s["param_groups"][0].pop("rule"), "the key 'rule' is missing"),
    ],
)
def test_state_dicts_that_do_not_fit(change, message):
    optimizer = made()
    kept = dict(zip(("w", "b"), (m.array for m in optimizer._parameters.memories), strict=True))
    before, saved = {name: p.copy() for name, p in kept.items()}, optimizer.state_dict()
    with pytest.raises((TypeError, ValueError), match=message):
        optimizer.load_state_dict(broken(change))
    unchanged(optimizer, kept, before, saved)
    optimizer.step({"w": ones(3, 2), "b": ones(2)})
    twin = made()
    twin.step({"w": ones(3, 2), "b": ones(2)})
    assert_same_bits(kept["w"], twin._parameters.memories[0].array)


def test_not_a_state_dict():
    for bad in (None, [], "file"):
        with pytest.raises(TypeError, match="state_dict: expected a dict"):
            made().load_state_dict(bad)
