"""schuss.scipy_method in SciPy's minimize and its global searches, and schuss.minimize where there is no SciPy."""

from __future__ import annotations

import math
import pickle
import sys

import numpy as np
import pytest
from bowl import MINIMUM, both, bowl, slope

import schuss
from schuss.descent import minimize


def test_as_a_method_of_scipy():
    optimize = pytest.importorskip("scipy.optimize")
    method = schuss.scipy_method("adam", lr=0.1)
    result = optimize.minimize(optimize.rosen, [-1.2, 1.0], jac=optimize.rosen_der, method=method)
    assert type(result) is optimize.OptimizeResult
    assert result.success
    np.testing.assert_allclose(result.x, 1.0, atol=1e-4)
    own = schuss.minimize(optimize.rosen, [-1.2, 1.0], "adam", jac=optimize.rosen_der, lr=0.1)
    assert (result.nit, result.fun) == (own.nit, own.fun)
    for key in ("x", "fun", "jac", "nit", "nfev", "njev", "status", "success", "message"):
        assert key in result
    assert method.keywords == pickle.loads(pickle.dumps(method)).keywords


SCIPY = [
    ({"jac": slope}, 0),
    ({"jac": True, "fun": both}, 0),
    ({}, 0),
    ({"jac": "3-point"}, 0),
    ({"jac": slope, "tol": 1e-2}, 0),
    ({"jac": slope, "options": {"maxiter": 3}}, 1),
    ({"jac": slope, "options": {"gtol": 0.0, "xtol": 1e-3}}, 2),
    ({"jac": slope, "options": {"lr": 10.0}}, 3),
    ({"jac": slope, "x0": [4, 5]}, 0),
    ({"jac": slope, "x0": np.array([4.0, 5.0], np.float32), "tol": 1e-2}, 0),
    ({"jac": lambda x, a: slope(x), "fun": lambda x, a: bowl(x), "args": (1,)}, 0),
    ({"jac": lambda x, a: slope(x), "fun": lambda x, a: bowl(x), "args": 1}, 0),
    ({"jac": slope, "constraints": (), "bounds": None}, 0),
]


@pytest.mark.parametrize(("arguments", "status"), SCIPY)
def test_arguments_of_scipy(arguments, status):
    optimize = pytest.importorskip("scipy.optimize")
    method = schuss.scipy_method("sgd", lr=0.05)
    result = optimize.minimize(**{"fun": bowl, "x0": np.array([4.0, 5.0]), "method": method, **arguments})
    assert result.status == status
    if status == 0:
        np.testing.assert_allclose(result.x, MINIMUM, atol=1e-2 if "tol" in arguments else 1e-5)
    if arguments.get("jac") is True:
        assert result.nit > 10


def test_callback_of_scipy():
    optimize = pytest.importorskip("scipy.optimize")
    points, results = [], []

    def by_result(intermediate_result):
        results.append(intermediate_result.fun)

    def stop(xk):
        raise StopIteration

    method = schuss.scipy_method("sgd", lr=0.05, return_path=True)
    for callback in (points.append, by_result):
        result = optimize.minimize(bowl, [4.0, 5.0], jac=slope, method=method, callback=callback)
    np.testing.assert_array_equal(points, result.path[1:])
    np.testing.assert_array_equal(results, result.path_fun[1:])
    assert optimize.minimize(bowl, [4.0, 5.0], jac=slope, method=method, callback=stop).status == 99


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bounds": [(0, 1), (0, 1)]}, "bounds: expected none"),
        ({"constraints": [{"type": "eq", "fun": bowl}]}, "constraints: expected none"),
        ({"hess": lambda x: np.eye(2)}, "hess: expected none"),
    ],
)
def test_refused_through_scipy(arguments, message):
    optimize = pytest.importorskip("scipy.optimize")
    with pytest.raises(ValueError, match=message):
        optimize.minimize(bowl, [4.0, 5.0], jac=slope, method=schuss.scipy_method("adam"), **arguments)


def test_options_of_scipys_methods():
    optimize = pytest.importorskip("scipy.optimize")
    with pytest.raises(TypeError, match="ftol: an option of SciPy's own methods"):
        optimize.minimize(bowl, [4.0, 5.0], jac=slope, method=schuss.scipy_method("adam"), options={"ftol": 1e-3})


def test_methods_are_checked_when_they_are_made():
    with pytest.raises(ValueError, match="optimizer: unknown name 'adm', did you mean 'adam'"):
        schuss.scipy_method("adm")
    with pytest.raises(TypeError, match="scipy_method: jac is an argument of "):
        schuss.scipy_method("adam", jac=slope)
    with pytest.raises(TypeError, match=r"maxfev: an option of SciPy's own methods, .* maxiter, gtol and xtol"):
        schuss.scipy_method("adam", maxfev=100)


def test_global_searches():
    optimize = pytest.importorskip("scipy.optimize")

    def waves(x):
        return math.cos(14.5 * x[0] - 0.3) + (x[0] + 0.2) * x[0]

    found = optimize.basinhopping(
        waves, [1.0], niter=30, rng=0, minimizer_kwargs={"method": schuss.scipy_method("momentum", lr=0.002)}
    )
    assert found.x[0] == pytest.approx(-0.1951, abs=1e-4)
    assert found.fun == pytest.approx(-1.000876, abs=1e-6)


def test_a_global_search_survives_starts_that_are_not_finite():
    optimize = pytest.importorskip("scipy.optimize")
    method = schuss.scipy_method("adam", lr=0.05)
    result = optimize.minimize(lambda x: np.nan, [1.0], jac=lambda x: x, method=method)
    assert (result.success, result.status, result.nit) == (False, 3, 0)
    assert result.message == "At x0, fun is nan."
    assert result.x == 1.0

    def half(x):  # nothing below zero
        return x[0] - math.log(x[0]) if x[0] > 0 else math.nan

    found = optimize.basinhopping(half, [0.5], niter=20, stepsize=3.0, rng=1, minimizer_kwargs={"method": method})
    assert found.minimization_failures > 0
    assert found.x[0] == pytest.approx(1.0, abs=1e-4)


@pytest.fixture
def no_scipy(monkeypatch):
    """As if SciPy were not installed."""
    for module in ("scipy", "scipy.optimize", "scipy.differentiate"):
        monkeypatch.setitem(sys.modules, module, None)
    minimize._result_class.cache_clear()
    yield
    minimize._result_class.cache_clear()


@pytest.mark.parametrize("jac", [slope, None])
def test_without_scipy(no_scipy, jac):
    result = schuss.minimize(bowl, [4.0, 5.0], "sgd", jac=jac, lr=0.05, return_path=True, gtol=1e-4)
    assert type(result) is minimize.Result
    assert result.success
    assert result["x"] is result.x
    np.testing.assert_allclose(result.x, MINIMUM, atol=1e-4)
    assert {"x", "fun", "jac", "nit", "nfev", "njev", "status", "success", "message", "path"} <= set(dir(result))
    assert "success: True" in repr(result)
    result.note = 3
    assert result["note"] == 3
    with pytest.raises(AttributeError, match="hess"):
        result.hess  # noqa: B018


def test_differences_without_scipy(no_scipy):
    check = schuss.check_gradient(lambda x: np.sin(3.0 * x).sum(), lambda x: 3.0 * np.cos(3.0 * x), [0.5, 1.5])
    assert 1e-13 < check.error < 1e-8  # central ones are not as good
