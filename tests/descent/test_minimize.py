"""schuss.minimize: what comes back, when it stops, and what is refused."""

from __future__ import annotations

import math
import re
from fractions import Fraction

import numpy as np
import pytest
from bowl import MINIMUM, both, bowl, slope

import schuss
from schuss.optim import registry
from schuss.optim.registry import VARIANTS

# Name, learning rate. AdamW pulls to zero: it has no place here with its default decay.
NAMES = [
    ("sgd", 0.05),
    ("SGD", 0.05),
    ("momentum", 0.02),
    ("nesterov", 0.02),
    ("adagrad", 1.0),
    ("rmsprop-momentum", lambda step: 0.05 * 0.99**step),
    ("adam", 0.1),
    ("amsgrad", 0.1),
    ("Adam AMSGrad", 0.1),
    ("adamw", None),
]


@pytest.mark.parametrize(("name", "lr"), NAMES)
@pytest.mark.parametrize(("fun", "jac"), [(bowl, slope), (both, True), (bowl, None)], ids=["jac", "both", "none"])
def test_finds_the_minimum(name, lr, fun, jac):
    options = {"lr": 0.1, "weight_decay": 0.0} if lr is None else {"lr": lr}
    result = schuss.minimize(fun, [4, 5], name, jac=jac, maxiter=3000, **options)
    assert result.success, result.message
    np.testing.assert_allclose(result.x, MINIMUM, atol=1e-5)
    assert result.fun == bowl(result.x)
    np.testing.assert_allclose(result.jac, slope(result.x), atol=1e-9)
    assert 10 < result.nit < 3000
    assert result.njev == result.nit + 1
    if jac is not None:
        assert result.nfev == result.nit + 1
    else:
        assert result.nfev > 4 * result.nit


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "amsgrad", "adamw"])
def test_short_names(name):
    assert registry.key(name) in VARIANTS
    assert registry.key(name.upper()) == registry.key(name)


@pytest.mark.parametrize("key", VARIANTS)
def test_names_make_what_the_table_says(key):
    by_name, by_table = np.ones(3), np.ones(3)
    for optimizer in (registry.factory(key)([by_name], lr=0.1), VARIANTS[key].build([by_table], lr=0.1)):
        optimizer.step([np.array([1.0, -2.0, 3.0])])
        optimizer.step([np.array([1.0, -2.0, 0.5])])
    np.testing.assert_array_equal(by_name, by_table)
    assert type(optimizer).__name__ == VARIANTS[key].optimizer
    for text in (VARIANTS[key].title, key.replace("-", "_"), f" {key} ".upper()):
        assert registry.key(text.replace(",", "")) == key


@pytest.mark.parametrize(
    "optimizer", [schuss.Adam, lambda params, **options: schuss.Adam(params, **options)], ids=["class", "function"]
)
def test_classes_and_functions(optimizer):
    result = schuss.minimize(bowl, [4.0, 5.0], optimizer, jac=slope, lr=0.1)
    assert result.nit == schuss.minimize(bowl, [4.0, 5.0], "adam", jac=slope, lr=0.1).nit


def test_the_steps_are_the_optimizers():
    x = np.array([4.0, 5.0])
    optimizer, points = schuss.SGD([x], lr=0.01, momentum=0.9), [x.copy()]
    for _ in range(25):
        optimizer.step([slope(x)])
        points.append(x.copy())
    result = schuss.minimize(bowl, [4.0, 5.0], "momentum", lr=0.01, jac=slope, maxiter=25, return_path=True)
    np.testing.assert_array_equal(result.path, points)
    np.testing.assert_array_equal(result.path_fun, [bowl(point) for point in points])
    assert "path" not in schuss.minimize(bowl, [4.0, 5.0], "momentum", lr=0.01, jac=slope, maxiter=25)


# ------------------------------------------------------------------------------------------------------ when it stops

