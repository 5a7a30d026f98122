"""The schedules against torch where it has them, against their formulas where it does not."""

import ast
import doctest
import inspect
import math
import pickle
import sys
import warnings
from fractions import Fraction

import numpy as np
import pytest
from cases import said

from schuss import schedules
from schuss.schedules import (
    Schedule,
    constant,
    cosine,
    exponential,
    inverse_sqrt,
    join,
    linear,
    one_cycle,
    polynomial,
    step,
    warmup,
    warmup_stable_decay,
)

LR = 0.3


def twice(taken):
    """A function of the step that is no Schedule, but can be pickled."""
    return 2.0 * taken


# One row a schedule: itself, its step-0 value, its last step (None: no end), the value there and after.
CASES = [
    (constant(LR), LR, None, None),
    (linear(0.1, 0.7, 10), 0.1, 10, 0.7),
    (linear(0.7, 0.1, 7), 0.7, 7, 0.1),
    (linear(0.5, 0.0, 1), 0.5, 1, 0.0),
    (step(LR, 4), LR, None, None),
    (step(LR, 4, 0.5), LR, None, None),
    (step(LR, (3, 5, 11), 0.5), LR, 11, LR * 0.125),
    (exponential(LR, 0.9), LR, None, None),
    (exponential(LR, 1.1, every=5), LR, None, None),
    (polynomial(0.1, 0.7, 9), 0.1, 9, 0.7),
    (polynomial(0.7, 0.1, 9, 2.5), 0.7, 9, 0.1),
    (cosine(LR, 10), LR, 10, 0.0),
    (cosine(LR, 10, end=0.1), LR, 10, 0.1),
    (cosine(LR, 3, end=0.1, cycle=1), LR, None, None),
    (cosine(LR, 3, end=0.1, cycle=3), LR, None, None),
    (warmup(LR, 5), 0.0, 5, LR),
    (warmup(cosine(LR, 7, 0.1), 5, start=0.01), 0.01, 12, 0.1),
    (warmup(twice, 5, start=0.01), 0.01, None, None),
    (one_cycle(LR, 20), LR / 25, 19, LR / 25 / 1e4),
    (one_cycle(LR, 20, warmup=0.25, start_factor=10, end_factor=100), LR / 10, 19, LR / 1000),
    (inverse_sqrt(LR, 8), 0.0, None, None),
    (warmup_stable_decay(LR, 4, 6, 5), 0.0, 15, 0.0),
    (warmup_stable_decay(LR, 0, 6, 5, end=0.1, shape="cosine"), LR, 11, 0.1),
    (warmup_stable_decay(LR, 4, 0, 5, end=0.1, shape="sqrt"), 0.0, 9, 0.1),
    (join((linear(0.1, 0.7, 4), 4), (0.5, 3), cosine(LR, 6, 0.1)), 0.1, 13, 0.1),
    (join((twice, 3), twice), 0.0, None, None),
]
each_case = pytest.mark.parametrize(("schedule", "first", "end", "last"), CASES, ids=lambda x: said(x)[:40])


@each_case
def test_begins_and_ends_where_it_says_and_holds(schedule, first, end, last):
    rates = [schedule(taken) for taken in range(60)]
    assert all(type(rate) is float for rate in rates)
    assert rates[0] == pytest.approx(first, rel=1e-15)
    if end is not None:
        assert rates[end] == pytest.approx(last, rel=1e-15)
        assert rates[end - 1] != rates[end]
        assert set(rates[end:]) == {rates[end]} == {schedule(10**9)}


def is_again(schedule, again):
    return (again, hash(again), again(7)) == (schedule, hash(schedule), schedule(7)) and again is not schedule


@each_case
def test_is_a_value(schedule, first, end, last):
    assert isinstance(schedule, Schedule)
    assert is_again(schedule, pickle.loads(pickle.dumps(schedule)))
    assert sum(schedule == other for other, *_ in CASES) == 1
    with pytest.raises(AttributeError):
        schedule.lr = 1.0


@pytest.mark.parametrize("schedule", [case[0] for case in CASES if "<function" not in repr(case[0])], ids=repr)
def test_its_repr_makes_it_again(schedule):
    names = {}
    exec("from schuss.schedules import *", names)
    assert is_again(schedule, eval(repr(schedule), names))


