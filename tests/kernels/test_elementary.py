"""Exponentials, logarithms, powers and trigonometry for rules: their errors, ends and bits, on every backend."""

from __future__ import annotations

import math
import re
from collections import namedtuple

import numpy as np
import pytest
from cases import arrays, assert_same_bits
from cuda_forms import needs_compiler, same_bits_as_the_reference
from cuda_models import SMALL
from schuss_kernels.cpu import compile
from schuss_kernels.lang.interpret import element_by_element

import schuss
from schuss import elementary
from schuss.elementary import atan2

FLOATS = [np.float32, np.float64]


def logistic(x):
    z = np.exp(-np.abs(x))
    return np.where(x < 0, z, 1) / (1 + z)


ULPS = {
    "exp": (np.exp, 0.87, 0.87),
    "log": (np.log, 0.84, 0.88),
    "log1p": (np.log1p, 2.1, 2.1),
    "tanh": (np.tanh, 2.5, 2.5),
    "sigmoid": (logistic, 2.5, 2.5),
    "power": (np.power, 0.9, 0.9),
    "sin": (np.sin, 0.86, 0.86),
    "cos": (np.cos, 0.86, 0.86),
    "atan2": (np.arctan2, 2.3, 2.3),
    "cube_root": (np.cbrt, 2.5, 2.5),
    "copysign": (np.copysign, 0.0, 0.0),
}
"""Function -> NumPy's, and the largest error in units in the last place, in float32 and in float64."""

FARTHEST = {np.float32: 2.0**20, np.float64: 2.0**49}
"""The largest argument of sine and cosine."""


def test_the_table_is_the_module():
    assert set(ULPS) == set(elementary.__all__)
    rows = re.findall(r"^(\w+\(.*?\)) +([\d.]+) +([\d.]+)", elementary.__doc__, re.MULTILINE)
    written = {name: [float(f32), float(f64)] for names, f32, f64 in rows for name in re.findall(r"(\w+)\(", names)}
    assert written == {name: ulps for name, (_, *ulps) in ULPS.items()}


def arguments(name, dtype, count=20_000):
    """Numbers of all sizes, more of them near one."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2 ** (8 * dtype(0).itemsize), (2, count), np.uint64).astype(f"u{dtype(0).itemsize}")
    near = (rng.standard_normal((2, 2 * count)) * np.exp(3 * rng.standard_normal((2, 2 * count)))).astype(dtype)
    x, y = np.concatenate([bits.view(dtype), near], axis=1)
    if name in ("sin", "cos"):
        x = x[np.abs(x) <= FARTHEST[dtype]]
    if name in ("power", "cube_root"):
        x = np.abs(x)
    return (x, y) if name in ("power", "atan2", "copysign") else (x,)


def in_ulps(made, exact, dtype):
    """How far a result is from the exact one, in units in the last place of the latter."""
    info = np.finfo(dtype)
    _, exponents = np.frexp(np.maximum(np.abs(exact), float(info.tiny)))
    there = np.isfinite(exact.astype(dtype))
    assert_same_bits(made[~there], exact.astype(dtype)[~there])
    return np.ldexp(np.abs(made - exact)[there], info.nmant + 1 - exponents[there])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ULPS)
def test_errors(name, dtype):
    wide = np.float64 if dtype is np.float32 else np.longdouble
    if np.finfo(wide).nmant < np.finfo(dtype).nmant + 8:
        pytest.skip("there is no wider type to compare with")
    exact, *ulps = ULPS[name]
    given = arguments(name, dtype)
    made = getattr(elementary, name)(*given)
    assert made.dtype == dtype
    with np.errstate(all="ignore"):
        assert in_ulps(made, exact(*(x.astype(wide) for x in given)), dtype).max() <= ulps[FLOATS.index(dtype)]


ENDS = [0.0, 1.0, 0.5, 2.0, 3.0, 1e-45, 1e-310, 88.8, 104.1, 710.0, 746.0, 1e30, 1e300, math.inf, math.nan]
ENDS += [-x for x in ENDS]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ULPS)
def test_zeros_infinities_and_nan(name, dtype):
    """Where NumPy's result is one of these, or exact; of functions of two numbers every pair is taken."""
    with np.errstate(all="ignore"):
        x = np.array(ENDS, dtype)
        if name in ("sin", "cos"):
            x = x[~(FARTHEST[dtype] < np.abs(x)) | np.isinf(x)]
        if name == "cube_root":
            x = x[~(x < 0)]
        given = np.meshgrid(x, x) if len(arguments(name, dtype)) == 2 else [x]
        made, expected = getattr(elementary, name)(*given), ULPS[name][0](*given)
        simple = ~(np.abs(expected) > 0) | np.isinf(expected) | (np.abs(expected) == 1)
    assert simple.any()
    assert_same_bits(made[simple], expected[simple])
    np.testing.assert_allclose(made[~simple], expected[~simple], 1e-6 if dtype is np.float32 else 1e-14)