STOPS = [
    ({"lr": 0.05}, 0, True, r"Stationary point: the gradient's norm, \d.*e-06, is not above gtol\."),
    ({"lr": 0.05, "gtol": 1.0}, 0, True, "Stationary point"),
    ({"lr": 0.05, "tol": 1.0}, 0, True, "Stationary point"),
    ({"lr": 0.05, "gtol": 0, "xtol": 1e-6}, 2, True, r"Small step: the last one's norm, \d.*e-07, is not above xtol\."),
    ({"lr": 1e-30}, 2, True, "Small step: the last one's norm, 0, is not above xtol"),
    ({"lr": 0.0}, 2, True, "Small step"),
    (
        {"lr": 0.05, "maxiter": 7},
        1,
        False,
        "Out of steps: made maxiter, 7, and the gradient's norm is [^.]*[.][^.]*[.]$",
    ),
    ({"lr": 0.25, "maxiter": 7}, 1, False, "fun is worse than at x0: a smaller learning rate may help"),
    ({"lr": 0.05, "maxiter": 0}, 1, False, "Out of steps: made maxiter, 0"),
    ({"lr": 1.0}, 3, False, "Diverged: after step .* is inf. This is the last finite point; a smaller learning rate"),
    ({"lr": 1e200}, 3, False, "Diverged: after step 1, fun is inf"),
    ({"lr": 1.7e308}, 3, False, "Diverged: after step 1, x is -?inf"),
]


@pytest.mark.parametrize(("options", "status", "success", "message"), STOPS)
def test_says_why_it_stopped(options, status, success, message, recwarn):
    result = schuss.minimize(bowl, [4.0, 5.0], "sgd", jac=slope, return_path=True, **options)
    assert (result.status, result.success) == (status, success)
    assert re.search(message, result.message), result.message
    assert "\n" not in result.message
    assert np.isfinite(result.x).all()
    assert math.isfinite(result.fun)
    assert np.isfinite(result.jac).all()
    assert len(result.path) == len(result.path_fun) == result.nit + 1
    np.testing.assert_array_equal(result.path[-1], result.x)
    assert result.path_fun[-1] == result.fun == bowl(result.x)
    assert not recwarn.list


def test_limits_are_where_they_are_said_to_be():
    near = schuss.minimize(bowl, [4.0, 5.0], "sgd", lr=0.05, jac=slope, gtol=1e-3, return_path=True)
    norms = [np.linalg.norm(slope(x)) for x in near.path]
    assert norms[-1] <= 1e-3 < min(norms[:-1])
    small = schuss.minimize(bowl, [4.0, 5.0], "sgd", lr=0.05, jac=slope, xtol=1e-3, return_path=True)
    steps = np.linalg.norm(np.diff(small.path, axis=0), axis=1)
    assert steps[-1] <= 1e-3 < min(steps[:-1])
    assert schuss.minimize(bowl, [4.0, 5.0], "sgd", lr=0.05, jac=slope, tol=1e-2, gtol=1e-4).nit > near.nit


def test_at_a_stationary_point_nothing_is_done():
    result = schuss.minimize(bowl, MINIMUM, "adam", jac=slope)
    assert (result.nit, result.nfev, result.success) == (0, 1, True)


def test_a_warmup_from_zero_is_no_small_step():
    lr = schuss.schedules.warmup(0.05, steps=10)
    result = schuss.minimize(bowl, [4.0, 5.0], "sgd", lr=lr, jac=slope, return_path=True)
    assert result.status == 0
    np.testing.assert_array_equal(result.path[0], result.path[1])
    np.testing.assert_allclose(result.x, MINIMUM, atol=1e-5)


def test_up():
    result = schuss.minimize(
        lambda x: -bowl(x), [4.0, 5.0], "momentum", lr=0.02, maximize=True, jac=lambda x: -slope(x)
    )
    assert result.success
    np.testing.assert_allclose(result.x, MINIMUM, atol=1e-5)
    assert -1e-9 < result.fun <= 0.0
    worse = schuss.minimize(bowl, [4.0, 5.0], "sgd", lr=0.01, maximize=True, jac=slope, maxiter=5)
    assert worse.fun > bowl(np.array([4.0, 5.0]))
    assert "worse" not in worse.message


def test_bottomless():
    result = schuss.minimize(lambda x: -(x[0] ** 2), [1.0], "sgd", lr=0.5, jac=lambda x: -2.0 * x)
    assert result.status == 3
    assert result.x[0] > 1e150


# ---------------------------------------------------------------------------------------------- kinds of x0, fun, jac

