"""schuss.problems: exact gradients, known answers, and the paths that optimizers are known to take."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

import schuss
from schuss import problems
from schuss.optim.registry import CLASSIC, VARIANTS

NEEDS_SKLEARN = {"linear_regression", "logistic_regression", "blobs_network", "digits_mlp"}


def make(name, **options):
    if name in NEEDS_SKLEARN:
        pytest.importorskip("sklearn")
    return problems.make(name, **options)


every = pytest.mark.parametrize("name", problems.names())


@every
def test_is_what_it_says(name):
    problem = make(name)
    assert problem.name == name
    assert problem.title
    assert problem.source
    one, other = problem.start(), problem.start()
    dtype = np.float32 if name == "digits_mlp" else np.float64
    for key, array in one.items():
        assert array.ndim >= 1
        assert array.dtype == dtype
        assert not np.shares_memory(array, other[key])
        np.testing.assert_array_equal(array, other[key])
    before = {key: array.copy() for key, array in one.items()}
    slopes = problem.gradient(one)
    assert isinstance(problem.loss(one), float)
    assert list(slopes) == list(one)
    for key, array in one.items():
        assert slopes[key].shape == array.shape
        assert slopes[key].dtype == dtype
        np.testing.assert_array_equal(array, before[key])
    assert set(CLASSIC) <= set(problem.lrs) <= set(VARIANTS)
    assert min(problem.lrs.values()) > 0.0
    if problem.view is not None:
        assert sum(array.size for array in one.values()) <= 2
        for low, high in problem.view:
            assert low < high


@every
def test_gradient_is_that_of_the_loss(name):
    """Everywhere near the start, on all data and on some rows; of the digits, some elements."""
    problem = make(name)
    rng = np.random.default_rng(0)
    start = problem.vector(problem.start()).astype(np.float64)
    x = start + 0.1 * rng.standard_normal(start.shape)
    data = [()]
    if problem.X is not None:
        X = problem.X.astype(np.float64)
        data += [(X[rows], problem.y[rows]) for rows in (slice(1, 2), slice(0, len(X) // 2 + 1))]
    if name == "digits_mlp":
        places = rng.choice(len(x), 60, replace=False)
        given = problem.jac(x, X, problem.y)[places]
        for place, slope in zip(places, given, strict=True):
            step = np.zeros_like(x)
            step[place] = 1e-6
            expected = (problem.fun(x + step, X, problem.y) - problem.fun(x - step, X, problem.y)) / 2e-6
            np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-8)
        return
    for rows in data:
        check = schuss.check_gradient(problem.fun, problem.jac, x, args=rows)
        assert check.error < 1e-7, check


@every
def test_gradients_of_parts_make_the_whole(name):
    """Gradients are sums over the rows, or means."""
    problem = make(name)
    if problem.X is None:
        pytest.skip("no data")
    params, count = problem.start(), len(problem.y)
    split = count // 3
    parts = [slice(0, split), slice(split, count)]
    slopes = [problem.gradient(params, problem.X[rows], problem.y[rows]) for rows in parts]
    weights = [split / count, 1.0 - split / count]
    if name in ("bids_roi", "bids_roi_100", "sigmoid_neuron", "sigmoid_neuron_b"):
        weights = [1.0, 1.0]
    for key, whole in problem.gradient(params).items():
        together = sum(weight * part[key] for weight, part in zip(weights, slopes, strict=True))
        np.testing.assert_allclose(together, whole, rtol=1e-5 if name == "digits_mlp" else 1e-12, atol=1e-6)


@every
def test_answer_is_stationary_and_better_than_the_start(name):
    problem = make(name)
    if problem.answer is None:
        assert problem.score is not None
        return
    assert list(problem.answer) == list(problem.start())
    assert np.abs(problem.vector(problem.gradient(problem.answer))).max() < 1e-6
    better, worse = problem.loss(problem.answer), problem.loss(problem.start())
    assert better > worse if problem.maximize else better < worse
    if problem.view is not None:
        for value, (low, high) in zip(problem.vector(problem.answer), problem.view, strict=False):
            assert low < value < high


# Of the way down: most of it, but for plain descent on the plateau of the neuron.
@pytest.mark.parametrize("key", CLASSIC)
@every
def test_learning_rates_do_well(name, key):
    problem = make(name)
    history = problems.train(
        problem, key, strategy=problem.strategy, batch_size=problem.batch_size, epochs=min(problem.epochs, 500)
    )
    assert not history.diverged
    sign = -1.0 if problem.maximize else 1.0
    start, end = sign * history.losses[0], sign * history.loss
    answer = {"sine_parabola": -4.45433579723862}.get(name)
    if answer is None:
        answer = 0.0 if problem.answer is None else problem.loss(problem.answer)
    part = 0.7 if name == "sigmoid_neuron" else 0.25
    assert end - answer < part * (start - answer)
    assert end > answer - 1e-9 * abs(answer)


def test_bids_roi_visits_the_known_slopes():
    problem = problems.bids_roi()
    history = problems.train(problem, lambda params: schuss.SGD(params, lr=0.08), epochs=30, record="step")
    slopes = [point["slope"].item() for point in history.path]
    assert [f"{slope:.2f}" for slope in slopes[:5]] == ["1.00", "3.80", "4.36", "4.47", "4.49"]
    assert f"{problem.answer['slope'].item():.1f}" == "4.5"
    assert slopes[-1] == pytest.approx(4.4998, abs=1e-12)
    np.testing.assert_array_equal(problem.X[:, 0], [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(problem.y, [1.0, 3.0, 10.0])


def test_bids_roi_of_100_points_stops_on_a_small_step():
    problem = problems.bids_roi(points=100)
    history = problems.train(problem, "sgd", xtol=1e-4, record="step")
    assert history.message == f"epoch {history.steps} moved the parameters by 9.95e-05, which is not more than xtol"
    assert 100 < history.steps < 1000
    steps = np.linalg.norm(np.diff([problem.vector(point) for point in history.path], axis=0), axis=1)
    assert steps[-1] <= 1e-4 < steps[:-1].min()
    expected = np.polynomial.Polynomial.fit(problem.X[:, 0], problem.y, 1).convert().coef[::-1]
    np.testing.assert_allclose(problem.vector(problem.answer), expected, rtol=1e-12)
    np.testing.assert_allclose(problem.vector(history.params), expected, atol=0.02)
    np.testing.assert_allclose(expected, [0.6, 5.0], atol=0.25)  # noise


def test_sine_parabola():
    problem = problems.sine_parabola()
    history = problems.train(problem, "sgd", lr=0.05, epochs=200)
    assert f"{history.params['x'].item():.5f}" == "-4.35641"
    assert f"{history.loss:.4f}" == "4.4543"
    assert f"{problem.answer['x'].item():.4f}" == "1.4542"
    assert f"{problem.loss(problem.answer):.4f}" == "22.7156"
    grid = np.linspace(-8, 8, 16001)
    assert (25.0 * np.sin(grid) - grid**2).max() <= problem.loss(problem.answer)


# Which gradient, which optimizer, and where it ends after 200 epochs at lr 0.5.
NEURON = [
    ({"mean": True}, lambda p: schuss.SGD(p, lr=0.5), ("-6.252984", "3.220149")),
    ({}, lambda p: schuss.SGD(p, lr=0.5, momentum=0.9), ("-0.033476", "-0.396938")),
    ({}, lambda p: schuss.Adagrad(p, lr=0.5), ("0.020341", "-0.426267")),
]


@pytest.mark.parametrize(("options", "optimizer", "end"), NEURON)
def test_sigmoid_neuron(options, optimizer, end):
    history = problems.train(problems.sigmoid_neuron("A", **options), optimizer, epochs=200)
    assert history.steps == 200
    assert tuple(f"{history.params[name].item():.6f}" for name in ("w", "b")) == end


def test_sigmoid_neuron_sets():
    a, b = problems.sigmoid_neuron(), problems.sigmoid_neuron("b")
    np.testing.assert_array_equal(a.X[:, 0], [3.5, 0.35, 3.2, -2.0, 1.5, -0.5])
    np.testing.assert_array_equal(a.y, [0.5, 0.5, 0.5, 0.5, 0.1, 0.3])
    np.testing.assert_array_equal(a.vector(a.start()), [-6.0, 4.0])
    np.testing.assert_array_equal(b.X[:, 0], [0.5, 2.5])
    np.testing.assert_array_equal(b.y, [0.2, 0.9])
    np.testing.assert_array_equal(b.vector(b.start()), [-2.0, -2.0])
    assert [f"{value:.6f}" for value in b.vector(b.answer)] == ["1.791759", "-2.282174"]
    assert b.loss(b.answer) < 1e-30
    history = problems.train(b, "adam", epochs=1000)
    np.testing.assert_allclose(b.vector(history.params), b.vector(b.answer), rtol=1e-7)
    mean = problems.sigmoid_neuron(mean=True)
    assert a.loss(a.start()) == pytest.approx(6.0 * mean.loss(a.start()), rel=1e-14)


def test_ripples():
    problem = problems.ripples()
    rng = np.random.default_rng(0)
    for x, y in rng.uniform(-3.0, 3.0, (20, 2)):
        point = {"x": np.full(1, x), "y": np.full(1, y)}
        assert problem.loss(point) == pytest.approx(
            math.cos(3 * x + 2 * y) + math.cos(2 * x + 4 * y) - 2 * math.sin(x + y), abs=1e-14
        )
    x, y = np.meshgrid(*[np.linspace(-np.pi, np.pi, 401)] * 2)
    lowest = (np.cos(3 * x + 2 * y) + np.cos(2 * x + 4 * y) - 2 * np.sin(x + y)).min()
    assert 0.0 <= lowest - problem.loss(problem.answer) < 1e-3
    history = problems.train(problem, "sgd", epochs=1000)
    np.testing.assert_allclose(problem.vector(history.params), problem.vector(problem.answer), atol=1e-7)


def test_rosenbrock_is_scipys():
    optimize = pytest.importorskip("scipy.optimize")
    problem = problems.rosenbrock()
    for x in np.random.default_rng(0).uniform(-2.0, 2.0, (20, 2)):
        assert problem.fun(x) == pytest.approx(optimize.rosen(x), rel=1e-12)
        np.testing.assert_allclose(problem.jac(x), optimize.rosen_der(x), rtol=1e-12)


@pytest.mark.parametrize("condition", [1.0, 10, 1e4])
@pytest.mark.parametrize("angle", [0.0, 30.0, -100.0])
def test_condition_of_the_quadratic(condition, angle):
    problem = problems.quadratic(condition, angle)
    hessian = np.stack([problem.jac(row) for row in np.eye(2)])  # the gradient is linear
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-12, atol=1e-9)
    assert np.linalg.cond(hessian) == pytest.approx(condition, rel=1e-9)
    assert np.linalg.eigvalsh(hessian)[0] == pytest.approx(1.0, rel=1e-9)
    assert np.linalg.norm(problem.vector(problem.start())) == pytest.approx(2.0)


def test_linear_regression_comes_to_the_closed_form():
    problem = make("linear_regression")
    from sklearn.linear_model import LinearRegression

    fitted = LinearRegression().fit(problem.X, problem.y)
    np.testing.assert_allclose(problem.answer["w"], fitted.coef_, rtol=1e-9)
    np.testing.assert_allclose(problem.answer["b"], fitted.intercept_, rtol=1e-12)
    assert problem.X.shape == (442, 10)
    params = problem.start()
    assert problem.loss(params) == pytest.approx((problem.y @ problem.y) / (2 * 442), rel=1e-12)
    history = problems.train(problem, "momentum", lr=0.4, epochs=5000)
    np.testing.assert_allclose(problem.vector(history.params), problem.vector(problem.answer), rtol=1e-6)


def test_logistic_regression_comes_to_scikit_learns():
    problem = make("logistic_regression")
    from sklearn.metrics import log_loss

    assert problem.X.shape == (569, 30)
    z = problem.X @ problem.answer["w"] + problem.answer["b"]
    penalty = problem.answer["w"] @ problem.answer["w"] / (2 * 569)
    assert problem.loss(problem.answer) == pytest.approx(log_loss(problem.y, 1 / (1 + np.exp(-z))) + penalty, rel=1e-9)
    assert problem.score(problem.answer) > 0.98
    history = problems.train(problem, "nesterov", lr=2.0, epochs=4000)
    np.testing.assert_allclose(problem.vector(history.params), problem.vector(problem.answer), rtol=1e-5, atol=1e-7)


def test_logistic_regression_at_far_points():
    problem = make("logistic_regression")
    far = {"w": np.full(30, 1e4), "b": np.zeros(1)}
    assert math.isfinite(problem.loss(far))
    assert all(np.isfinite(array).all() for array in problem.gradient(far).values())


def test_blobs_network_is_as_described():
    problem = make("blobs_network")
    from sklearn.datasets import make_blobs
    from sklearn.model_selection import train_test_split

    points, classes = make_blobs(1000, centers=4, n_features=2, random_state=0)
    X, _, y, _ = train_test_split(points, classes, stratify=classes, random_state=0)
    np.testing.assert_array_equal(problem.X, X)
    np.testing.assert_array_equal(problem.y, y)
    assert len(y) == 750
    np.random.seed(0)  # noqa: NPY002 - as the problem is stated
    first, second = np.random.randn(2, 2), np.random.randn(2, 4)  # noqa: NPY002
    params = problem.start()
    np.testing.assert_array_equal(params["W1"], first)
    np.testing.assert_array_equal(params["W2"], second)
    np.testing.assert_array_equal(problem.vector(params)[[4, 5, -4, -3, -2, -1]], 0.0)

    # The textbook's loops for one row, against the mean over all.
    hidden = [1 / (1 + math.exp(-(X[0] @ first[:, unit]))) for unit in range(2)]
    powers = [math.exp(sum(h * second[unit, k] for unit, h in enumerate(hidden))) for k in range(4)]
    expected = -math.log(powers[y[0]] / sum(powers))
    assert problem.loss(params, X[:1], y[:1]) == pytest.approx(expected, rel=1e-12)
    history = problems.train(problem, "adam", strategy="mini-batch")
    assert problem.score(history.params) > 0.9


def test_digits_network():
    problem = make("digits_mlp")
    assert problem.X.shape == (1348, 64)
    assert problem.X.dtype == np.float32
    assert (problem.X.min(), problem.X.max()) == (0.0, 1.0)
    assert set(problem.y.tolist()) == set(range(10))
    assert problem.vector(problem.start()).size == 11_386
    assert problem.loss(problem.start()) == pytest.approx(2.44683, abs=1e-5)
    other = problems.digits_mlp(seed=1)
    assert not np.array_equal(other.start()["W1"], problem.start()["W1"])
    assert not np.array_equal(other.X, problem.X)


@pytest.mark.parametrize("key", CLASSIC)
def test_the_classic_optimizers_learn_the_digits(key):
    problem = make("digits_mlp")
    history = problems.train(problem, key, strategy="mini-batch", epochs=8)
    assert problem.score(history.params) > 0.90
    assert history.loss < 0.3


def test_names():
    assert problems.names()[0] == "bids_roi"
    for function in ("sigmoid_neuron", "digits_mlp", "quadratic", "blobs_network"):
        assert function in problems.names()
        assert callable(getattr(problems, function))
    assert problems.make(" Sine-Parabola ").name == "sine_parabola"
    assert problems.make("quadratic", condition=7.0).title == "a quadratic of condition number 7"
    assert repr(problems.make("rosenbrock")) == "<Problem rosenbrock: Rosenbrock's valley>"


BAD = [
    (lambda: problems.make("rosenbrok"), ValueError, "problem: unknown name 'rosenbrok', did you mean 'rosenbrock'?"),
    (lambda: problems.make(3), ValueError, "problem: unknown name 3"),
    (lambda: problems.bids_roi(4), ValueError, "points: expected 3 or 100, got 4"),
    (lambda: problems.sigmoid_neuron("C"), ValueError, "set: expected 'A' or 'B', got 'C'"),
    (lambda: problems.sigmoid_neuron(1), ValueError, "set: expected 'A' or 'B', got 1"),
    (lambda: problems.quadratic(0.5), ValueError, "condition: expected a finite number of at least 1, got 0.5"),
    (lambda: problems.quadratic(math.nan), ValueError, "condition: "),
    (lambda: problems.quadratic(angle=math.inf), ValueError, "angle: "),
    (lambda: problems.rosenbrock().params(np.zeros(3)), ValueError, r"vector: expected shape \(2,\), got \(3,\)"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_errors(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", sorted(NEEDS_SKLEARN))
def test_without_scikit_learn(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=rf"^{name} needs scikit-learn: pip install 'schuss\[demo\]'$"):
        problems.make(name)


def test_light():
    code = (
        "import sys, schuss; schuss.problems.train(schuss.problems.rosenbrock(), 'adam', epochs=3, backend='numpy');"
        "schuss.batches([1.0], [1.0], 'batch'); schuss.minimize; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded.intersection({"scipy", "sklearn", "matplotlib", "numba", "torch"})


def test_vectors():
    problem = make("blobs_network")
    vector = problem.vector(problem.start())
    assert vector.shape == (18,)
    back = problem.params(vector)
    for name, array in problem.start().items():
        np.testing.assert_array_equal(back[name], array)
    np.testing.assert_array_equal(problem.jac(vector), problem.vector(problem.gradient(problem.start())))
    result = schuss.minimize(problem.fun, vector, "adam", jac=problem.jac, lr=0.2, maxiter=200)
    assert problem.score(problem.params(result.x)) > 0.8
