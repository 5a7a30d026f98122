"""Own rules: everything the built-in ones have, and errors in the words of whoever wrote the rule."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
from collections import namedtuple

import numpy as np
import pytest
from cases import arrays, assert_same_bits, assert_same_optimizers, initial_states, options_of
from schuss_kernels.cpu import compile
from schuss_kernels.lang.interpret import element_by_element, measured_element_by_element
from schuss_kernels.lang.rule import Rule, RuleError
from schuss_kernels.rules import RULES

import schuss

State = namedtuple("State", ["velocity", "scale"])
Scalars = namedtuple("Scalars", ["lr", "beta", "one_minus_beta", "floor"])
HALF = 0.5


def scalars(step, *, lr, beta=0.9, floor=1e-3):
    return Scalars(lr / step, beta, 1.0 - beta, floor)


def damped(x):
    """A helper of the rule, with a global constant."""
    return HALF * x


def update(p, g, s, h):
    velocity = h.beta * s.velocity + h.one_minus_beta * damped(g)
    scale = s.scale if s.scale > abs(g) else abs(g)
    move = velocity / (math.sqrt(scale) + h.floor)
    return p - h.lr * (0.25 * move if move > 0.0 else move), State(velocity, scale)


def reference(p, g, s, step, *, lr, beta=0.9, floor=1e-3):
    velocity = beta * s.velocity + (1.0 - beta) * (0.5 * g)
    scale = np.where(s.scale > np.abs(g), s.scale, np.abs(g))
    move = velocity / (np.sqrt(scale) + floor)
    return p - lr / step * np.where(move > 0, 0.25 * move, move), State(velocity, scale)


def rule(**parts):
    return schuss.Rule(
        **{"name": "mine", "State": State, "Scalars": Scalars, "scalars": scalars, "update": update, **parts}
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("has_reference", [True, False])
def test_an_own_rule_has_everything(dtype, has_reference):
    """Groups, layouts, missing gradients, mixed sizes; against its reference, written or evaluated."""
    own = rule(reference=reference if has_reference else None)
    sizes = [(7, 5), (33,), (), (0,)]

    def make(backend, params):
        first, *rest = params
        return schuss.Optimizer(
            [{"params": [first], "lr": 0.5}, {"params": rest, "beta": 0.5}], own, lr=0.1, backend=backend
        )

    params = [p.T if p.ndim == 2 else p for p in arrays(sizes, dtype, 0)]
    ours, other = make("numba", params), make("numpy", [p.copy(order="K") for p in params])
    for step in range(4):
        first, *rest = arrays(sizes, dtype, 1 + step)
        grads = [[first.T.copy()], [rest[0] if step != 2 else None, *rest[1:]]]
        ours.step(grads)
        other.step(grads)
    assert_same_optimizers(ours, other)
    again = make("numba", [p.copy(order="K") for p in params])
    again.load_state_dict(ours.state_dict())
    grads = [[first.T.copy()], rest]
    ours.step(grads)
    again.step(grads)
    assert_same_optimizers(ours, again)
    assert "kernel mine" in ours.explain()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_updates_evaluated_element_by_element(name, dtype):
    """What a rule without a reference falls back on gives every built-in rule's own reference."""
    built_in = RULES[name]
    p, g, *states = arrays([40] * (2 + len(built_in.State._fields)), dtype, 0)
    p[0], g[1], g[2] = np.nan, np.inf, -0.0
    known = {**options_of(built_in), "lr": 0.1}
    options = {name: known[name] for name in built_in.scalar_names}
    if built_in.running is not None:
        options["running"] = built_in.running()
    for number, s in enumerate(states):
        np.abs(s, out=s, where=built_in.State._fields[number] != "grad_avg")
    state = built_in.State(*states)
    with np.errstate(all="ignore"):
        if built_in.measure is not None:
            expected = built_in.reference_measure(p, g, state, 3, **options)
            for one, other in zip(
                measured_element_by_element(built_in)(p, g, state, 3, **options), expected, strict=True
            ):
                assert_same_bits(one, other)
            options["sums"] = built_in.Sums(*(0.5 + number for number in range(len(built_in.Sums._fields))))
        expected, after = built_in.reference(p, g, state, 3, **options)
        got, got_after = element_by_element(built_in)(p, g, state, 3, **options)
    assert_same_bits(got, expected)
    for one, other in zip(got_after, after, strict=True):
        assert_same_bits(one, other)


def test_initial_states():
    own = rule(initial=lambda *, start=2.0: State(0.0, start))
    w, v = np.ones(3), np.ones(3)
    schuss.Optimizer([w], own, lr=0.1, start=4.0).step([np.ones(3)])
    schuss.Optimizer([v], own, lr=0.1, start=4.0, backend="numpy").step([np.ones(3)])
    assert_same_bits(w, v)
    assert initial_states(schuss.Optimizer([w], own, lr=0.1))["0"]["scale"][0] == 2.0


