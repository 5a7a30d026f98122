"""Straight lines through data, and the line between two classes: hypothesis, cost, and the answer to compare with."""

from __future__ import annotations

import numpy as np

from ..core.optional import need
from .network import sigmoid
from .problem import Params, Problem
from .rates import RATES

INTERCEPT = 0.167
"""What ``bids_roi`` holds fixed."""


def bids_roi(points: int = 3) -> Problem:
    """A straight line through points, by the sum of squared errors; gradients are sums over the rows.

    ``points=3``: through x = (0, 1, 2), y = (1, 3, 10), the intercept fixed at 0.167, so that ``slope`` is the one
    parameter; from 1, plain descent with ``lr=0.08`` visits 3.80, 4.36, 4.47, 4.49, ... on its way to 4.4998.
    ``points=100`` (in :func:`schuss.problems.names`: ``bids_roi_100``): y = 0.6 x + 5 and normal noise, x even in [0,
    10], for ``slope`` and ``intercept``, both from 0.

    Raises
    ------
    ValueError
        For another number of points.
    """
    if points not in (3, 100):
        raise ValueError(f"points: expected 3 or 100, got {points!r}")
    if points == 3:
        x, y = np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 10.0])
    else:
        rng = np.random.default_rng(0)
        x = rng.uniform(0.0, 10.0, points)
        y = 0.6 * x + rng.standard_normal(points) + 5.0

    def start() -> Params:
        return {"slope": np.ones(1)} if points == 3 else {"slope": np.zeros(1), "intercept": np.zeros(1)}

    def errors(params: Params, X: np.ndarray, y: np.ndarray) -> np.ndarray:
        return params["slope"] * X[:, 0] + params.get("intercept", INTERCEPT) - y

    def loss(params: Params, X: np.ndarray = x[:, None], y: np.ndarray = y) -> float:
        return float(np.square(errors(params, X, y)).sum())

    def gradient(params: Params, X: np.ndarray = x[:, None], y: np.ndarray = y) -> Params:
        error = errors(params, X, y)
        full = {"slope": np.array([2.0 * error @ X[:, 0]]), "intercept": np.array([2.0 * error.sum()])}
        return {name: full[name] for name in params}

    if points == 3:
        answer = {"slope": np.array([x @ (y - INTERCEPT) / (x @ x)])}
    else:
        slope, intercept = np.linalg.lstsq(np.stack([x, np.ones(points)], axis=1), y, rcond=None)[0]
        answer = {"slope": np.array([slope]), "intercept": np.array([intercept])}
    name = "bids_roi" if points == 3 else "bids_roi_100"
    return Problem(
        name=name,
        title=f"a straight line through {points} points",
        source="an exercise: the return on investment y of bids x",
        start=start,
        loss=loss,
        gradient=gradient,
        X=x[:, None],
        y=y,
        answer=answer,
        view=((0.0, 9.0), (0.0, 110.0)) if points == 3 else ((-0.6, 1.8), (-2.0, 10.0)),
        lrs=RATES[name],
        epochs=50 if points == 3 else 1000,
    )


def linear_regression() -> Problem:
    """Linear regression on scikit-learn's diabetes data: 442 patients, 10 measurements, the disease a year later.

    The hypothesis is ``X @ w + b``, the cost ``sum((X @ w + b - y)**2) / (2 m)`` over the m rows it is given; gradients
    are means. The columns have mean 0 and variance 1. The answer is the least-squares solution in closed form.

    Raises
    ------
    ImportError
        Without scikit-learn.
    """
    data = need("sklearn.datasets", "scikit-learn", "linear_regression").load_diabetes()
    X, y = _standardized(data.data), data.target.astype(np.float64)

    def loss(params: Params, X: np.ndarray = X, y: np.ndarray = y) -> float:
        return float(np.square(X @ params["w"] + params["b"] - y).mean() / 2.0)

    def gradient(params: Params, X: np.ndarray = X, y: np.ndarray = y) -> Params:
        error = X @ params["w"] + params["b"] - y
        return {"w": X.T @ error / len(y), "b": error.mean(keepdims=True)}

    solution = np.linalg.lstsq(np.column_stack([X, np.ones(len(y))]), y, rcond=None)[0]
    return Problem(
        name="linear_regression",
        title="linear regression, 442 patients with diabetes",
        source="Efron, Hastie, Johnstone & Tibshirani 2004, Least Angle Regression, as in scikit-learn",
        start=lambda: {"w": np.zeros(X.shape[1]), "b": np.zeros(1)},
        loss=loss,
        gradient=gradient,
        X=X,
        y=y,
        answer={"w": solution[:-1], "b": solution[-1:]},
        lrs=RATES["linear_regression"],
        epochs=200,
    )


def logistic_regression(penalty: float = 1.0) -> Problem:
    """Logistic regression on scikit-learn's breast cancer data: 569 tumours, 30 measurements, benign (1) or not (0).

    The hypothesis is ``sigmoid(X @ w + b)``, the cost the mean cross entropy of the rows it is given plus
    ``penalty / (2 m) * sum(w**2)`` with m = 569 for any rows; gradients are means in the same way. The columns have
    mean 0 and variance 1. The answer is that of scikit-learn's ``LogisticRegression(C=1 / penalty)``. ``score`` is the
    share of tumours named rightly.

    Raises
    ------
    ImportError
        Without scikit-learn.
    ValueError
        Unless the penalty is a finite number above 0. (Without one, weights grow for ever where a plane parts the two.)
    """
    if not 0.0 < penalty < np.inf:
        raise ValueError(f"penalty: expected a finite number above 0, got {penalty!r}")
    data = need("sklearn.datasets", "scikit-learn", "logistic_regression").load_breast_cancer()
    models = need("sklearn.linear_model", "scikit-learn", "logistic_regression")
    X, y = _standardized(data.data), data.target.astype(np.float64)
    ridge = penalty / len(y)

    def loss(params: Params, X: np.ndarray = X, y: np.ndarray = y) -> float:
        z = X @ params["w"] + params["b"]
        entropy = np.logaddexp(0.0, z) - y * z  # -y log(h) - (1 - y) log(1 - h), without the logarithm of 0
        return float(entropy.mean() + ridge / 2.0 * (params["w"] @ params["w"]))

    def gradient(params: Params, X: np.ndarray = X, y: np.ndarray = y) -> Params:
        error = sigmoid(X @ params["w"] + params["b"]) - y
        return {"w": X.T @ error / len(y) + ridge * params["w"], "b": error.mean(keepdims=True)}

    def score(params: Params) -> float:
        return float(((X @ params["w"] + params["b"] > 0.0) == (y > 0.5)).mean())

    fitted = models.LogisticRegression(C=1.0 / penalty, solver="newton-cholesky", tol=1e-10).fit(X, y)
    return Problem(
        name="logistic_regression",
        title="logistic regression, 569 tumours",
        source="Street, Wolberg & Mangasarian 1993, Nuclear Feature Extraction for Breast Tumor Diagnosis, as in "
        "scikit-learn",
        start=lambda: {"w": np.zeros(X.shape[1]), "b": np.zeros(1)},
        loss=loss,
        gradient=gradient,
        X=X,
        y=y,
        answer={"w": fitted.coef_[0].copy(), "b": fitted.intercept_.copy()},
        score=score,
        lrs=RATES["logistic_regression"],
        epochs=200,
    )


def _standardized(X: np.ndarray) -> np.ndarray:
    return (X - X.mean(axis=0)) / X.std(axis=0)
