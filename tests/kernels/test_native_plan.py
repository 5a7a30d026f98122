"""The Plan of the C extension: what it refuses, and that nothing is left behind."""

from __future__ import annotations

import gc
import sys
import tracemalloc
import weakref

import numpy as np
import pytest
from cases import BACKENDS, mapped, needs_native, ones
from schuss_kernels.plan import two_pass

import schuss

HOST = BACKENDS[1:]
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def tables(optimizer):
    """What the engine hands to the extension."""
    engine = optimizer._stepper.engine
    return {
        "rows": engine.plan.rows,
        "spans": engine.plan.spans,
        "gradient_table": engine.gradient_table.table,
        "shapes": engine.gradient_table.shapes,
        "intervals": engine.gradient_table.intervals,
        "scalars32": engine.scalars.arrays[F32],
        "scalars64": engine.scalars.arrays[F64],
        "clock": engine.clock,
        "two_pass": np.zeros((2, two_pass.COLUMNS), np.int64),
        "portions": np.zeros((1, len(two_pass.COLUMNS_OF_PORTIONS)), np.int64),
        "written_table": np.array([n for m in engine.written for n in (m.address, 1, m.size)]),
        "written": tuple(m.array for m in engine.written),
        "elements": engine.plan.elements,
        "threads": 1,
        "threads_given": True,
        "array_type": np.ndarray,
        "memmap_type": np.memmap,
        "writes_gradients": False,
    }


def halved(table):
    return table.astype(np.float32 if table.dtype.kind == "f" else np.int32)


def read_only(table):
    copy = table.copy()
    copy.flags.writeable = False
    return copy


ARRAYS = (
    "rows",
    "spans",
    "gradient_table",
    "shapes",
    "intervals",
    "scalars32",
    "scalars64",
    "clock",
    "two_pass",
    "portions",
    "written_table",
)

FLAT = ("shapes", "clock", "written_table")


@needs_native
@pytest.mark.parametrize(
    ("name", "change", "error"),
    [
        *((name, halved, TypeError) for name in ARRAYS if name != "scalars32"),
        ("scalars32", lambda table: table.astype(np.float64), TypeError),
        *(
            (name, lambda table: table[None], ValueError)
            for name in ARRAYS
            if name not in ("shapes", "clock", "written_table")
        ),
        *(
            (name, lambda table: table[0], ValueError)
            for name in ("rows", "gradient_table", "intervals", "scalars32", "two_pass", "portions")
        ),
        *((name, lambda table: np.repeat(table, 2, -1)[..., ::2], ValueError) for name in ARRAYS if name != "clock"),
        *((name, read_only, ValueError) for name in ARRAYS),
        *((name, lambda table: table.tolist(), TypeError) for name in ARRAYS),
        *((name, lambda table: table[:, 1:].copy(), ValueError) for name in ("gradient_table", "two_pass", "portions")),
        ("spans", lambda table: table[:0], ValueError),
        ("written_table", lambda table: table[:-1].copy(), ValueError),
        ("written_table", lambda table: np.append(table, 0), ValueError),
        ("written_table", lambda table: -table, ValueError),
        ("written", lambda arrays: arrays[:-1], ValueError),
        ("written", lambda arrays: (*arrays, arrays[0]), ValueError),
        ("written", lambda arrays: (None, *arrays[1:]), ValueError),
        ("written", list, TypeError),
        ("elements", lambda count: "many", TypeError),
        ("threads", lambda count: None, TypeError),
    ],
)
def test_a_plan_refuses_other_tables(name, change, error):
    from schuss_kernels import _native

    given = tables(schuss.SGD([ones(3), ones(20_000)], backend="native"))
    counts = [sys.getrefcount(value) for value in given.values()]
    _native.Plan(**given)
    with pytest.raises(error):
        _native.Plan(**{**given, name: change(given[name])})
    assert [sys.getrefcount(value) for value in given.values()] == counts, "it holds on to a table"