@each_case
@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8])
def test_takes_numpy_integers_as_steps(schedule, first, end, last, kind):
    assert [schedule(kind(taken)) for taken in range(30)] == [schedule(taken) for taken in range(30)]


@each_case
@pytest.mark.parametrize("wrong", [-1, np.int64(-1), 1.0, np.float64(2.0), "3", None, True, (1,)], ids=repr)
def test_refuses_a_wrong_step(schedule, first, end, last, wrong):
    error = ValueError if wrong == -1 else TypeError
    with pytest.raises(error, match=r"\w+: step must be a whole number of at least 0, got .+"):
        schedule(wrong)


def test_arguments_are_kept_as_plain_numbers():
    made = step(np.float32(0.5), np.array([2, 5]), factor=Fraction(1, 4))
    assert repr(made) == "step(lr=0.5, every=(2, 5), factor=0.25)"
    assert repr(linear(np.array(1.0), np.array(0.5, np.float32), np.array(3))) == "linear(start=1.0, end=0.5, steps=3)"
    assert repr(linear(1, np.float64(0.5), np.int16(3))) == "linear(start=1.0, end=0.5, steps=3)"
    assert warmup(1, 3) == warmup(constant(1.0), 3)
    assert join([2, 3], 1) == join((constant(2.0), 3), constant(1.0))
    assert repr(join((2, 3), 1)) == "join((constant(lr=2.0), 3), constant(lr=1.0))"
    assert len({step(LR, [2, 5]), step(LR, (2, 5)), step(LR, range(2, 6, 3))}) == 1


# Closed forms and values by hand


