"""Conventions: the papers' against plain transcriptions (the frameworks' are in test_golden.py), and the option."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

import schuss
from schuss.optim.registry import VARIANTS

STEPS = 25
WITH_CONVENTIONS = [schuss.SGD, schuss.Adagrad, schuss.RMSprop, schuss.Adam, schuss.AdamW]
WITH_CONVENTIONS += [schuss.Adadelta, schuss.Adamax, schuss.NAdam, schuss.Adafactor]


def gradients():
    rng = np.random.default_rng(3)
    return [float(g) for g in rng.standard_normal(STEPS) * (1 + np.arange(STEPS) % 5)]


def rates():
    return [0.05 * (1.0 + 0.5 * math.sin(step)) for step in range(STEPS)]


def path(make, dtype, **options):
    """One number's way under an optimizer."""
    w = np.array([0.7], dtype)
    optimizer = make([w], convention="paper", backend="numpy", **options)
    made = []
    for g, rate in zip(gradients(), rates(), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step([np.array([g], dtype)])
        made.append(float(w[0]))
    return made


def polyak(decay, momentum=0.9):
    x, v = 0.7, 0.0
    for g, rate in zip(gradients(), rates(), strict=True):
        v = momentum * v - rate * (g + decay * x)
        x = x + v
        yield x


def nesterov(decay, momentum=0.9):
    """Sutskever et al. 2013, equations 3 and 4: the gradient is of theta + mu * v, the point that the caller holds."""
    theta, v = 0.7, 0.0
    for g, rate in zip(gradients(), rates(), strict=True):
        ahead = theta + momentum * v
        v = momentum * v - rate * (g + decay * ahead)
        theta = theta + v
        yield theta + momentum * v


def graves(decay, aleph=0.95, beth=0.9, gimel=1e-4):
    """Graves 2013, equations 38 to 45, centered, with momentum."""
    w, n, mean, delta = 0.7, 0.0, 0.0, 0.0
    for g, rate in zip(gradients(), rates(), strict=True):
        g = g + decay * w
        n = aleph * n + (1 - aleph) * g**2
        mean = aleph * mean + (1 - aleph) * g
        delta = beth * delta - rate * g / math.sqrt(n - mean**2 + gimel)
        w = w + delta
        yield w


def duchi(decay, delta=1e-10):
    x, total = 0.7, 0.0
    for g, rate in zip(gradients(), rates(), strict=True):
        g = g + decay * x
        total += g**2
        x = x - rate * g / (delta + math.sqrt(total))
        yield x


def kingma(decay, beta1=0.9, beta2=0.999, eps=1e-8):
    """Kingma & Ba 2015, Algorithm 1."""
    theta, m, v = 0.7, 0.0, 0.0
    for t, (g, rate) in enumerate(zip(gradients(), rates(), strict=True), 1):
        g = g + decay * theta
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        theta = theta - rate * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
        yield theta


def reddi(decay, beta1=0.9, beta2=0.999, eps=1e-8):
    """Reddi, Kale & Kumar 2018, Algorithm 2; eps is ours."""
    x, m, v, largest = 0.7, 0.0, 0.0, 0.0
    for g, rate in zip(gradients(), rates(), strict=True):
        g = g + decay * x
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        largest = max(largest, v)
        x = x - rate * m / (math.sqrt(largest) + eps)
        yield x


def loshchilov(decay, beta1=0.9, beta2=0.999, eps=1e-8):
    """Loshchilov & Hutter 2019, Algorithm 2, the schedule's multiplier being 1."""
    theta, m, v = 0.7, 0.0, 0.0
    for t, (g, alpha) in enumerate(zip(gradients(), rates(), strict=True), 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        corrected = (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
        theta = theta - (alpha * corrected + decay * theta)
        yield theta


PAPERS = [
    (schuss.SGD, {"momentum": 0.9}, polyak),
    (schuss.SGD, {"momentum": 0.9, "nesterov": True}, nesterov),
    (schuss.RMSprop, {"centered": True, "momentum": 0.9}, graves),
    (schuss.Adagrad, {}, duchi),
    (schuss.Adam, {}, kingma),
    (schuss.Adam, {"amsgrad": True}, reddi),
    (schuss.AdamW, {}, loshchilov),
]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-5)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("make", "options", "paper"), PAPERS, ids=lambda value: getattr(value, "__name__", None))
def test_papers(make, options, paper, decay, dtype, tolerance):
    ours, theirs = path(make, dtype, weight_decay=decay, **options), list(paper(decay))
    assert len(ours) == len(theirs) == STEPS
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(map(abs, theirs)))


@pytest.mark.parametrize("make", WITH_CONVENTIONS)
def test_what_differs_is_what_the_defaults_say(make):
    """Every class has the four; each has a default for the same options, which are those without one of their own."""
    assert list(make._conventions) == ["torch", "keras", "optax", "paper"]
    names = {frozenset(convention.defaults) for convention in make._conventions.values()}
    assert len(names) == 1
    for convention, (defaults, *_) in make._conventions.items():
        [group] = make([np.ones(3)], convention=convention).param_groups
        assert {name: group[name] for name in defaults} == defaults
        assert group["convention"] == convention
    [group] = make([np.ones(3)]).param_groups
    assert group["convention"] == "torch"
    assert None not in group.options.values()
    for name in defaults:
        assert f"{name} " in make.__doc__ or f"{name}," in make.__doc__


ALL_WITH_CONVENTIONS = list(
    dict.fromkeys(variant.cls for variant in VARIANTS.values() if getattr(variant.cls, "_conventions", None))
)