STARTS = [
    (np.array([4, 5]), (2,), np.float64),
    ([4, 5], (2,), np.float64),
    ((True, False), (2,), np.float64),
    (np.array([4.0, 5.0], np.float32), (2,), np.float32),
    (np.array([4.0, 5.0], np.float16), (2,), np.float16),
    (np.array([4.0, 5.0], np.longdouble), (2,), np.float64),
    (np.array([4.0, 5.0], ">f8"), (2,), np.float64),
    (np.arange(12.0).reshape(3, 4), (3, 4), np.float64),
    (np.asfortranarray(np.arange(12.0).reshape(3, 4)), (3, 4), np.float64),
    (np.arange(20.0)[::2], (10,), np.float64),
    (np.broadcast_to(3.0, (2, 3)), (2, 3), np.float64),
    (4, (1,), np.float64),
    (np.array(4.0), (1,), np.float64),
    (np.float32(4.0), (1,), np.float32),
]


@pytest.mark.parametrize(("x0", "shape", "dtype"), STARTS)
@pytest.mark.parametrize("given", [True, False], ids=["jac", "differences"])
def test_starts(x0, shape, dtype, given):
    before = np.array(x0)
    seen = []

    def fun(x):
        seen.append(x)
        return ((x - 2.0) ** 2).sum()

    jac = (lambda x: 2.0 * (x - 2.0)) if given else None
    result = schuss.minimize(fun, x0, "sgd", jac=jac, lr=0.2, gtol=1e-2)
    assert result.success
    assert result.x.shape == result.jac.shape == shape
    assert result.x.dtype == result.jac.dtype == dtype
    assert {x.shape for x in seen} == {shape}
    np.testing.assert_allclose(result.x.astype(float), 2.0, atol=6e-3)
    np.testing.assert_array_equal(before, x0)


def test_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x0 = np.array([4.0, 5.0], ml_dtypes.bfloat16)
    result = schuss.minimize(bowl, x0, "sgd", jac=slope, lr=0.05, gtol=0.5)
    assert result.success
    assert result.x.dtype == x0.dtype


VALUES = [
    lambda x: np.array([bowl(x)]),
    lambda x: np.array([[bowl(x)]]),
    lambda x: np.float32(bowl(x)),
    lambda x: [bowl(x)],
    lambda x: round(bowl(x)),
    lambda x: Fraction(bowl(x)),
]


@pytest.mark.parametrize("fun", VALUES)
def test_values(fun):
    result = schuss.minimize(fun, [4.0, 5.0], "sgd", jac=slope, lr=0.05)
    assert isinstance(result.fun, float)
    np.testing.assert_allclose(result.x, MINIMUM, atol=1e-5)


@pytest.mark.parametrize("kind", [list, tuple, lambda g: g.astype(np.float32), lambda g: g.astype(object)])
def test_gradients(kind):
    result = schuss.minimize(bowl, [4.0, 5.0], "sgd", jac=lambda x: kind(slope(x)), lr=0.05, gtol=1e-4)
    assert result.success
    assert result.jac.dtype == np.float64


def test_one_number_may_have_a_gradient_of_any_shape():
    for jac in (lambda x: 2.0 * x[0], lambda x: [[2.0 * x[0]]], lambda x: 2.0 * x):
        assert schuss.minimize(lambda x: x[0] ** 2, 4.0, "sgd", jac=jac, lr=0.2).success


def test_what_the_function_does_with_x_does_not_matter():
    kept, buffer = [], np.empty(2)

    def fun(x):
        kept.append(x)
        value = bowl(x)
        x[...] = np.nan
        return value

    def jac(x):
        buffer[...] = slope(x)
        return buffer

    result = schuss.minimize(fun, [4.0, 5.0], "sgd", jac=jac, lr=0.05, return_path=True)
    expected = schuss.minimize(bowl, [4.0, 5.0], "sgd", jac=slope, lr=0.05, return_path=True)
    np.testing.assert_array_equal(result.path, expected.path)
    np.testing.assert_array_equal(result.jac, expected.jac)
    assert schuss.minimize(lambda x: x @ x / 2.0, [4.0], "sgd", jac=lambda x: x, lr=0.5).success  # its own argument


@pytest.mark.parametrize("args", [(3.0,), 3.0])
def test_args(args):
    result = schuss.minimize(lambda x, a: (x[0] - a) ** 2, [0.0], "sgd", args=args, lr=0.2)
    assert result.x == pytest.approx(3.0, abs=1e-5)
    result = schuss.minimize(
        lambda x, a: (x[0] - a) ** 2, [0.0], "sgd", args=args, jac=lambda x, a: 2 * (x - a), lr=0.2
    )
    assert result.x == pytest.approx(3.0, abs=1e-5)