def test_limits_and_options():
    own = rule(limits={"beta": schuss.FRACTION})
    with pytest.raises(ValueError, match=r"beta: expected at least 0 and below 1; got 1\.5"):
        schuss.Optimizer([np.ones(2)], own, lr=0.1, beta=1.5)
    with pytest.raises(ValueError, match="lr: expected a finite number, at least 0; got -1"):
        schuss.Optimizer([np.ones(2)], own, lr=-1)
    with pytest.raises(ValueError, match="floor: expected a finite number; got nan"):
        schuss.Optimizer([np.ones(2)], own, lr=1, floor=float("nan"))
    with pytest.raises(TypeError, match="unknown option 'gamma'"):
        schuss.Optimizer([np.ones(2)], own, lr=1, gamma=2)
    with pytest.raises(TypeError, match="the hyper-parameter 'lr' has no default and was not given"):
        schuss.Optimizer([np.ones(2)], own)
    schuss.Optimizer([np.ones(2)], own, lr=lambda step: 0.1).step([np.ones(2)])


def uses_an_integer(p, g, s, h):
    return p - 2 * h.lr * g, s


def uses_a_float64(p, g, s, h):
    return p - h.lr * g * np.float64(0.1), s


def compares_in_float64(p, g, s, h):
    wide = np.float64(0.1) * g
    return p - h.lr * g, State(s.velocity, s.scale if wide > 0.3 else s.velocity)


def returns_one_state(p, g, s, h):
    return p - h.lr * g, (s.velocity,)


def returns_three_states(p, g, s, h):
    return p - h.lr * g, (s.velocity, s.scale, g)


def returns_no_state(p, g, s, h):
    return p - h.lr * g


def returns_nothing(p, g, s, h):
    p = p - h.lr * g


def returns_an_integer(p, g, s, h):
    return p - h.lr * g, State(g, 1)


def asks_for_an_unknown_scalar(p, g, s, h):
    return p - h.lr * h.gamma * g, s


def uses_an_unknown_name(p, g, s, h):
    return p - nothing_of_that_name * g, s  # noqa: F821


def calls_a_method(p, g, s, h):
    return p - g.clip(0, 1), s


def adds_a_text(p, g, s, h):
    return p - g + "a", s


def keeps_a_dict(p, g, s, h):
    kept = {"g": g}
    return p - h.lr * kept["g"], s


def swallows(p, g, s, h):
    try:
        return p - h.lr * g, s
    except ValueError:
        return p, s


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            uses_an_integer,
            r"slips into float64: .*returns p as float64, first in line \d+ of .*test_rule.py: `return p - 2",
        ),
        (uses_a_float64, r"slips into float64: .*np.float64\(0.1\), s`"),
        (compares_in_float64, r"slips into float64 on the way, first in line \d+ of .*: `wide = np.float64"),
        (
            returns_one_state,
            r"must return \(p, State\(velocity, scale\)\), 2 state value\(s\); it returns a tuple of 1 as",
        ),
        (returns_three_states, r"2 state value\(s\); it returns a tuple of 3"),
        (returns_no_state, r"must return \(p, State\(velocity, scale\)\); it returns float32"),
        (returns_nothing, r"must return .*; it returns None"),
        (returns_an_integer, r"must return numbers of type float32; it returns scale as int64"),
        (asks_for_an_unknown_scalar, r"cannot compile update\(\): Unknown attribute 'gamma'.*line \d+ of .*test_rule"),
        (uses_an_unknown_name, r"nothing_of_that_name"),
        (calls_a_method, r"Unknown attribute 'clip'"),
        (adds_a_text, r"add>\) found for signature: add\(float32, .*\) \(line \d+ of .*test_rule.py\)"),
        (keeps_a_dict, r"needs memory or objects of its own"),
    ],
)
def test_updates_that_cannot_run(wrong, message):
    w = np.ones(5, np.float32)
    for _ in range(2):  # the second time, nothing may come from a cache
        with pytest.raises(schuss.RuleError, match=f"rule 'mine': .*{message}"):
            schuss.Optimizer([w], rule(update=wrong), lr=0.1)
        compile._kernels.clear()
    assert (w == 1).all()


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"name": "not a name"}, "a rule's name is a Python identifier"),
        ({"State": tuple}, "rule 'mine': State must be a namedtuple class"),
        ({"Scalars": ["lr"]}, "rule 'mine': Scalars must be a namedtuple class"),
        ({"update": lambda p, g: p}, r"update takes \(p, g, s, h\); this one takes 2"),
        ({"update": "p - g"}, "update must be a plain function"),
        ({"scalars": lambda: None}, r"scalars takes \(step, \*, lr, ...\)"),
    ],
)
def test_rules_with_wrong_parts(parts, message):
    with pytest.raises(schuss.RuleError, match=message):
        rule(**parts)


def test_scalars_and_initial_that_return_something_else():
    w = np.ones(3, np.float32)
    optimizer = schuss.Optimizer([w], rule(scalars=lambda step, *, lr: (lr, 1.0, 1.0, 1.0)), lr=0.1)
    with pytest.raises(schuss.RuleError, match=r"must return Scalars\(lr, beta, .*, floor\); it returned \(float, "):
        optimizer.step([w.copy()])
    with pytest.raises(schuss.RuleError, match=r"initial\(\) must return 2 numbers \(velocity, scale\); it returned 1"):
        schuss.Optimizer([w], rule(initial=lambda: (0.0,)), lr=0.1)
    assert (w == 1).all()


