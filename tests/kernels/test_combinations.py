"""Kernel == numpy reference for every two of: dtypes, storages, riders, layouts, engines and threads."""

from __future__ import annotations

import numpy as np
import pairs
import pytest
from bits import BFLOAT16, assert_same_everything, raw
from cases import arrays, one_a_kernel
from layouts import every_second
from pairs import rows
from schuss_kernels.engine.host import HostEngine

FLOATS = {"float32": np.float32, "float64": np.float64, "bfloat16": BFLOAT16, "float16": np.float16}
SHAPES = [(7,), (257,), (3, 5, 23), (2500,)]
TINY = [(0,), (1,)]  # always dense: beside strided ones they would only cost another kernel
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 3e38]


def allowed(row):
    """Master weights are for 16-bit parameters, remainders for bfloat16."""
    master, weights = row.get("master"), row.get("weights", BFLOAT16)
    if master == "float32" and weights not in (BFLOAT16, np.float16):
        return False
    return master != "remainder" or weights is BFLOAT16


class Pair:
    """One optimizer twice, compiled and reference, with what is chosen for it."""

    def __init__(
        self, case, shapes, engine, weights, states, master, rounding, layout, ema, copy_to, maximize, threads
    ):
        options = {**case.options, "maximize": maximize, "threads": threads}
        if master:
            options["master"] = master
        if states and case.rule.State._fields:
            options |= {"state_dtype": states, "min_8bit_size": 0}
        if ema:
            options["ema"] = 0.9
        self.both = []
        for backend in (engine, "numpy"):
            params = [layout(p) for p in arrays(shapes, weights, 0)]
            if copy_to is not None:
                options["copy_to"] = [np.zeros(p.shape, copy_to) for p in params]
            try:
                made = case.make(params, **options, rounding=rounding, seed=3, backend=backend)
            except ValueError as error:
                if not str(error).startswith("rounding="):  # else nothing is rounded
                    raise
                made = case.make(params, **options, backend=backend)
            self.both.append(made)

    def step(self, gradients, **riders):
        """Have both step; they say the same and leave the gradients the same."""
        said, left = [], []
        for optimizer in self.both:
            given = [None if g is None else g.copy(order="K") for g in gradients]
            said.append(optimizer.step(given, **riders))
            left.append([raw(g) for g in given if g is not None])
        assert said[0].skipped == said[1].skipped
        np.testing.assert_array_equal(said[0].grad_norm, said[1].grad_norm)
        for ours, expected in zip(*left, strict=True):
            np.testing.assert_array_equal(ours, expected)
        assert_same_everything(*self.both)
        return said[0]


AXES = {
    "weights": FLOATS,
    "gradients": {f"{name} gradients": dtype for name, dtype in FLOATS.items()},
    "states": {"": None, "bfloat16 states": "bfloat16", "float16 states": "float16", "8 bits": "8bit"},
    "master": {"": None, "master": "float32", "remainder": "remainder"},
    "rounding": {"": "nearest", "stochastic": "stochastic"},
    "layout": {"dense": np.copy, "strided": every_second},
    "engine": ["auto", "numba"],
    "ema": {"": False, "ema": True},
    "copy_to": {"": None, "float16 copy": np.float16, "float64 copy": np.float64},
    "maximize": {"": False, "maximize": True},
    "threads": {"1 thread": 1, "3 threads": 3},
    "scale": {"": {}, "grad_scale": {"grad_scale": 1 / 3}},
    "clip": {"": {}, "clip_value": {"clip_value": 0.01}, "clip_norm": {"clip_norm": 0.5}},
    "skip": {"": {}, "skip_nonfinite": {"skip_nonfinite": True}},
    "zero": {"": {}, "zero_grad": {"zero_grad": True}},
    "special": {"": False, "special values": True},
}
ROWS = rows(allowed, **AXES)


def chosen():
    """Every row with an optimizer, every optimizer with a row; those that have two passes with a second one.

    Every optimizer in every storage that is compiled ahead of time, strided too, is in test_native_kernels.
    """
    dense = [place for place, row in enumerate(ROWS) if np.copy in row.values]
    for number, case in enumerate(one_a_kernel()):
        taken = {number if number < len(ROWS) else dense[number % len(dense)]}
        if case.rule.measure is not None:
            taken.add(dense[(number + len(dense) // 2) % len(dense)])
        for place, row in enumerate(ROWS):
            if place in taken or pairs.EVERY:
                marks = [] if place in taken else [pytest.mark.full]
                yield pytest.param(case, *row.values, marks=marks, id=f"{case}-{row.id}")


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("case", *AXES), list(chosen()))
def test_kernels_are_the_reference(
    case,
    weights,
    gradients,
    states,
    master,
    rounding,
    layout,
    engine,
    ema,
    copy_to,
    maximize,
    threads,
    scale,
    clip,
    skip,
    zero,
    special,
    monkeypatch,
):
    """Four steps: all gradients, one tensor without, one with a value that is not finite; chunks of 1024 elements."""
    monkeypatch.setattr(HostEngine, "chunk_and_span_sizes", lambda self, elements: (1024, 1024))
    monkeypatch.setattr(HostEngine, "serial_below", 0)
    shapes = [*SHAPES, *TINY] if layout is np.copy else SHAPES
    pair = Pair(case, shapes, engine, weights, states, master, rounding, layout, ema, copy_to, maximize, threads)
    skipped = 0
    for step in range(4):
        given = [layout(g) for g in arrays(shapes, gradients, 10 + step)]
        if step == 1 and skip:
            given[3].flat[3] = np.inf
        if step == 2:
            given[1] = None
        if step == 3 and special:
            given[3].flat[: len(SPECIAL)] = np.array(SPECIAL).astype(gradients)
        skipped += pair.step(given, **scale, **clip, **skip, **zero).skipped
    assert skipped == (bool(skip) and (1 + special))
    assert pair.both[0].steps == pair.both[1].steps == 4 - skipped