def documented(make):
    """The table in a class's docstring: convention -> column -> the words there (of columns of one name the first)."""
    found = re.search(r"^( *=+ +=[= ]+)\n(.*)\n\1\n(.*?)\n\1$", make.__doc__, re.M | re.S)
    spans = [slice(*match.span()) for match in re.finditer("=+", found[1])]
    spans[-1] = slice(spans[-1].start, None)
    columns = [found[2][span].strip() for span in spans]
    table = {}
    for row in found[3].splitlines():
        name, *words = (row[span].strip() for span in spans)
        if name:
            table[name.strip('"')] = dict(reversed(list(zip(columns[1:], words, strict=True))))
    return table


@pytest.mark.parametrize("make", [make for make in ALL_WITH_CONVENTIONS if make is not schuss.ADOPT])
def test_the_table_of_the_docstring_is_that_of_the_rule_file(make):
    """Every default stands in the column of its option, or somewhere in the row where there is no such column."""
    table = documented(make)
    assert set(table) == set(make._conventions)
    for name, (defaults, *_) in make._conventions.items():
        for option, default in defaults.items():
            expected = default if isinstance(default, tuple) else (default,)
            words = table[name].get(option) or " ".join(table[name].values())
            said = [float(number) for number in re.findall(r"(?<![\w.])\d[\d.]*(?:e-?\d+)?", words)]
            assert said[: len(expected)] == list(expected) if option in table[name] else default in said


@pytest.mark.parametrize("make", ALL_WITH_CONVENTIONS)
def test_a_table_of_conventions_knows_no_others(make):
    known = ", ".join(map(repr, make._conventions))
    with pytest.raises(ValueError, match=f"^convention: expected one of {known}; got 'theano'$"):
        make._conventions["theano"]
    with pytest.raises(ValueError, match=f"^parameter group 0: convention: expected one of {known}; got 'theano'"):
        make([np.ones(3)], convention="theano")
    for name in make._conventions:
        assert f'"{name}"' in make.__doc__


@pytest.mark.parametrize("make", WITH_CONVENTIONS)
def test_unknown_conventions(make):
    with pytest.raises(ValueError, match=r"parameter group 0: convention: .*; got 'kears', did you mean 'keras'\?"):
        make([np.ones(3)], convention="kears")
    with pytest.raises(ValueError, match="convention: expected one of 'torch', 'keras', 'optax', 'paper'; got 3"):
        make([np.ones(3)], convention=3)
    optimizer = make([np.ones(3)], convention="optax")
    with pytest.raises(ValueError, match="did you mean 'torch'"):
        optimizer.param_groups[0]["convention"] = "Torch"
    assert optimizer.param_groups[0]["convention"] == "optax"


def test_options_that_a_convention_does_not_have():
    with pytest.raises(ValueError, match="dampening is torch's; with convention='keras' it is 0"):
        schuss.SGD([np.ones(3)], momentum=0.9, dampening=0.5, convention="keras")
    with pytest.raises(ValueError, match="lr_decay is torch's; with convention='optax' it is 0"):
        schuss.Adagrad([np.ones(3)], lr_decay=0.1, convention="optax")


def test_a_group_with_a_convention_of_its_own():
    """It has the defaults of its own for what neither it nor the optimizer says."""
    one, other = np.ones(3), np.ones(3)
    groups = [{"params": [one]}, {"params": [other], "convention": "keras"}]
    optimizer = schuss.RMSprop(groups, eps=1e-3)
    first, second = optimizer.param_groups
    assert (first["convention"], first["alpha"], first["eps"]) == ("torch", 0.99, 1e-3)
    assert (second["convention"], second["alpha"], second["eps"]) == ("keras", 0.9, 1e-3)
    alone = np.ones(3)
    schuss.RMSprop([alone], eps=1e-3, convention="keras").step([np.full(3, 0.5)])
    optimizer.step([[np.full(3, 0.5)], [np.full(3, 0.5)]])
    np.testing.assert_array_equal(other, alone)
    assert one[0] != other[0]


def test_another_convention_between_steps():
    w, v = np.ones(3), np.ones(3)
    optimizer, keras = schuss.Adam([w], eps=0.1), schuss.Adam([v], eps=0.1, convention="keras")
    optimizer.param_groups[0]["convention"] = "keras"
    assert optimizer.param_groups[0]["eps"] == 0.1
    optimizer.step([np.full(3, 0.5)])
    keras.step([np.full(3, 0.5)])
    np.testing.assert_array_equal(w, v)


@pytest.mark.parametrize("convention", ["torch", "keras", "optax", "paper"])
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (schuss.SGD, {"momentum": 0.9}),
        (schuss.Adagrad, {}),
        (schuss.RMSprop, {"momentum": 0.9}),
        (schuss.Adam, {"amsgrad": True}),
        (schuss.AdamW, {"amsgrad": True}),
        (schuss.Adadelta, {}),
        (schuss.Adamax, {}),
        (schuss.NAdam, {}),
    ],
)
def test_a_state_dict_keeps_it(make, options, convention):
    """An optimizer of another convention takes it over, and goes on as the first would have."""
    rng = np.random.default_rng(0)
    steps = [rng.standard_normal(7) for _ in range(6)]
    w = np.ones(7)
    first = make([w], convention=convention, **options)
    for g in steps[:3]:
        first.step([g])
    saved, v = first.state_dict(), w.copy()
    assert saved["param_groups"][0]["convention"] == convention
    second = make([v], **options)
    second.load_state_dict(saved)
    assert second.param_groups[0].options == first.param_groups[0].options
    for g in steps[3:]:
        first.step([g])
        second.step([g])
    np.testing.assert_array_equal(v, w)