@pytest.mark.parametrize("taken", range(40))
def test_the_formulas(taken):
    def close(value):
        return pytest.approx(value, rel=1e-14, abs=1e-17)

    t = min(1.0, taken / 12)
    wave = (1 + math.cos(math.pi * t)) / 2
    assert constant(LR)(taken) == LR
    assert linear(LR, 0.1, 12)(taken) == close(LR + (0.1 - LR) * t)
    assert step(LR, 5, 0.7)(taken) == close(LR * 0.7 ** (taken // 5))
    assert step(LR, [1, 2, 9], 0.7)(taken) == close(LR * 0.7 ** ((taken >= 1) + (taken >= 2) + (taken >= 9)))
    assert exponential(LR, 0.7, 5)(taken) == close(LR * math.exp(math.log(0.7) * taken / 5))
    assert polynomial(LR, 0.1, 12, 3)(taken) == close(0.1 + (LR - 0.1) * (1 - t) ** 3)
    assert polynomial(LR, 0.1, 12)(taken) == close(linear(LR, 0.1, 12)(taken))
    assert cosine(LR, 12, 0.1)(taken) == close(0.1 + (LR - 0.1) * wave)
    ramp = 0.05 + (LR - 0.05) * taken / 12
    assert warmup(exponential(LR, 0.9), 12, 0.05)(taken) == close(ramp if taken < 12 else LR * 0.9 ** (taken - 12))
    paper = 12**0.5 * min(taken**-0.5, taken * 12**-1.5) if taken else 0.0
    assert inverse_sqrt(LR, 12)(taken) == close(LR * paper)


@pytest.mark.parametrize("shape", ["linear", "cosine", "sqrt"])
@pytest.mark.parametrize("taken", range(30))
def test_warmup_stable_decay_is_its_three_parts(shape, taken):
    decay = {"linear": linear(LR, 0.1, 9), "cosine": cosine(LR, 9, 0.1), "sqrt": None}[shape]
    parts = join((linear(0.0, LR, 4), 4), (LR, 6), decay or (lambda t: 0.1 + (LR - 0.1) * (1 - min(1, t / 9) ** 0.5)))
    assert warmup_stable_decay(LR, 4, 6, 9, end=0.1, shape=shape)(taken) == pytest.approx(parts(taken), rel=1e-14)


def test_values_by_hand():
    restarts = cosine(1.0, 2, cycle=2)  # runs of 2, 4, 8: restarts at 2, 6, 14
    assert [restarts(taken) for taken in (0, 1, 2, 4, 6, 10, 14)] == pytest.approx([1, 0.5, 1, 0.5, 1, 0.5, 1])
    assert cosine(1.0, 3, cycle=1)(3 * 10**15) == 1.0
    assert cosine(1.0, 3, cycle=2)(3 * (2**60 - 1)) == 1.0
    assert [warmup_stable_decay(1.0, 2, 1, 4, shape="sqrt")(taken) for taken in range(8)] == pytest.approx(
        [0.0, 0.5, 1.0, 1.0, 0.5, 1 - 0.5**0.5, 1 - 0.75**0.5, 0.0]
    )
    assert [warmup(1.0, 4, start=2.0)(taken) for taken in range(6)] == [2.0, 1.75, 1.5, 1.25, 1.0, 1.0]
    assert [warmup(linear(1.0, 0.0, 2), 0)(taken) for taken in range(4)] == [1.0, 0.5, 0.0, 0.0]


def test_one_cycle_without_room_for_a_ramp_begins_at_the_peak():
    assert one_cycle(LR, 10, warmup=0.0)(0) == LR
    assert one_cycle(LR, 10, warmup=0.1)(0) == LR
    assert one_cycle(LR, 2)(0) == LR
    assert one_cycle(LR, 10, warmup=0.9999)(9) == LR / 25 / 1e4


def test_join_counts_each_part_from_its_own_start():
    joined = join((twice, 3), (lambda taken: 100.0 + taken, 2), lambda taken: 1000.0 + taken)
    assert [joined(taken) for taken in range(8)] == [0.0, 2.0, 4.0, 100.0, 101.0, 1000.0, 1001.0, 1002.0]
    nested = join((join((twice, 1), 9.0), 2), warmup(7.0, 2))
    assert [nested(taken) for taken in range(6)] == [0.0, 9.0, 0.0, 3.5, 7.0, 7.0]
    assert [join(twice)(taken) for taken in range(3)] == [0.0, 2.0, 4.0]


# torch: its chained recursions drift by some roundings a step


def torch_rates(make, count):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    scheduler = make(torch.optim.lr_scheduler, optimizer)
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "make", "count"),
    [
        (linear(LR / 3, LR, 5), lambda m, o: m.LinearLR(o, 1 / 3, 1.0, 5), 20),
        (linear(LR, LR / 10, 13), lambda m, o: m.LinearLR(o, 1.0, 0.1, 13), 30),
        (step(LR, 7), lambda m, o: m.StepLR(o, 7), 40),
        (step(LR, (5, 8, 20), 0.5), lambda m, o: m.MultiStepLR(o, [5, 8, 20], 0.5), 40),
        (exponential(LR, 0.93), lambda m, o: m.ExponentialLR(o, 0.93), 40),
        (polynomial(LR, 0.0, 12), lambda m, o: m.PolynomialLR(o, 12, 1.0), 30),
        (polynomial(LR, 0.0, 12, 2.5), lambda m, o: m.PolynomialLR(o, 12, 2.5), 30),
        (cosine(LR, 25), lambda m, o: m.CosineAnnealingLR(o, 25), 26),
        (cosine(LR, 25, 0.01), lambda m, o: m.CosineAnnealingLR(o, 25, 0.01), 26),
        (cosine(LR, 5, 0.01, cycle=1), lambda m, o: m.CosineAnnealingWarmRestarts(o, 5, 1, 0.01), 40),
        (cosine(LR, 5, cycle=2), lambda m, o: m.CosineAnnealingWarmRestarts(o, 5, 2), 80),
        (cosine(LR, 3, 0.01, cycle=3), lambda m, o: m.CosineAnnealingWarmRestarts(o, 3, 3, 0.01), 80),
        (one_cycle(LR, 50), lambda m, o: m.OneCycleLR(o, LR, 50, cycle_momentum=False), 50),
        (one_cycle(LR, 10), lambda m, o: m.OneCycleLR(o, LR, 10, cycle_momentum=False), 10),
        (
            one_cycle(LR, 37, 0.41, 7, 90),
            lambda m, o: m.OneCycleLR(
                o, LR, 37, pct_start=0.41, div_factor=7, final_div_factor=90, cycle_momentum=False
            ),
            37,
        ),
        (
            join((linear(LR / 10, LR, 4), 4), (exponential(LR, 0.9), 6), step(LR, 3)),
            lambda m, o: m.SequentialLR(
                o, [m.LinearLR(o, 0.1, 1.0, 4), m.ExponentialLR(o, 0.9), m.StepLR(o, 3)], [4, 10]
            ),
            30,
        ),
        (
            warmup(cosine(LR, 20), 5, start=LR / 10),
            lambda m, o: m.SequentialLR(o, [m.LinearLR(o, 0.1, 1.0, 5), m.CosineAnnealingLR(o, 20)], [5]),
            26,
        ),
    ],
    ids=lambda x: repr(x)[:50] if isinstance(x, Schedule) else "",
)
def test_equals_torch(schedule, make, count):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR's own call of step(epoch)
        rates = torch_rates(make, count)
    np.testing.assert_allclose([schedule(taken) for taken in range(count)], rates, rtol=1e-12, atol=1e-16)


