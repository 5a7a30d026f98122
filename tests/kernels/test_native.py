"""The native engine: what it holds, when it is chosen, what it refuses, and that it leaves nothing behind."""

from __future__ import annotations

import functools
import re
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import schuss_kernels
from cases import BACKENDS, CASES, assert_same_bits, needs_native, ones, options_of
from processes import python
from schuss_kernels.engine import extension
from schuss_kernels.lang import digest
from schuss_kernels.lang.rule import Rule
from schuss_kernels.native import aot, library
from schuss_kernels.native import engine as native_engine
from schuss_kernels.plan import chunk_table
from schuss_kernels.plan.spec import GradSquares, Spec
from schuss_kernels.rules import COMPILED, RULES
from schuss_kernels.storage.dtypes import BY_NAME, CODES, POSITIVE_CODES

import schuss

HOST = BACKENDS[1:]
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def own_rule(name="mine"):
    sgd = RULES["sgd"]

    def scalars(step, *, lr, weight_decay=0.0):
        return sgd.scalars(step, lr=lr, weight_decay=weight_decay)

    return Rule(name, sgd.State, sgd.Scalars, scalars, update_slowly)


def update_slowly(p, g, s, h):
    return p - 0.5 * h.lr * g, s


@pytest.fixture(autouse=True)
def looked_at_anew():
    """What was built, and from which sources, is looked at before and after each test."""
    library.library.cache_clear()
    extension.is_usable.cache_clear()
    yield
    library.library.cache_clear()
    extension.is_usable.cache_clear()


# ------------------------------------------------------------------------------------------------- when it is chosen


@needs_native
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_auto_is_native_for_every_built_in_rule(case, dtype):
    assert case.make([np.ones(3, dtype)], **case.options).backend == "native"


@pytest.mark.parametrize("name", ["mine", "sgd", "adamw"])
def test_auto_is_numba_for_an_own_rule(name):
    """Whatever it is called."""
    w, v = ones(3), ones(3)
    optimizer = schuss.Optimizer([w], own_rule(name), lr=1.0)
    assert optimizer.backend == "numba"
    optimizer.step([ones(3)])
    schuss.Optimizer([v], own_rule(name), lr=1.0, backend="numpy").step([ones(3)])
    assert_same_bits(w, v)
    assert w[0] == 0.5


def test_an_own_rule_of_built_in_parts():
    """Another rule's update under a built-in name: its kernel is not the one of that name."""
    adam, w, v = RULES["adam"], ones(3), ones(3)
    mixed = Rule("adam", adam.State, adam.Scalars, adam.scalars, RULES["adamw"].update, RULES["adamw"].reference)
    options = {**options_of(adam), "lr": 0.5, "weight_decay": 0.5}
    for params, backend in ((w, "auto"), (v, "numpy")):
        optimizer = schuss.Optimizer([params], mixed, **options, backend=backend)
        optimizer.step([ones(3)])
    assert schuss.Optimizer([w], mixed, **options).backend == "numba"
    assert_same_bits(w, v)


@needs_native
def test_a_built_in_rule_taken_alone_is_native():
    w = ones(3)
    optimizer = schuss.Optimizer([w], RULES["sgd"], lr=0.25, weight_decay=0.0)
    assert optimizer.backend == "native"
    optimizer.step([ones(3)])
    assert (w == 0.75).all()


@needs_native
@pytest.mark.parametrize("name", ["mine", "sgd"])
def test_an_own_rule_cannot_be_had(name):
    with pytest.raises(RuntimeError, match=rf"backend='native': rule '{name}' is your own, .*use backend='auto' or"):
        schuss.Optimizer([ones(3)], own_rule(name), lr=1.0, backend="native")


@needs_native
@pytest.mark.parametrize("backend", ["auto", "native"])
def test_an_own_rule_that_is_chosen_later(backend):
    """Numba compiles its kernel, except where native was asked for."""
    own, w = own_rule(), ones(3)

    def select(*, slowly, **_):
        return own if slowly else RULES["sgd"]

    optimizer = schuss.Optimizer([w], select, lr=0.5, weight_decay=0.0, slowly=0, backend=backend)
    optimizer.step([ones(3)])
    optimizer.param_groups[0]["slowly"] = 1
    if backend == "native":
        with pytest.raises(RuntimeError, match="rule 'mine' is your own"):
            optimizer.step([ones(3)])
        assert (w == 0.5).all()
        assert optimizer.steps == 1
    else:
        optimizer.step([ones(3)])
        assert optimizer.backend == "native"
        assert (w == 0.25).all()