def test_far_angles_are_no_numbers():
    for dtype, farthest in FARTHEST.items():
        beyond = np.nextafter(dtype(farthest), dtype(np.inf))
        for function in (elementary.sin, elementary.cos):
            assert np.isnan(function(np.array([beyond, -beyond, np.inf], dtype))).all()
            assert np.isfinite(function(np.array([farthest, -farthest], dtype))).all()


def test_numbers_arrays_and_their_types():
    assert type(elementary.exp(0.0)) is float
    assert type(elementary.exp(np.float32(0.0))) is np.float32
    assert elementary.power(np.ones((2, 1), np.float32), 0.5).dtype == np.float32
    assert elementary.atan2(np.ones((2, 1)), np.ones(3)).shape == (2, 3)
    assert elementary.exp(np.zeros((2, 3), np.float32)[:, ::2]).shape == (2, 2)
    for wrong in (np.zeros(2, np.int64), np.zeros(2, np.float16), np.zeros(2, complex)):
        with pytest.raises(
            TypeError, match=rf"exp\(\) takes numbers and arrays of float32 or float64; got {wrong.dtype}"
        ):
            elementary.exp(wrong)
    assert "exp" in repr(elementary.exp)


State = namedtuple("State", ["m"])
Scalars = namedtuple("Scalars", ["lr"])


def scalars(step, *, lr=0.1):
    return Scalars(lr)


def every(p, g, s, h):
    """By names of two modules, and of this one."""
    grown = schuss.elementary.exp(g) + elementary.log(abs(p)) + elementary.log1p(g)
    bounded = elementary.tanh(p) - elementary.sigmoid(g) * elementary.cos(g)
    turned = atan2(g, p) * elementary.sin(p) + elementary.copysign(0.5, g)
    moved = elementary.power(abs(g), p) + elementary.cube_root(abs(g))
    return p - h.lr * (bounded + turned), State(grown + moved)


def some(p, g, s, h):
    return p - h.lr * elementary.copysign(elementary.sigmoid(g), p), State(elementary.log(abs(p)))


def others(p, g, s, h):
    return p - h.lr * elementary.sin(g), State(atan2(g, p))


def rule(update):
    def reference(p, g, s, step, *, lr):
        return update(p, g, s, Scalars(p.dtype.type(lr)))

    return schuss.Rule(update.__name__, State, Scalars, scalars, update, reference)


def full(*values):
    return pytest.param(*values, marks=pytest.mark.full)


@pytest.mark.parametrize(("update", "dtype"), [(every, np.float32), (others, np.float64), full(every, np.float64)])
def test_kernels_have_the_bits_of_whole_arrays(update, dtype):
    own = rule(update)
    (p,), (g,) = arrays([(1003,)], dtype, 0), arrays([(1003,)], dtype, 1)
    with np.errstate(over="ignore"):
        p[: len(ENDS)] = g[10 : 10 + len(ENDS)] = np.array(ENDS, dtype)
    made = []
    for backend in ("numba", "numpy"):
        optimizer = schuss.Optimizer([p.copy()], own, backend=backend)
        optimizer.step([g])
        made.append((optimizer._parameters.memories[0].array, optimizer.state_dict()["state"]["0"]["m"]))
    for ours, expected in zip(*made, strict=True):
        assert_same_bits(ours, expected)
    with np.errstate(all="ignore"):  # and those of single elements
        moved, state = element_by_element(own)(p[:99], g[:99], State(p[:99]), 1, lr=0.1)
    assert_same_bits(moved, made[1][0][:99])
    assert_same_bits(state.m, made[1][1][:99])


def test_loops_stay_vectors():
    """Number by number only the rest of a loop is multiplied, a copy of what is done in vectors; nothing is called."""
    optimizer = schuss.Optimizer([np.ones(3, np.float32)], rule(every), backend="numba")
    optimizer.step([np.ones(3, np.float32)])
    (made,) = (made for key, (made, _) in compile._kernels.items() if key.startswith("every@") and "|f32|" in key)
    code = next(iter(made.overloads.values())).library.get_asm_str()
    single, packed = len(re.findall(r"\bv?mulss\b", code)), len(re.findall(r"\bv?mulps\b", code))
    if not single + packed:
        pytest.skip("a processor of another kind")
    assert packed > 0.9 * single > 100
    assert not re.search(r"\bcall", code)


@needs_compiler
@pytest.mark.parametrize(("update", "dtype"), [(some, np.float32), (others, np.float64), full(every, np.float32)])
def test_cuda_has_the_same_bits(update, dtype):
    same_bits_as_the_reference(rule(update), (dtype, dtype), SMALL)
