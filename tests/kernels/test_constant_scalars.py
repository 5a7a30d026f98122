"""Numbers that are the same in every step are given to the engine once."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
from cases import arrays, assert_same_optimizers, options_of
from schuss_kernels.rules import RULES

import schuss

SHAPES = [(7,), (30, 40), (), (9000,)]


def test_which_rules_are_steady():
    steady = {name for name, rule in RULES.items() if rule.constant_scalars}
    assert {"sgd", "sgd_velocity", "lion", "signsgd", "rmsprop", "adadelta", "rprop"} <= steady
    assert not {"adam", "adamw", "nadam", "lars", "prodigy", "schedule_free_sgd"} & steady


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.constant_scalars and not rule.matrix])
def test_steady_rules_have_the_same_numbers_in_every_step(name):
    rule = RULES[name]
    options = options_of(rule)
    given = {key: options[key] for key in rule.scalar_names}
    assert len({repr(rule.begin(step, given)) for step in (1, 2, 3, 10, 1_000_000)}) == 1


def test_a_step_that_is_read_somewhere_is_seen():
    State, Scalars = namedtuple("State", []), namedtuple("Scalars", ["lr"])

    def update(p, g, s, h):
        return p - h.lr * g, State()

    def inner(step, *, lr):
        return Scalars((lambda: lr / step)())

    def compared(step, *, lr):
        return Scalars(0.5 * lr if step == 1 else lr)

    def passed_on(step, *, lr):
        return inner(step, lr=lr)

    def renamed(n, *, lr):
        return Scalars(lr / n)

    def unread(step, *, lr):
        return Scalars(lr)

    for scalars in (inner, compared, passed_on, renamed):
        assert not schuss.Rule("own", State, Scalars, scalars, update).constant_scalars
    assert schuss.Rule("own", State, Scalars, unread, update).constant_scalars


def counted(optimizer, monkeypatch):
    calls = []
    real = type(optimizer._stepper.engine).prepare
    monkeypatch.setattr(
        type(optimizer._stepper.engine), "prepare", lambda self, *given: calls.append(given) or real(self, *given)
    )
    return calls


@pytest.mark.parametrize("backend", ["numba", "auto"])
def test_numbers_are_set_where_they_change(backend, monkeypatch):
    """Scaled steps, clipped ones, other rates, other tensors, loaded states: as with numpy, which is told each time."""
    optimizers = [schuss.Lion(arrays(SHAPES, np.float32, 0), lr=0.01, backend=name) for name in (backend, "numpy")]
    calls = counted(optimizers[0], monkeypatch)

    def step(number, **options):
        gradients = arrays(SHAPES, np.float32, 1 + number)
        if number in (9, 10, 12):
            gradients[0] = None
        before = len(calls)
        for optimizer in optimizers:
            optimizer.step(list(gradients), **options)
        assert_same_optimizers(*optimizers)
        return len(calls) - before

    made = [step(0), step(1), step(2), step(3, grad_scale=0.5), step(4), step(5)]
    made += [step(6, clip_value=0.1), step(7), step(8), step(9), step(10), step(11), step(12)]
    assert [min(n, 1) for n in made] == [1, 0, 0, 1, 1, 0, 1, 1, 0, 1, 0, 1, 1]
    for optimizer in optimizers:
        optimizer.param_groups[0]["lr"] = 0.02
    assert step(13) >= 1
    saved = optimizers[1].state_dict()
    for optimizer in optimizers:
        optimizer.load_state_dict(saved)
        optimizer.param_groups[0]["lr"] = lambda done: 0.01 / (1 + done)
    for number in (14, 15, 16):
        assert step(number) >= 1


def test_numbers_of_ones_own_rules_are_set_in_every_step(monkeypatch):
    State, Scalars = namedtuple("State", []), namedtuple("Scalars", ["lr"])
    rate = [0.5]

    def update(p, g, s, h):
        return p - h.lr * g, State()

    def scalars(step):
        return Scalars(rate[0])

    w = np.zeros(3)
    optimizer = schuss.Optimizer([w], schuss.Rule("own", State, Scalars, scalars, update), backend="numba")
    for rate[0] in (0.5, 1.0, 2.0):
        optimizer.step([np.ones(3)])
    np.testing.assert_array_equal(w, -3.5)