@needs_native
def test_numba_is_not_imported():
    code = """
import sys
import numpy as np, schuss
w = {"a": np.zeros(300_000, np.float32), "b": np.zeros((9, 9)).T[::2]}
optimizer = schuss.AdamW(w, lr=0.1)
for dtype in (np.float32, np.float64):
    optimizer.step({name: np.ones(p.shape, dtype) for name, p in w.items()})
optimizer.load_state_dict(optimizer.state_dict())
optimizer.param_groups[0]["amsgrad"] = True
optimizer.step({"a": None, "b": np.ones((5, 9))})
print(optimizer.backend, optimizer.steps, optimizer.explain().count("native"))
print(sorted({"numba", "llvmlite"}.intersection(sys.modules)))
"""
    assert python(code).splitlines() == ["native 3 1", "[]"]


# ---------------------------------------------------------------------------------------------------- what was built


@needs_native
def test_every_kernel_of_every_level_is_there():
    from schuss_kernels import _native

    expected = [key for key, _ in aot.kernels_to_compile()]
    assert len(set(expected)) == len(expected) >= 8 * len(RULES)
    addresses = []
    for level, _ in _native.levels():
        kernels = _native.kernels(level)
        assert sorted(kernels) == sorted(expected)
        addresses += kernels.values()
    assert 0 not in addresses
    assert len(set(addresses)) == len(addresses), "each has its own code"
    assert _native.kernels("x86-64-v9") == {}


@needs_native
def test_levels():
    from schuss_kernels import _native

    built = _native.levels()
    names = [level for level, _ in built]
    assert names == aot.levels(names), "least demanding first"
    assert library.library().levels == tuple(built)
    everything, [best] = aot.levels(["all"]), aot.levels(["host"])
    here = everything[: everything.index(best) + 1]
    assert built == [(level, level in here) for level in names]


@needs_native
def test_the_best_level_is_used(monkeypatch):
    monkeypatch.delenv(library.LEVEL, raising=False)
    there = library.library()
    assert there.level == [level for level, runs in there.levels if runs][-1]
    assert library.outdated() == []


@needs_native
def test_a_level_of_choice(monkeypatch):
    addresses = set()
    runs = [level for level, runs in library.library().levels if runs]
    for level in runs:
        monkeypatch.setenv(library.LEVEL, level)
        library.library.cache_clear()
        assert library.library().level == level
        addresses.add(schuss.SGD([ones(3)], backend="native")._stepper.engine.plan.rows[0, chunk_table.KERNEL])
    assert len(addresses) == len(runs)


@needs_native
def test_a_level_that_is_not_there(monkeypatch):
    monkeypatch.setenv(library.LEVEL, "x86-64-v9")
    message = r"SCHUSS_LEVEL='x86-64-v9': expected one of .*, the levels that run here"
    assert re.search(message, library.available())
    with pytest.warns(RuntimeWarning, match=f"{message}; kernels are compiled when they are first used"):
        assert schuss.SGD([ones(3)]).backend == "numba"
    with pytest.raises(RuntimeError, match=f"backend='native': {message}"):
        schuss.SGD([ones(3)], backend="native")


@needs_native
def test_a_processor_that_runs_none_of_the_levels(monkeypatch):
    from schuss_kernels import _native

    monkeypatch.setattr(_native, "levels", lambda: [("x86-64-v4", False)])
    monkeypatch.delenv(library.LEVEL, raising=False)
    message = "the native extension was built for x86-64-v4, which this processor does not run: .*install schuss again"
    with pytest.raises(RuntimeError, match=f"backend='native': {message}"):
        schuss.SGD([ones(3)], backend="native")
    assert schuss.SGD([ones(3)]).backend == "numba"
    monkeypatch.setenv(library.LEVEL, "x86-64-v4")
    with pytest.raises(RuntimeError, match="SCHUSS_LEVEL='x86-64-v4': expected one of none, "):
        schuss.SGD([ones(3)], backend="native")


@needs_native
def test_sources_that_are_newer_than_the_kernels(monkeypatch):
    assert library.outdated() == []
    monkeypatch.setattr(digest, "sources", lambda: "0" * 16)
    assert library.outdated() == list(COMPILED)
    assert schuss.SGD([ones(3)]).backend == "numba"
    message = "backend='native': .* rule 'sgd' were compiled from other source files; install schuss again"
    with pytest.raises(RuntimeError, match=message):
        schuss.SGD([ones(3)], backend="native")


@needs_native
def test_one_family_of_rules_that_is_newer_than_its_kernels(monkeypatch):
    of_file = digest.file
    monkeypatch.setattr(digest, "file", lambda path: "0" * 8 if Path(path).name == "adam.py" else of_file(path))
    assert library.outdated() == [n for n, rule in RULES.items() if rule.update.__module__.endswith(".adam")]
    assert schuss.Adam([ones(3)]).backend == "numba"
    assert schuss.SGD([ones(3)]).backend == "native"