def test_pythons_overflow_is_divergence():
    result = schuss.minimize(
        lambda x: math.exp(x[0]), [1.0], "sgd", lr=1.0, maximize=True, jac=lambda x: [math.exp(x[0])]
    )
    assert result.status == 3
    assert math.isfinite(result.fun)


def test_disp(capsys):
    result = schuss.minimize(bowl, [4.0, 5.0], "sgd", jac=slope, lr=0.05, disp=True)
    out = capsys.readouterr().out
    assert out.startswith(result.message)
    assert f"steps: {result.nit}\n" in out
    schuss.minimize(bowl, [4.0, 5.0], "sgd", jac=slope, lr=0.05)
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------------------------------------------------ callback


def test_callbacks():
    points, results = [], []

    def by_result(*, intermediate_result):
        results.append(intermediate_result)

    for callback in (points.append, by_result):
        result = schuss.minimize(bowl, [4.0, 5.0], "sgd", jac=slope, lr=0.05, callback=callback, return_path=True)
    np.testing.assert_array_equal(points, result.path[1:])
    np.testing.assert_array_equal([r.x for r in results], result.path[1:])
    np.testing.assert_array_equal([r.fun for r in results], result.path_fun[1:])
    assert [r.nit for r in results] == list(range(1, result.nit + 1))
    np.testing.assert_array_equal(results[-1].jac, result.jac)


def test_a_callback_can_change_what_it_is_given():
    def spoil(intermediate_result):
        intermediate_result.x[...] = np.nan
        intermediate_result.jac[...] = np.nan

    result = schuss.minimize(bowl, [4.0, 5.0], "sgd", jac=slope, lr=0.05, callback=spoil)
    assert result.success


@pytest.mark.parametrize("whole", [True, False])
def test_a_callback_ends_the_run(whole):
    count = []

    def stop(intermediate_result):
        count.append(1)
        if len(count) == 3:
            raise StopIteration

    result = schuss.minimize(
        bowl, [4.0, 5.0], "sgd", jac=slope, lr=0.05, callback=stop if whole else lambda xk: stop(xk)
    )
    assert (result.nit, result.status, result.success) == (3, 99, False)
    assert result.message == "`callback` raised `StopIteration`."


def test_other_errors_of_the_callers_functions_reach_the_caller():
    def broken(x):
        raise KeyError("mine")

    for arguments in ({"fun": broken}, {"jac": broken}, {"callback": broken}):
        with pytest.raises(KeyError, match="mine"):
            schuss.minimize(**{"fun": bowl, "x0": [4.0, 5.0], "jac": slope, "lr": 0.05, **arguments})


# ----------------------------------------------------------------------------------------------------------- bad input

