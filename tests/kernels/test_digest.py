"""The digest of a rule: what it follows of what its functions read, and what it cannot."""

from __future__ import annotations

import enum
import importlib
import math
import types
from collections import namedtuple

import numba
import numpy as np
import pytest
from schuss_kernels.lang import digest

import schuss

State, Scalars = namedtuple("State", []), namedtuple("Scalars", ["lr"])
Pair = namedtuple("Pair", ["factor", "other"], defaults=[1.0])


def scalars(step, *, lr=1.0):
    return Scalars(lr)


def key(body, **scope):
    """The key of a rule with an update that returns ``p - body``."""
    scope = {"State": State, **scope}
    exec(f"def update(p, g, s, h): return p - {body}, State()", scope)
    return schuss.Rule("mine", State, Scalars, scalars, scope["update"]).key


def module(**items):
    made = types.ModuleType("constants")
    vars(made).update(items)
    return made


def jitted(factor):
    scope: dict = {}
    exec(f"def helper(x): return {factor} * x", scope)
    return numba.njit(scope["helper"])


class Level(enum.Enum):
    LOW = 1.0


class Weight(enum.Enum):
    LOW = 2.0


def optional(factor):
    def helper(x, *, by=factor):
        return by * x

    return helper


@pytest.mark.parametrize(
    ("body", "of"),
    [
        ("m.FACTOR * g", lambda f: {"m": module(FACTOR=f)}),
        ("m.inner.FACTOR * g", lambda f: {"m": module(inner=module(FACTOR=f))}),
        ("m.jitted(g)", lambda f: {"m": module(jitted=jitted(f))}),
        ("m.PAIR.factor * g", lambda f: {"m": module(PAIR=Pair(f))}),
        ("jitted(g)", lambda f: {"jitted": jitted(f)}),
        ("PAIR.factor * g", lambda f: {"PAIR": Pair(f)}),
        ("PAIRS[0][0] * g", lambda f: {"PAIRS": ((f, 1.0), Pair(1.0))}),
        ("ARRAY[0] * g", lambda f: {"ARRAY": np.array([f])}),
        ("helper(g)", lambda f: {"helper": optional(f)}),
        ("(lambda x: FACTOR * x)(g)", lambda f: {"FACTOR": f}),
        ("Level.LOW.value * g", lambda f: {"Level": Level if f == 2.0 else Weight}),
        ("Made(g).other", lambda f: {"Made": namedtuple("Made", ["factor", "other"], defaults=[f])}),
    ],
)
def test_what_a_function_reads_is_in_the_digest(body, of):
    assert key(body, **of(2.0)) == key(body, **of(2.0))
    assert key(body, **of(2.0)) != key(body, **of(3.0))
    assert digest.is_lasting(key(body, **of(2.0)))


def test_attributes_that_are_not_read_do_not_matter():
    assert key("m.FACTOR * g", m=module(FACTOR=2.0)) == key("m.FACTOR * g", m=module(FACTOR=2.0, other=object()))
    assert key("math.pi * g", math=math) == key("math.pi * g", math=math)
    for name in schuss.elementary.__all__:
        assert digest.is_lasting(key(f"elementary.{name}(g)", elementary=schuss.elementary))


def test_what_cannot_be_digested_is_not_kept():
    """Each such rule is another one, and numba's disk cache gets no kernel of it."""
    one, other = (key("thing.value * g", thing=types.SimpleNamespace(value=2.0)) for _ in range(2))
    assert one != other
    assert not digest.is_lasting(one)
    assert not digest.is_lasting(f"{one}|f32|f32||dense")
    kernels = importlib.import_module("schuss_kernels.cpu.kernels")
    kept, dropped = (kernels.dense_squares_kernel(code, 4) for code in ("f32", "f32"))
    assert kept._cache.cache_path == dropped._cache.cache_path is not None
    assert kernels.dense_kernel(f"{one}|f32|f32||dense", 4, 4)._cache.cache_path is None
    assert kernels.dense_kernel("mine@0123|f32|f32||dense", 4, 4)._cache.cache_path is not None


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_constants_of_all_kinds_take_the_type_of_the_rule(backend):
    """A float64 among them would be refused in a float32 kernel."""
    scope = {"State": State, "m": module(FACTOR=0.5, PAIR=Pair(0.25)), "ONES": (1.0, 1.0), "halved": jitted(0.5)}
    exec("def update(p, g, s, h): return p - m.FACTOR * g - m.PAIR.factor * ONES[1] * halved(g), State()", scope)
    w = np.ones(3, np.float32)
    schuss.Optimizer([w], schuss.Rule("typed", State, Scalars, scalars, scope["update"]), backend=backend).step([w * 2])
    assert w.tolist() == [-0.25] * 3