@pytest.fixture
def adamw_alone(monkeypatch):
    """A native engine, as it is where one kernel of AdamW was compiled ahead of time."""
    rule, f32 = RULES["adamw"], BY_NAME["float32"]
    there = library.Library((), "", {library.key(rule, Spec(rule, f32, f32, (f32, f32))): 1})
    for module in (library, native_engine):
        monkeypatch.setattr(module, "library", functools.cache(lambda: there))
    return native_engine.NativeEngine.__new__(native_engine.NativeEngine)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"states": (CODES, POSITIVE_CODES), "ema": True}, "float32 gradients and 8-bit states, with ema"),
        ({"lookahead": True, "clip": True}, "and float32 states, with clip_value and Lookahead"),
        ({"master": "remainder", "copy": BY_NAME["float32"]}, "with master='remainder' and copy_to float32"),
        ({"gradient": BY_NAME["float64"], "strided": True}, "float64 gradients and .* with gaps or in another order"),
    ],
)
def test_kernels_that_were_not_compiled_are_named_by_their_options(changes, said, adamw_alone, monkeypatch):
    rule, f32 = RULES["adamw"], BY_NAME["float32"]
    spec = replace(Spec(rule, f32, f32, (f32, f32)), **changes)
    said = f"rule 'adamw' was not compiled ahead of time for float32 parameters, .*{said}"
    adamw_alone._strict = True
    with pytest.raises(library.Unavailable, match=f"backend='native': {said}; use backend='auto' or 'numba'"):
        adamw_alone.kernel(rule, spec)
    adamw_alone._strict = False
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    forbidden = (
        "and numba cannot compile: the environment variable NUMBA_DISABLE_JIT .*; unset it, or use backend='numpy'"
    )
    with pytest.raises(library.Unavailable, match=f"{said}, {forbidden}"):
        adamw_alone.kernel(rule, spec)
    with pytest.raises(library.Unavailable, match=f"squares were not compiled .* for float32 gradients, {forbidden}"):
        adamw_alone.grad_squares_kernel(GradSquares(f32))


def test_rules_that_differ_in_their_numbers_share_kernels():
    f32, names = BY_NAME["float32"], ("adamw", "adam_keras", "adam")
    torch, keras, other = (library.key(RULES[name], Spec(RULES[name], f32, f32, (f32, f32))) for name in names)
    assert torch == keras != other
    sharing: dict[tuple[str, str], set[object]] = {}
    for rule in COMPILED.values():
        sharing.setdefault((rule.update.__module__, rule.update.__name__), set()).add(rule.update)
        twins = [twin for twin in COMPILED.values() if twin.update is rule.update]
        assert {twin.State._fields for twin in twins} == {rule.State._fields}
        assert {twin.Scalars._fields for twin in twins} == {rule.Scalars._fields}
    assert all(len(updates) == 1 for updates in sharing.values()), "a key names one update"


@pytest.mark.parametrize("folder", digest.COMPILED_FROM)
def test_keys_follow_the_source_files(folder, monkeypatch):
    rule, spec = aot.specs()[0]
    key, source = library.key(rule, spec), digest.source
    assert key.startswith(f"{library.function_name(rule)}@")
    monkeypatch.setattr(digest, "source", lambda path: source(path) + b"#" * (Path(path).parent.name == folder))
    monkeypatch.setattr(digest, "sources", digest.sources.__wrapped__)
    assert library.key(rule, spec) != key


@pytest.mark.parametrize("reason", [None, "no C compiler was found when schuss was installed"])
def test_without_the_extension(reason, monkeypatch):
    missing = None
    if reason is not None:
        missing = types.ModuleType("schuss_kernels._native_missing")
        missing.REASON = reason
    for name, module in (("_native", None), ("_native_missing", missing)):
        monkeypatch.setitem(sys.modules, f"schuss_kernels.{name}", module)
        monkeypatch.delattr(schuss_kernels, name, raising=False)
    said = f"the native extension is missing: {reason}; to have it, install schuss again"
    if reason is None:
        said = r"the native extension is missing \(.*schuss_kernels._native.*\): to have it, install schuss again"
    assert re.match(said, library.available())
    assert schuss.AdamW([ones(3)]).backend == "numba"
    with pytest.raises(RuntimeError, match=f"backend='native': {said}"):
        schuss.AdamW([ones(3)], backend="native")


# ---------------------------------------------------------------------------------------------------------- scalars


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("kind", HOST)
@pytest.mark.parametrize(
    "number",
    [0.1, 1e300, 3.4028235677973362e38, 3.4028235677973366e38, 1e-45, 7e-46, 1e-300, 16777217.0, 16777219.0],
)
def test_numbers_are_rounded_to_float32_as_numpy_does(kind, number):
    """Once, to nearest even; what is too large is infinite."""
    w, v = ones(3), ones(3)
    g = np.array([1.0, -1.0, 0.0], np.float32)
    schuss.SGD([w], lr=number, backend=kind).step([g])
    schuss.SGD([v], lr=number, backend="numpy").step([g])
    assert_same_bits(w, v)
    with np.errstate(over="ignore", invalid="ignore"):
        assert_same_bits(w, 1 - np.float32(number) * g)
