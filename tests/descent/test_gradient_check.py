"""schuss.check_gradient, and gradients from differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from bowl import both, bowl, slope

import schuss
from schuss.descent.finite_differences import gradient

FUNCTIONS = [
    (lambda x: np.sin(3.0 * x).sum(), lambda x: 3.0 * np.cos(3.0 * x)),
    (lambda x: np.exp(x).sum(), np.exp),
    (lambda x: (x**5).prod(), lambda x: 5.0 * (x**5).prod() / x),
    (lambda x: sum(math.log(v) for v in x.ravel()), lambda x: 1.0 / x),
]


@pytest.mark.parametrize(("fun", "jac"), FUNCTIONS)
@pytest.mark.parametrize("x", [[0.5, 1.5], [[0.7, 2.0, 0.1], [1.0, 1.3, 0.4]], 0.02, [1]], ids=str)
def test_right_gradients(fun, jac, x):
    pytest.importorskip("scipy.differentiate")
    check = schuss.check_gradient(fun, jac, x)
    assert check.error < 1e-9, check
    assert len(check.where) == max(1, np.ndim(x))


def test_a_function_computed_in_float32():
    """Steps that are too small find only its rounding."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(100).astype(np.float32)

    def fun(x):
        return float(np.sin(weights * x.astype(np.float32)).sum())

    check = schuss.check_gradient(fun, lambda x: weights * np.cos(weights * x), rng.standard_normal(100))
    assert check.error < 1e-2


def test_near_the_border_of_the_domain():
    """The first steps of SciPy's differences would lead below zero, where the logarithm raises."""
    assert schuss.check_gradient(lambda x: math.log(x[0]), lambda x: 1.0 / x, [1e-3]).error < 1e-4
    assert schuss.check_gradient(lambda x: np.sqrt(x[0]), lambda x: 0.5 / np.sqrt(x), [1e-3]).error < 1e-4


def test_wrong_gradients_are_found_where_they_are():
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((5, 4))

    def fun(x, scale):
        return scale * np.sum(matrix * np.sin(x))

    def jac(x, scale, wrong=(3, 2)):
        right = scale * matrix * np.cos(x)
        right[wrong] += 1e-3
        return right

    check = schuss.check_gradient(fun, jac, rng.standard_normal((5, 4)), args=(2.0,))
    assert check.where == (3, 2)
    assert check.given - check.expected == pytest.approx(1e-3, rel=1e-4)
    assert check.error == pytest.approx(1e-3 / max(1.0, abs(check.given), abs(check.expected)), rel=1e-4)
    assert "at element (3, 2): jac gives " in str(check)


def test_check_of_a_pair():
    assert schuss.check_gradient(both, True, [4.0, 5.0]).error < 1e-10


def test_a_gradient_that_is_not_finite():
    check = schuss.check_gradient(bowl, lambda x: slope(x) * [1.0, math.nan], [4.0, 5.0])
    assert check.error == math.inf
    assert check.where == (1,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"jac": None}, TypeError, "jac: expected a function, or True where fun returns both; got None"),
        ({"fun": slope}, ValueError, r"fun: expected a number, got an array of shape \(2,\)"),
        ({"fun": lambda x: math.nan}, ValueError, "fun: expected a finite number at x, got nan"),
        ({"jac": lambda x: x[:1]}, ValueError, r"jac: expected shape \(2,\), that of x; got \(1,\)"),
        ({"x": [1.0, math.inf]}, ValueError, r"x: expected finite numbers, got inf at index \(1,\)"),
    ],
)
def test_what_cannot_be_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        schuss.check_gradient(**{"fun": bowl, "jac": slope, "x": [4.0, 5.0], **arguments})


def test_differences_leave_the_callers_floating_point_errors_alone():
    with np.errstate(over="raise"), pytest.raises(FloatingPointError):
        schuss.minimize(lambda x: np.exp(x[0]), [700.0], "sgd", lr=1e-303, maximize=True, jac=lambda x: np.exp(x) * 10)
    assert gradient(lambda x: float(x @ x), np.array([1.0, 2.0])) == pytest.approx([2.0, 4.0])


@pytest.mark.parametrize("x", [1e-3, -1e-3, 0.3, -1e-4])
def test_beside_a_kink(x):
    assert schuss.check_gradient(lambda x: abs(x[0]), np.sign, x).error < 2e-2