@needs_native
def test_a_plan_refuses_other_arguments():
    from schuss_kernels import _native

    optimizer = schuss.SGD([ones(3)], backend="native")
    optimizer.step([ones(3)])  # else it is one without a gradient
    given = tables(optimizer)
    made = _native.Plan(**given)
    for bad in ({}, {**given, "more": 1}, {name: given[name] for name in ARRAYS}):
        with pytest.raises(TypeError):
            _native.Plan(**bad)
    for arguments in ((), ([],), ([], False, 1)):
        with pytest.raises(TypeError, match="step takes a list of gradients"):
            made.step(*arguments)
    for gradients in ((ones(3),), [], [ones(3), ones(3)], None, {}, [3], ["3"], [None]):
        assert made.step(gradients, False) is False
    assert given["clock"][0] == 1
    for arguments in ((), ([0], (1.0,)), ([0], 1.0, (1.0,)), ([0], (1.0,), [1.0]), (0, (1.0,), (1.0,))):
        with pytest.raises(TypeError, match="scalars takes a list of slots"):
            made.scalars(*arguments)
    width = given["scalars32"].shape[1]
    for slot, numbers in ((-1, ()), (1, ()), (0, (1.0,) * width), (2**62, ())):
        with pytest.raises(IndexError, match="no such slot"):
            made.scalars([slot], (1.0,), numbers)
    for slot, riders, numbers in (("0", (1.0,), ()), (0, ("1",), ()), (0, (1.0,), (None,))):
        with pytest.raises(TypeError):
            made.scalars([slot], riders, numbers)
    made.scalars([0], (-1.0,), (0.1,) * (width - 1))
    for table in (given["scalars32"], given["scalars64"]):
        np.testing.assert_array_equal(table[0], np.array([-1.0, *[0.1] * (width - 1)], table.dtype))


@needs_native
@pytest.mark.parametrize("size", [100, 10_000])
@pytest.mark.parametrize("kind", [np.asarray, memoryview, mapped], ids=["array", "memoryview", "memmap"])
def test_ten_thousand_steps_leave_nothing_behind(kind, size):
    g = ones(size)
    optimizer = schuss.SGD([np.zeros(size, np.float32), np.zeros(3)], backend="native")
    held = [kind(g), np.ones(3), g, g.dtype, np.ndarray, np.memmap, memoryview, None, False, True]

    def steps(count):
        for _ in range(count):
            optimizer.step(held[:2])
            assert not optimizer._stepper.engine._plan.step(["no array", None], False)
        return [sys.getrefcount(thing) for thing in held]

    before = steps(100)
    tracemalloc.start()
    try:
        steps(10)
        used = tracemalloc.get_traced_memory()[0]
        after = steps(10_000)
        grown = tracemalloc.get_traced_memory()[0] - used
    finally:
        tracemalloc.stop()
    assert max(abs(a - b) for a, b in zip(before, after, strict=True)) < 20
    assert grown < 50_000


@needs_native
def test_optimizers_that_go_leave_nothing_behind():
    def come_and_go():
        for _ in range(40):
            optimizer = schuss.AdamW([ones(100) for _ in range(60)], backend="native")
            optimizer.step([memoryview(ones(100)) for _ in range(60)])
        engine = optimizer._stepper.engine
        tables = [weakref.ref(t) for t in (engine.plan.rows, engine.gradient_table.table, engine.scalars.arrays[F32])]
        del optimizer, engine
        gc.collect()
        assert [table() for table in tables] == [None] * 3
        counts = [sys.getrefcount(thing) for thing in (np.ndarray, np.memmap, type(None))]
        return np.array([*counts, tracemalloc.get_traced_memory()[0] / 2_000])

    tracemalloc.start()
    try:
        come_and_go()  # numpy and Python keep some blocks for later
        before = come_and_go()
        after = come_and_go()
    finally:
        tracemalloc.stop()
    assert np.abs(after - before).max() < 20