BAD = [
    ({"fun": lambda x: x}, ValueError, r"fun: expected a number, got an array of shape \(2,\)"),
    ({"fun": lambda x: None}, TypeError, "fun: expected a number, got None"),
    ({"fun": lambda x: "3.5"}, TypeError, "fun: expected a number, got '3.5'"),
    ({"fun": lambda x: "low"}, TypeError, "fun: expected a number, got 'low'"),
    ({"fun": lambda x: 1j}, TypeError, "fun: expected a number, got 1j"),
    ({"fun": lambda x: math.nan}, ValueError, "fun: expected a finite value at x0, got nan"),
    ({"fun": lambda x: -math.inf}, ValueError, "fun: expected a finite value at x0, got -inf"),
    ({"fun": lambda x: math.exp(1e4)}, ValueError, "fun: expected a finite value at x0, got inf"),
    ({"fun": lambda x: math.nan, "jac": None}, ValueError, "fun: expected a finite value at x0, got nan"),
    ({"fun": 3}, TypeError, "fun: expected a function, got 3"),
    ({"jac": True}, TypeError, r"fun: expected a pair \(value, gradient\) from it, as jac=True says; got "),
    ({"jac": lambda x: slope(x)[:1]}, ValueError, r"jac: expected shape \(2,\), that of x; got \(1,\)"),
    ({"jac": lambda x: slope(x)[None]}, ValueError, r"jac: expected shape \(2,\), that of x; got \(1, 2\)"),
    ({"jac": lambda x: 1.0}, ValueError, r"jac: expected shape \(2,\), that of x; got \(\)"),
    ({"jac": lambda x: None}, TypeError, r"jac: expected an array of shape \(2,\), got None"),
    ({"jac": lambda x: slope(x) + 1j}, TypeError, r"jac: expected an array of shape \(2,\), got "),
    ({"jac": lambda x: slope(x) * [1.0, np.nan]}, ValueError, "jac: expected a finite value at x0, got nan"),
    ({"jac": "2-point"}, TypeError, "jac: expected a function, True where fun returns both, or None; got '2-point'"),
    ({"x0": []}, ValueError, r"x0: expected at least one number, got shape \(0,\)"),
    ({"x0": [1.0, np.nan]}, ValueError, r"x0: expected finite numbers, got nan at index \(1,\)"),
    ({"x0": math.inf}, ValueError, "x0: expected finite numbers, got inf$"),
    ({"x0": "here"}, TypeError, "x0: expected an array of real numbers, got 'here'"),
    ({"x0": None}, TypeError, "x0: expected an array of real numbers, got None"),
    ({"x0": {"w": 1.0}}, TypeError, "x0: expected an array of real numbers, got {'w': 1.0}"),
    ({"x0": ["1", "2"]}, TypeError, "x0: expected an array of real numbers"),
    ({"x0": [1.0, 2j]}, TypeError, r"x0: expected an array of real numbers, got \[1.0, 2j\]"),
    ({"x0": [[1.0], [2.0, 3.0]]}, ValueError, "x0: expected an array of numbers"),
    ({"optimizer": "rmspro"}, ValueError, "optimizer: unknown name 'rmspro', did you mean 'rmsprop'"),
    ({"optimizer": "momentun"}, ValueError, "optimizer: unknown name 'momentun', did you mean 'momentum'"),
    ({"optimizer": None}, TypeError, "optimizer: expected a name, a class or a function of the parameters, got None"),
    ({"optimizer": dict}, TypeError, "optimizer: expected a name, a class or a function of the parameters, got "),
    ({"optimizer": lambda params, lr: params}, TypeError, "optimizer: expected a function that returns a schuss optim"),
    ({"lr": -1.0}, ValueError, "lr: expected .*; got -1.0"),
    ({"lrr": 1.0}, TypeError, "unknown option 'lrr', did you mean 'lr'"),
    ({"maxiter": -1}, ValueError, "maxiter: expected a whole number of at least 0 or None, got -1"),
    ({"maxiter": True}, ValueError, "maxiter: expected a whole number of at least 0 or None, got True"),
    ({"maxiter": 10.0}, TypeError, "maxiter: expected a whole number of at least 0 or None, got 10.0"),
    ({"gtol": -1.0}, ValueError, "gtol: expected a finite number of at least 0 or None, got -1.0"),
    ({"xtol": math.nan}, ValueError, "xtol: expected a finite number of at least 0 or None, got nan"),
    ({"tol": "small"}, TypeError, "tol: expected a number of at least 0 or None, got 'small'"),
    ({"callback": 3}, TypeError, "callback: expected a function or None, got 3"),
    ({"bounds": [(0, 1), (0, 1)]}, ValueError, "bounds: .* gradient descent has no use for them; .*'L-BFGS-B'"),
    ({"constraints": {"type": "eq", "fun": bowl}}, ValueError, "constraints: .* no use for them; .*'SLSQP'"),
    ({"hess": lambda x: np.eye(2)}, ValueError, "hess: .* no use for them; .*'trust-constr'"),
    ({"hessp": lambda x, p: p}, ValueError, "hessp: .* no use for them; .*'trust-constr'"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_bad_input(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        schuss.minimize(**{"fun": bowl, "x0": [4.0, 5.0], "jac": slope, "lr": 0.05, **arguments})
    if "x0" not in arguments and not callable(arguments.get("hess")):
        assert "\n" not in str(caught.value)


def test_a_shape_that_changes_later():
    calls = []

    def jac(x):
        calls.append(1)
        return slope(x) if len(calls) < 4 else slope(x)[:1]

    with pytest.raises(ValueError, match=r"jac: expected shape \(2,\), that of x; got \(1,\)"):
        schuss.minimize(bowl, [4.0, 5.0], "sgd", jac=jac, lr=0.05)