# Wrong arguments

RATE = r"a finite number of at least 0"
FACTOR = r"a finite number above 0"
COUNT = r"a whole number of at least 1"
COUNT_OR_ZERO = r"a whole number of at least 0"
COUNTS = r"a whole number of at least 1 or a rising sequence of such"
FUNCTION = r"a function of the step or a finite rate of at least 0"

GOOD = {
    constant: {"lr": LR},
    linear: {"start": LR, "end": 0.0, "steps": 3},
    step: {"lr": LR, "every": 3, "factor": 0.5},
    exponential: {"lr": LR, "factor": 0.5, "every": 2},
    polynomial: {"start": LR, "end": 0.0, "steps": 3, "power": 2.0},
    cosine: {"lr": LR, "steps": 3, "end": 0.0, "cycle": 2},
    warmup: {"schedule": LR, "steps": 3, "start": 0.0},
    one_cycle: {"peak": LR, "steps": 3, "warmup": 0.3, "start_factor": 25.0, "end_factor": 1e4},
    inverse_sqrt: {"lr": LR, "warmup": 3},
    warmup_stable_decay: {"lr": LR, "warmup": 3, "stable": 3, "decay": 3, "end": 0.0, "shape": "sqrt"},
}
NUMBERS = {ValueError: [-0.1, math.nan, math.inf, -math.inf, np.float32("nan"), 10**400]}
NUMBERS[TypeError] = ["0.1", None, True, np.True_, [0.1], 1j, np.array([0.1])]
WHOLES = {ValueError: [-1, np.int64(-2)], TypeError: [2.0, np.float64(2), math.nan, "2", None, True, [1.5], twice]}
EXPECTED = {
    "lr start end peak": (RATE, NUMBERS),
    "factor power start_factor end_factor": (FACTOR, {**NUMBERS, ValueError: [0, *NUMBERS[ValueError]]}),
    "steps decay every inverse_sqrt.warmup": (COUNT, {**WHOLES, ValueError: [0, *WHOLES[ValueError]]}),
    "cycle stable warmup.steps warmup_stable_decay.warmup": (COUNT_OR_ZERO, WHOLES),
    "step.every": (
        COUNTS,
        {
            ValueError: [0, -3, [], (5, 3), (3, 3), (0, 3), (-1, 2), np.array([3, 2])],
            TypeError: [2.5, None, True, "30", (1.0, 2.0), [True, 2], np.array([1.5])],
        },
    ),
    "one_cycle.warmup": (
        "a number of at least 0 and below 1",
        {ValueError: [-0.1, 1, 1.5, math.nan], TypeError: ["0.3", None, False]},
    ),
    "schedule": (FUNCTION, {ValueError: [-0.1, math.nan, 10**400], TypeError: ["linear", None, True, linear, (LR, 3)]}),
    "shape": ("'linear', 'cosine' or 'sqrt'", {ValueError: ["cubic", "", "Linear", 3, None], TypeError: [["sqrt"]]}),
}


def wrong_arguments():
    for make, good in GOOD.items():
        for name in good:
            keys = (f"{make.__name__}.{name}", name)
            expected, wrongs = next(row for key in keys for names, row in EXPECTED.items() if key in names.split())
            for error, values in wrongs.items():
                for value in values:
                    yield pytest.param(make, name, value, error, expected, id=f"{make.__name__}-{name}-{value!r:.20}")


