"""The optimizers against what torch, Optax and Keras did. ``golden/make_golden.py`` recorded it; none is needed here.

A new optimizer is a new row of ``golden_rows.py``, ``golden_optax.py`` or ``golden_keras.py``.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from golden_keras import KERAS
from golden_optax import OPTAX
from golden_rows import TORCH

FOLDER = Path(__file__).parent / "golden"
FRAMEWORKS = ("torch", "optax", "keras")
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


ROWS = [*TORCH, *OPTAX, *KERAS]


@cache
def recorded(name):
    """A file of ``golden``: what it says about itself, and its arrays."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("about"))), arrays


def split(flat, shapes, dtype):
    """The arrays of these shapes out of one row of numbers; as many as there are numbers for."""
    made, at = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        if at < len(flat):
            made[name] = np.array(flat[at : at + size], dtype).reshape(shape)
        at += size
    return made


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_against_the_framework(row, dtype, backend):
    """The reference and, as one of the compiled ones, what runs by default: they are all the same bits."""
    about, given = recorded("inputs")
    _, arrays = recorded(row.framework)
    expected = arrays[f"{row.case}|{dtype}"]
    width = expected.shape[1]
    params = split(given["start"][:width], about["shapes"], dtype)
    optimizer = row.build(params, backend=backend)
    [group] = optimizer.param_groups
    base = group["lr"]
    compared = 0
    for number, gradient in enumerate(given["gradients"]):
        group["lr"] = base * float(given["factors"][number])
        estimate = {}
        if row.hessian_every and number % row.hessian_every == 0:
            estimate = {"hessian": split(given["hessians"][number][:width], about["shapes"], dtype)}
        optimizer.step(split(gradient[:width], about["shapes"], dtype), **estimate)
        if number + 1 in about["snapshots"]:
            for name, right in split(expected[compared], about["shapes"], dtype).items():
                error = np.abs(params[name] - right).max() / np.abs(right).max()
                most = TOLERANCE["float32" if row.single else dtype]
                assert error <= most, f"{name} after {number + 1} steps: {error:.1e}"
            compared += 1
    assert compared == len(expected)
    assert number + 1 >= 20


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_recorded_case_has_a_row(framework):
    about, _ = recorded(framework)
    rows = {row.case for row in ROWS if row.framework == framework}
    assert rows == set(about["cases"])
    assert len(rows) == len([row for row in ROWS if row.framework == framework])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_files_say_what_made_them(framework):
    about, arrays = recorded(framework)
    assert {framework, "numpy", "python"} <= set(about["versions"])
    assert set(arrays) == {f"{name}|{dtype}" for name in about["cases"] for dtype in TOLERANCE}
    assert all(array.dtype == key.rpartition("|")[2] for key, array in arrays.items())


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.npz")) < 500_000
