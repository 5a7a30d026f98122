"""What is between the two passes of a step: compiled, and portion by portion."""

from __future__ import annotations

import ctypes
import itertools
import math
from collections import namedtuple

import numpy as np
import pytest
from cases import arrays, assert_same_bits, needs_native, options_of
from schuss_kernels.cpu import compile
from schuss_kernels.native import engine, library
from schuss_kernels.plan import two_pass
from schuss_kernels.rules import RULES

from schuss.optim import registry

MEASURED = {rule.name: rule for rule in RULES.values() if library.can_compile_finish(rule)}

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
    folded, row = np.array(sums, np.float64), np.zeros(two_pass.COLUMNS, np.int64)
    row[two_pass.STEP] = step
    for column, numbers in (
        (two_pass.FOLDED, folded),
        (two_pass.SCALARS64, scalars),
        (two_pass.SCALARS32, singles),
        (two_pass.RUNNING, running),
    ):
        row[column] = numbers.ctypes.data
    called(address, row)
    return scalars, singles, running


@pytest.mark.parametrize("kind", ["numba", pytest.param("native", marks=needs_native)])
@pytest.mark.parametrize("name", MEASURED)
def test_compiled_finish_is_the_rules(name, kind):
    rule = MEASURED[name]
    address = compile.compiled_finish(rule)[1] if kind == "numba" else library.finish(rule)
    assert address
    options = options_of(rule)
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


def test_which_rules_are_finished_alone():
    waiting = {rule.name for rule in RULES.values() if rule.measure is not None} - set(MEASURED)
    assert waiting == {"prodigy", "dadapt_adam"}


SHAPES = [(7,), (3000,), (0,), (50, 41), (1,), (9000,), (), (2048,), (33, 3), (5000,)]


SHARED = ["dog", "dowg"]
"""Optimizers whose numbers are of all tensors."""


@needs_native
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "name", [*(v.key for v in registry.VARIANTS.values() if v.kind == registry.TENSOR), "dog", "dowg"]
)
def test_portions_change_nothing(name, threads, monkeypatch):
    monkeypatch.setattr(two_pass, "PORTION_BYTES", 40_000)
    monkeypatch.setattr(engine.NativeEngine, "serial_below", 2000)
    variant = registry.VARIANTS[name]

    def build(parameters, backend):
        groups = [{"params": parameters[:4]}, {"params": parameters[4:], "lr": 0.03}]
        return variant.build(groups, backend=backend, threads=threads)

    ours, plain = (build(arrays(SHAPES, np.float32, 0), backend) for backend in ("native", "numpy"))
    assert ours._stepper.engine.two_pass_table is not None
    portions = len(ours._stepper.engine.portion_starts) - 1
    assert portions == 1 if name in SHARED else portions > 3
    for step in range(7):
        gradients = arrays(SHAPES, np.float32, 1 + step)
        if step in (1, 2, 4):
            gradients[step] = None  # of these, one is alone in its portion
        if step == 3:
            gradients[5] = None
        if step == 5:
            gradients[:4] = [None] * 4
        for optimizer in (ours, plain):
            given = [None if g is None else g.copy() for g in gradients]
            optimizer.step([given[:4], given[4:]], clip_norm=3.0 if step == 5 else None)
            if step == 4:
                optimizer.param_groups[1]["lr"] = 0.02
        if step == 3:
            saved = ours.state_dict()
            ours = build([p.array for p in ours._parameters.memories], "native")
            ours.load_state_dict(saved)
    for one, other in zip(ours._stepper.engine.tensors, plain._stepper.engine.tensors, strict=True):
        assert_same_bits(one.parameter.array, other.parameter.array)
        for mine, its in zip(one.states, other.states, strict=True):
            assert_same_bits(mine.array, its.array)
    states = [optimizer.state_dict()["state"] for optimizer in (ours, plain)]
    for key in states[0]:
        assert states[0][key].get("running") == states[1][key].get("running")


def test_rows_of_several_tensors():
    """Two groups whose numbers are of all their tensors, one of them with two histories; and a tensor of its own."""
    made = two_pass.TwoPassTable([7, 7, 7, 9, 7, 7], [True, True, True, False, True, True], 2, 3)
    made.rows[:6, two_pass.SUMS] = 2
    made.rows[:6, two_pass.SCALARS64] = range(100, 106)
    lent = [
        two_pass.SharedRow([0, 4], 5, (1.0, 2.0, 3.0), 0),
        two_pass.SharedRow([1], 6, (4.0, 5.0, 6.0), 0),
        two_pass.SharedRow([3], 8, (7.0,), 1),
        two_pass.SharedRow([5], 9, (), 2),
    ]
    assert made.begin(lent) == [6, 7, 3, 8]
    rows, folded = made.rows, made.folded.ctypes.data + np.arange(11) * 16
    assert rows[[0, 1, 4], two_pass.INTO].tolist() == [folded[6]] * 3  # the sums of both histories are the group's
    assert rows[[6, 7, 8], two_pass.FOLDED].tolist() == [folded[6], folded[6], folded[8]]
    assert rows[5, two_pass.INTO] == folded[8]
    assert rows[[2, 3], two_pass.INTO].tolist() == [0, 0]
    assert rows[:, two_pass.FINISH].tolist() == [0, 0, 0, 9, 0, 0, 7, 7, 7, 0, 0]
    assert rows[[3, 6, 7, 8], two_pass.AHEAD].tolist() == [8, 5, 6, 9]
    assert rows[[6, 7, 8], two_pass.SCALARS64].tolist() == [100, 101, 105]
    assert rows[[6, 7, 8], two_pass.SUMS].tolist() == [2, 2, 2]
    assert [made.running_of(row, tuple_of(3)) for row in (6, 7)] == [(1.0, 2.0, 3.0), (4.0, 5.0, 6.0)]
    assert made.begin(lent[2:3]) == [3]
    assert np.flatnonzero(rows[:, two_pass.FINISH]).tolist() == [3]
    assert not rows[:, two_pass.INTO].any()
    assert made.begin([lent[1]]) == [6]
    assert rows[6, two_pass.FOLDED] == folded[6]


def tuple_of(count):
    return namedtuple("Numbers", [f"n{number}" for number in range(count)])


def test_portions():
    assert two_pass.portions([]) == [0, 0]
    small = two_pass.PORTION_BYTES // 4
    assert two_pass.portions([small] * 9) == [0, 4, 8, 9]
    assert two_pass.portions([small, 9 * small, small, small]) == [0, 1, 2, 4]
    assert two_pass.portions([0, 9 * small, 0]) == [0, 2, 3]


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