@pytest.mark.parametrize(("make", "name", "value", "error", "expected"), list(wrong_arguments()))
def test_refuses_a_wrong_argument(make, name, value, error, expected):
    make(**GOOD[make])
    with pytest.raises(error) as caught:
        make(**{**GOOD[make], name: value})
    assert str(caught.value) == f"{make.__name__}: {name} must be {expected}, got {value!r}"


def test_all_arguments_are_tried():
    assert {*GOOD, join, Schedule} == {getattr(schedules, name) for name in schedules.__all__}
    assert all(list(inspect.signature(make).parameters) == list(good) for make, good in GOOD.items())


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ((), TypeError, f"join: the last part must be {FUNCTION}, got None"),
        ((LR, LR), TypeError, r"join: part 1 must be a pair \(schedule, steps\), got 0.3"),
        (((LR, 2), (LR, 2, 3), LR), TypeError, r"join: part 2 must be a pair \(schedule, steps\), got \(0.3, 2, 3\)"),
        (("ab", LR), TypeError, r"join: part 1 must be a pair \(schedule, steps\), got 'ab'"),
        ((("cosine", 2), LR), TypeError, f"join: part 1: schedule must be {FUNCTION}, got 'cosine'"),
        (((cosine, 2), LR), TypeError, f"join: part 1: schedule must be {FUNCTION}, got <class"),
        (((math.nan, 2), LR), ValueError, f"join: part 1: schedule must be {FUNCTION}, got nan"),
        (((LR, 2), (LR, 0), LR), ValueError, f"join: part 2: steps must be {COUNT}, got 0"),
        (((LR, -1), LR), ValueError, f"join: part 1: steps must be {COUNT}, got -1"),
        (((LR, 1.0), LR), TypeError, f"join: part 1: steps must be {COUNT}, got 1.0"),
        (((LR, 2), (LR, 2)), TypeError, rf"join: the last part must be {FUNCTION}, got \(0.3, 2\)"),
        (((LR, 2), -1.0), ValueError, f"join: the last part must be {FUNCTION}, got -1.0"),
    ],
)
def test_join_refuses_wrong_parts(parts, error, message):
    with pytest.raises(error, match=f"^{message}"):
        join(*parts)


@pytest.mark.parametrize(
    ("schedule", "taken", "said"),
    [
        (exponential(1.0, 10.0), 400, r"exponential\(lr=1.0, factor=10.0, every=1\) gives inf at step 400"),
        (step(1.0, 1, 1e300), 2, "gives inf at step 2"),
        (exponential(1e300, 1e300), 1, "gives inf at step 1"),
        (join((1.0, 2), lambda taken: -1.0), 2, "gives -1.0 at step 2"),
        (warmup(lambda taken: math.nan, 3), 1, "gives nan at step 1"),
    ],
)
def test_refuses_to_give_what_is_no_rate(schedule, taken, said):
    with pytest.raises(ValueError, match=f"{said}; a learning rate must be finite and at least 0"):
        schedule(taken)


def test_rates_never_leave_the_span_of_their_ends():
    rng = np.random.default_rng(7)
    for high, low in 10.0 ** rng.uniform(-12, 2, (50, 2)):
        start, end = max(high, low), min(high, low)
        for schedule in (linear(start, end, 97), cosine(start, 97, end), polynomial(start, end, 97, 3.3)):
            rates = np.array([schedule(taken) for taken in range(99)])
            assert rates[0] == start
            assert (rates[97:] == end).all()
            assert (np.diff(rates) <= 1e-15 * start).all()
            assert rates.min() >= end * (1 - 1e-15)


# The module itself


def test_the_examples_run():
    found = {example.name.split(".")[-1]: example.examples for example in doctest.DocTestFinder().find(schedules)}
    assert all(found[name] for name in schedules.__all__ if name != "Schedule")
    assert doctest.testmod(schedules).failed == 0


def test_needs_the_standard_library_alone():
    tree = ast.parse(inspect.getsource(schedules))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imported for alias in node.names if isinstance(node, ast.Import)}
    names |= {node.module for node in imported if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
