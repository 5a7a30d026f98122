"""What is between the two passes of a step: compiled, and portion by portion."""

from __future__ import annotations

import ctypes
import inspect
import itertools
import math

import numpy as np
import pytest
from cases import arrays, assert_same_bits, needs_native
from schuss_kernels import cpu, native, turns
from schuss_kernels.rules import RULES

from schuss import catalogue

MEASURED = {rule.name: rule for rule in RULES.values() if rule.measure is not None and rule.over == "tensor"}

NUMBERS = (0.0, 1.0, 3e-320, 2.5e-17, 0.7, 12.25, 4e19, 1e300, math.inf, math.nan)
"""What sums of squares, of elements and of both may be."""


def called(address, row):
    """Run a compiled kernel as the launcher does."""
    kernel = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(address)
    returned, raised = ctypes.c_int64(), ctypes.c_void_p()
    kernel(ctypes.addressof(returned), ctypes.addressof(raised), row.ctypes.data)


def finished(rule, address, begun, sums, step):
    """What the compiled ``finish`` leaves: the scalars in both types, and the running numbers."""
    scalars = np.array(begun[0], np.float64)
    singles, running = scalars.astype(np.float32), np.array(begun[1] or [0.0], np.float64)
    folded, row = np.array(sums, np.float64), np.zeros(turns.COLUMNS, np.int64)
    row[turns.STEP] = step
    for column, numbers in (
        (turns.FOLDED, folded), (turns.SCALARS, scalars), (turns.SINGLES, singles), (turns.RUNNING, running),
    ):  # fmt: skip
        row[column] = numbers.ctypes.data
    called(address, row)
    return scalars, singles, running


@pytest.mark.parametrize("kind", ["numba", pytest.param("native", marks=needs_native)])
@pytest.mark.parametrize("name", MEASURED)
def test_compiled_finish_is_the_rules(name, kind):
    rule = MEASURED[name]
    address = cpu.compiled_finish(rule)[1] if kind == "numba" else native.finish(rule)
    assert address
    options = {key: 0.1 if value is inspect.Parameter.empty else value for key, value in rule.options.items()}
    given = {key: options[key] for key in rule.scalar_names}
    running = rule.running() if rule.running is not None else None
    for step in (1, 2, 7):
        for sums in itertools.product(NUMBERS, repeat=len(rule.Sums._fields)):
            begun = rule.begin(step, given, running)
            scalars, after = rule.end(begun, sums, step)
            made = finished(rule, address, begun, sums, step)
            assert_same_bits(made[0], np.array(scalars, np.float64))
            with np.errstate(over="ignore"):
                assert_same_bits(made[1], np.array(scalars, np.float64).astype(np.float32))
            if after is not None:
                assert_same_bits(made[2], np.array(after, np.float64))
                if sums[0] == 0.7:
                    running = after


SHAPES = [(7,), (3000,), (0,), (50, 41), (1,), (9000,), (), (2048,), (33, 3), (5000,)]


@needs_native
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", [v.key for v in catalogue.VARIANTS.values() if v.kind == catalogue.TENSOR])
def test_portions_change_nothing(name, threads, monkeypatch):
    monkeypatch.setattr(turns, "PORTION_BYTES", 40_000)
    monkeypatch.setattr(native.NativeEngine, "serial_below", 2000)
    variant = catalogue.VARIANTS[name]
    ours, plain = (
        variant.build(arrays(SHAPES, np.float32, 0), backend=backend, threads=threads)
        for backend in ("native", "numpy")
    )
    assert ours._engine.turns is not None
    assert len(ours._engine.first_of_portion) > 4
    for step in range(6):
        gradients = arrays(SHAPES, np.float32, 1 + step)
        if step in (1, 2, 4):
            gradients[step] = None  # of these, one is alone in its portion
        if step == 3:
            gradients[5] = None
        for optimizer in (ours, plain):
            optimizer.step([None if g is None else g.copy() for g in gradients], clip_norm=3.0 if step == 5 else None)
        if step == 3:
            saved = ours.state_dict()
            ours = variant.build([p.array for p in ours._parameters], backend="native", threads=threads)
            ours.load_state_dict(saved)
    for one, other in zip(ours._engine.tensors, plain._engine.tensors, strict=True):
        assert_same_bits(one.parameter.array, other.parameter.array)
        for mine, its in zip(one.states, other.states, strict=True):
            assert_same_bits(mine.array, its.array)
    states = [optimizer.state_dict()["state"] for optimizer in (ours, plain)]
    for key in states[0]:
        assert states[0][key].get("running") == states[1][key].get("running")


def test_portions():
    assert turns.portions([]) == [0, 0]
    small = turns.PORTION_BYTES // 4
    assert turns.portions([small] * 9) == [0, 4, 8, 9]
    assert turns.portions([small, 9 * small, small, small]) == [0, 1, 2, 4]
    assert turns.portions([0, 9 * small, 0]) == [0, 2, 3]


@needs_native
def test_folded_sums():
    from schuss_kernels import _native

    measured = np.array([1e16, 1.0, -1e16, 1.0, 5.0, 0.1, 0.2, 0.3])
    first, counts = np.array([0, 4, 4, 5, 5, 8]), np.array([1, 2, 1, 0, 3])
    assert _native.folded(measured, first, counts) == [(1.0,), (0.0, 0.0), (5.0,), (), (0.1, 0.2, 0.3)]
    for bad in ((measured, first, counts[1:]), (measured[1:], first, counts)):
        with pytest.raises(ValueError, match="do not belong together"):
            _native.folded(*bad)
    for arguments in ((), (measured,), (measured, first, None)):
        with pytest.raises(TypeError):
            _native.folded(*arguments)