def test_the_digest_follows_the_code():
    """Its own code, its helpers, its constants; not its name or place."""
    space = {"math": math, "State": State}

    def made(source, **values):
        scope = {**space, **values}
        exec(textwrap.dedent(source), scope)
        return rule(update=scope["update"]).key

    body = "def update(p, g, s, h):\n    return p - {0} * g, s\n"
    helped = "def update(p, g, s, h):\n    return p - helper(g), s\n"
    assert made(body.format("h.lr")) == made(body.format("h.lr"))
    assert len({made(body.format(c)) for c in ("h.lr", "h.beta", "0.5", "0.25", "factor")}) == 5
    assert made(body.format("factor"), factor=0.5) != made(body.format("factor"), factor=0.25)
    assert made(helped, helper=damped) == made(helped, helper=damped)
    assert made(helped, helper=damped) != made(helped, helper=abs)


FILE = """
from collections import namedtuple
import numpy as np
import schuss

State = namedtuple("State", ["m"])
Scalars = namedtuple("Scalars", ["lr"])

def scalars(step, *, lr):
    return Scalars(lr)

def update(p, g, s, h):
    m = 0.5 * s.m + g
    return p - h.lr * m, State(m)

RULE = schuss.Rule("from_a_file", State, Scalars, scalars, update)
"""
USE = """
w = np.ones(100, np.float32)
schuss.Optimizer([w], RULE, lr=FACTOR).step([w.copy()])
from schuss_kernels.cpu import compile
(made, _), = compile._kernels.values()
print(w[0], made.stats.cache_hits.total(), made.stats.cache_misses.total())
"""


@pytest.mark.parametrize("script", [True, False], ids=["script", "module"])
def test_a_rule_in_a_file_is_cached_on_disk(tmp_path, script):
    """In a module or in the script itself; an edited rule is compiled anew, a changed hyper-parameter is not."""

    def run(factor, edit=("", "")):
        rule_text, use = FILE.replace(*edit), USE.replace("FACTOR", str(factor))
        if script:
            (tmp_path / "train.py").write_text(rule_text + use)
        else:
            (tmp_path / "own.py").write_text(rule_text)
            (tmp_path / "train.py").write_text("from own import *\nfrom own import np, schuss\n" + use)
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "train.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert run(0.5) == ["0.5", "0", "1"]
    assert run(0.25) == ["0.75", "1", "0"]
    assert run(0.5, ("0.5 * s.m + g", "0.5 * s.m + g * 0.5")) == ["0.75", "0", "1"]
    assert run(0.5) == ["0.5", "1", "0"]


def test_a_rule_from_a_module_that_cannot_be_imported_again(tmp_path):
    """Code run by exec, as a plug-in or a notebook server might: compiled, then read from the disk cache."""
    code = f"""
source = {FILE + USE.replace("FACTOR", "0.5")!r}
exec(compile(source, "nowhere", "exec"), {{"__name__": "not_a_module"}})
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    said = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.split())
    assert said == [["0.5", "0", "1"], ["0.5", "1", "0"]]


def test_a_rule_made_by_exec():
    """Its functions have no module."""
    scope: dict = {"namedtuple": namedtuple}
    source = """
State, Scalars = namedtuple("State", []), namedtuple("Scalars", ["lr"])
def scalars(step, *, lr): return Scalars(lr)
def update(p, g, s, h): return p - h.lr * g, State()
"""
    exec(source, scope)
    assert scope["update"].__module__ is None
    rule = Rule("made", scope["State"], scope["Scalars"], scope["scalars"], scope["update"])
    for backend in ("auto", "numpy"):
        p = np.ones(3)
        schuss.Optimizer([p], rule, lr=0.5, backend=backend).step([np.ones(3)])
        assert p.tolist() == [0.5, 0.5, 0.5]


def test_a_variant_has_the_other_parts_of_its_rule():
    first = rule(limits={"beta": schuss.FRACTION}, paper="ours")

    def steeper(p, g, s, h):
        moved, s = update(p, g, s, h)
        return moved - g, s

    made = first.variant("steeper", update=steeper, paper="theirs")
    assert (made.name, made.update, made.paper) == ("steeper", steeper, "theirs")
    assert (made.scalars, made.State, made.limits) == (first.scalars, first.State, first.limits)
    assert first.update is update
    assert made.key != first.key
    with pytest.raises(TypeError, match="unexpected keyword argument 'updates'"):
        first.variant("steeper", updates=steeper)
    with pytest.raises(RuleError, match="rule 'steeper': update must be a plain function; got 3"):
        first.variant("steeper", update=3)


@pytest.mark.parametrize("name", RULES)
def test_built_in_rules_leave_defaults_to_the_classes(name):
    built_in = RULES[name]
    functions = (built_in.scalars, built_in.reference, built_in.reference_measure, built_in.initial)
    assert not any(function.__kwdefaults__ for function in functions if function is not None)
    assert set(built_in.weights) <= set(built_in.State._fields)
