"""SignSGD, Signum, Adadelta, Adamax, NAdam, RAdam, Rprop and ASGD against transcriptions of their papers."""

from __future__ import annotations

import math

import numpy as np
import pytest

import schuss

STEPS = 30
TOLERANCE = [(np.float64, 1e-10), (np.float32, 1e-5)]


def gradients():
    rng = np.random.default_rng(11)
    return [float(g) for g in (rng.standard_normal(STEPS) + 0.3) * (1 + np.arange(STEPS) % 5)]


def rates():
    return [0.05 * (1.0 + 0.5 * math.sin(step)) for step in range(STEPS)]


def path(make, dtype, backend="auto", **options):
    """One number's way under an optimizer."""
    w = np.array([0.7], dtype)
    optimizer = make([w], backend=backend, **options)
    made = []
    for g, rate in zip(gradients(), rates(), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step([np.array([g], dtype)])
        made.append(float(w[0]))
    return made


def signsgd(decay):
    """Bernstein et al. 2018, Algorithm 1, with the decay of the 2019 paper's Algorithm 1."""
    x = 0.7
    for g, rate in zip(gradients(), rates(), strict=True):
        x = x - rate * (math.copysign(1.0, g) + decay * x)
        yield x


def signum(decay, beta=0.9):
    """Bernstein et al. 2018, Algorithm 2."""
    x, m = 0.7, 0.0
    for g, rate in zip(gradients(), rates(), strict=True):
        m = beta * m + (1 - beta) * g
        x = x - rate * (math.copysign(1.0, m) + decay * x)
        yield x


def zeiler(decay, rho=0.95, eps=1e-6):
    """Zeiler 2012, Algorithm 1; lr is ours."""
    x, squares, steps = 0.7, 0.0, 0.0
    for g, rate in zip(gradients(), rates(), strict=True):
        g = g + decay * x
        squares = rho * squares + (1 - rho) * g**2
        delta = -math.sqrt(steps + eps) / math.sqrt(squares + eps) * g
        steps = rho * steps + (1 - rho) * delta**2
        x = x + rate * delta
        yield x


def kingma(decay, beta1=0.9, beta2=0.999, decoupled=False):
    """Kingma & Ba 2015, Algorithm 2."""
    theta, m, u = 0.7, 0.0, 0.0
    for t, (g, rate) in enumerate(zip(gradients(), rates(), strict=True), 1):
        start = theta
        if not decoupled:
            g = g + decay * theta
        m = beta1 * m + (1 - beta1) * g
        u = max(beta2 * u, abs(g))
        theta = theta - rate / (1 - beta1**t) * m / u - (rate * decay * start if decoupled else 0.0)
        yield theta


def adamaxw(decay):
    return kingma(decay, decoupled=True)


def dozat(decay, beta=0.9, nu=0.999, eps=1e-8, decoupled=False):
    """Dozat 2016, Algorithm 2, with the schedule mu_t = beta (1 - 0.96^(t / 250) / 2)."""
    mu = [beta * (1 - 0.5 * 0.96 ** (t / 250)) for t in range(STEPS + 2)]
    theta, m, n = 0.7, 0.0, 0.0
    for t, (g, rate) in enumerate(zip(gradients(), rates(), strict=True), 1):
        start = theta
        if not decoupled:
            g = g + decay * theta
        m = mu[t] * m + (1 - mu[t]) * g
        n = nu * n + (1 - nu) * g**2
        m_hat = mu[t + 1] * m / (1 - math.prod(mu[1 : t + 2])) + (1 - mu[t]) * g / (1 - math.prod(mu[1 : t + 1]))
        n_hat = nu * n / (1 - nu**t)
        theta = theta - rate / (math.sqrt(n_hat) + eps) * m_hat - (rate * decay * start if decoupled else 0.0)
        yield theta


def dozat_decoupled(decay):
    return dozat(decay, decoupled=True)


def liu(decay, beta1=0.9, beta2=0.999, eps=1e-8, decoupled=False):
    """Liu et al. 2020, Algorithm 2; the eps is the authors' code's."""
    theta, m, v = 0.7, 0.0, 0.0
    longest = 2 / (1 - beta2) - 1
    for t, (g, rate) in enumerate(zip(gradients(), rates(), strict=True), 1):
        start = theta
        if not decoupled:
            g = g + decay * theta
        v = beta2 * v + (1 - beta2) * g**2
        m = beta1 * m + (1 - beta1) * g
        m_hat = m / (1 - beta1**t)
        length = longest - 2 * t * beta2**t / (1 - beta2**t)
        if length > 4:
            adapted = math.sqrt(1 - beta2**t) / (math.sqrt(v) + eps)
            above, below = (length - 4) * (length - 2) * longest, (longest - 4) * (longest - 2) * length
            theta = theta - rate * math.sqrt(above / below) * m_hat * adapted
        else:
            theta = theta - rate * m_hat
        theta = theta - (rate * decay * start if decoupled else 0.0)
        yield theta


def liu_decoupled(decay):
    return liu(decay, decoupled=True)


PAPER = {"convention": "paper"}
DECOUPLED = {**PAPER, "decoupled_weight_decay": True}
PAPERS = [
    (schuss.SignSGD, {}, signsgd),
    (schuss.Signum, {}, signum),
    (schuss.Adadelta, PAPER, zeiler),
    (schuss.Adamax, PAPER, kingma),
    (schuss.AdamaxW, {"eps": 0.0}, adamaxw),
    (schuss.NAdam, PAPER, dozat),
    (schuss.NAdam, DECOUPLED, dozat_decoupled),
    (schuss.RAdam, PAPER, liu),
    (schuss.RAdam, DECOUPLED, liu_decoupled),
]


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCE)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("make", "options", "paper"), PAPERS, ids=lambda value: getattr(value, "__name__", None))
def test_papers(make, options, paper, decay, dtype, tolerance):
    ours, theirs = path(make, dtype, weight_decay=decay, **options), list(paper(decay))
    assert len(ours) == len(theirs) == STEPS
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(map(abs, theirs)))


def riedmiller(back, shrink=0.5, grow=1.2, largest=50.0, smallest=1e-6):
    """Riedmiller & Braun 1993, and, without going back, iRprop- of Igel & Huesken 2003."""
    w, size, last, move = 0.7, next(iter(rates())), 0.0, 0.0
    for g in gradients():
        if g * last > 0:
            size = min(size * grow, largest)
        elif g * last < 0:
            size = max(size * shrink, smallest)
            g = 0.0
        if g != 0.0:
            move = -math.copysign(size, g)
            w += move
        elif back:
            w -= move
        last = g
        yield w


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCE)
@pytest.mark.parametrize("convention", ["torch", "paper"])
def test_rprop(convention, dtype, tolerance):
    ours, theirs = path(schuss.Rprop, dtype, lr=0.1, convention=convention), list(riedmiller(convention == "paper"))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(map(abs, theirs)))
    assert sum(g * h < 0 for g, h in zip(gradients(), gradients()[1:], strict=False)) > 5


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCE)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_asgd_falls_and_averages(decay, dtype, tolerance):
    """Bottou 2010, section 5: rates lr / (1 + lambda lr t)^0.75; the average is of the iterates from t0 + 2 on."""
    lr, lambd, first = 0.05, 0.2, 10
    w, x, iterates = np.array([0.7], dtype), 0.7, []
    optimizer = schuss.ASGD([w], lr=lr, lambd=lambd, t0=float(first), weight_decay=decay)
    np.testing.assert_array_equal(optimizer.averaged_params[0], w)
    for t, g in enumerate(gradients()):
        optimizer.step([np.array([g], dtype)])
        eta = float(np.float32(lr / (1 + lambd * lr * t) ** 0.75))
        x = x - eta * (g + decay * x + lambd * x)
        iterates.append(x)
        close = {"rtol": 0, "atol": tolerance}
        np.testing.assert_allclose(w[0], x, **close)
        average = np.mean(iterates[first + 1 :]) if t > first else x
        close["atol"] += 1e-6  # mu is kept in float32
        np.testing.assert_allclose(optimizer.averaged_params[0], [average], **close)


def test_asgd_averages_are_weights():
    """They start as the parameters, and 8-bit states do not round them."""
    params = {"a": np.full(5000, 0.3, np.float32), "b": np.ones(3, np.float32)}
    optimizer = schuss.ASGD(params, state_dtype="8bit")
    optimizer.step({"a": np.ones(5000, np.float32), "b": None})
    averaged = optimizer.averaged_params
    assert averaged["a"].dtype == np.float32
    for name in params:
        np.testing.assert_array_equal(averaged[name], params[name])


@pytest.mark.parametrize("make", [schuss.NAdam, schuss.ASGD])
def test_running_numbers_go_on_after_loading(make):
    rng = np.random.default_rng(0)
    steps = [rng.standard_normal(5) for _ in range(6)]
    w = np.ones(5)
    first = make([w], lr=0.1)
    for g in steps[:3]:
        first.step([g])
    v, saved = w.copy(), first.state_dict()
    assert set(saved["state"]["0"]["running"]) == ({"mu_product"} if make is schuss.NAdam else {"eta", "mu"})
    second = make([v], lr=0.1)
    second.load_state_dict(saved)
    for g in steps[3:]:
        first.step([g])
        second.step([g])
    np.testing.assert_array_equal(v, w)


def test_first_steps():
    """Worked out by hand."""

    def after(make, g, **options):
        w = np.array([1.0])
        make([w], **options).step([np.array([g])])
        return w[0]

    assert after(schuss.SignSGD, -3.0, lr=0.25, weight_decay=0.5) == 1.0 - 0.125 + 0.25
    assert after(schuss.Signum, 0.0, lr=0.25) == 1.0
    assert after(schuss.Adamax, 4.0, lr=0.25, convention="paper") == pytest.approx(0.75)
    assert after(schuss.Adamax, 4.0, lr=0.25, convention="keras", eps=4.0) == pytest.approx(0.875)
    assert after(schuss.RAdam, 4.0, lr=0.25) == pytest.approx(0.0)
    assert after(schuss.NAdam, 4.0, lr=0.25, convention="optax") == pytest.approx(1 - 0.25 * (0.9 * 0.1 / 0.19 + 1))
    assert after(schuss.Rprop, 4.0, lr=0.25) == 0.75
    assert after(schuss.Rprop, 4.0, lr=0.25, convention="optax") == 1.0
    assert after(schuss.ASGD, 4.0, lr=0.25, lambd=0.5) == 1.0 - 0.125 - 1.0
    # sqrt(eps) / sqrt(g^2 / 10 + eps) * g, with g^2 / 10 = 3
    assert after(schuss.Adadelta, math.sqrt(30.0), eps=1.0) == pytest.approx(1.0 - math.sqrt(30.0) / 2.0)


@pytest.mark.parametrize("options", [{"convention": "paper"}, {"eps": 0.0}])
def test_adamax_leaves_what_has_no_gradient(options):
    w = np.array([1.0, 1.0])
    optimizer = schuss.Adamax([w], **options)
    for g in ([0.0, 1.0], [0.0, 0.0]):
        optimizer.step([np.array(g)])
    assert w[0] == 1.0
    assert 0.0 < w[1] < 1.0


def test_radam_rectifies_from_the_sixth_step():
    """Until then every step is lr times the mean; the paper's is rectified one step before torch's."""
    steps = {}
    for convention in ("torch", "optax", "paper"):
        w = np.zeros(1)
        optimizer = schuss.RAdam([w], lr=1.0, convention=convention)
        moves = []
        for _ in range(7):
            before = w.copy()
            optimizer.step([np.full(1, 8.0)])
            moves.append(round(float((before - w)[0]), 6))
        steps[convention] = moves.index(next(move for move in moves if move != 8.0)) + 1
    assert steps == {"torch": 6, "optax": 6, "paper": 5}


@pytest.mark.parametrize("make", [schuss.RAdam, schuss.Rprop])
def test_conventions_without_keras(make):
    assert list(make._conventions) == ["torch", "optax", "paper"]
    for convention, (defaults, *_) in make._conventions.items():
        [group] = make([np.ones(3)], convention=convention).param_groups
        assert group["convention"] == convention
        assert {name: group[name] for name in defaults} == defaults
    [group] = make([np.ones(3)]).param_groups
    assert group["convention"] == "torch"
    with pytest.raises(ValueError, match="convention: expected one of 'torch', 'optax', 'paper'; got 'keras'"):
        make([np.ones(3)], convention="keras")


def test_rprop_takes_lr_at_the_first_gradient():
    """As torch, which makes its states then; what it is before and after does not matter."""
    w, v = np.ones(3), np.ones(3)
    one, other = schuss.Rprop([w], lr=lambda step: 0.25), schuss.Rprop([v], lr=7.0)
    other.param_groups[0]["lr"] = 0.25
    for optimizer in (one, other):
        optimizer.step([np.ones(3)])
    other.param_groups[0]["lr"] = 7.0
    for optimizer in (one, other):
        optimizer.step([np.ones(3)])
    np.testing.assert_array_equal(w, v)
    np.testing.assert_array_equal(w, np.full(3, 1.0 - 0.25 - 0.3))


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (schuss.Rprop, {"etas": (1.2, 0.5)}, r"etas: expected one between 0 and 1 and one above 1; got \(1.2, 0.5\)"),
        (schuss.Rprop, {"etas": (0.5, 1.0)}, "etas: expected one between 0 and 1"),
        (schuss.Rprop, {"etas": (0.5, math.inf)}, "etas: expected a finite number"),
        (schuss.Rprop, {"etas": (0.5, 1.2, 2.0)}, "etas: expected 2 numbers"),
        (schuss.Rprop, {"step_sizes": (2.0, 1.0)}, "step_sizes: expected the smallest, at least 0, before the largest"),
        (
            schuss.NAdam,
            {"convention": "optax", "momentum_decay": 0.1},
            "momentum_decay: .* expected 0, got 0.1",
        ),
        (schuss.NAdam, {"momentum_decay": -0.1}, "momentum_decay: expected a finite number, at least 0; got -0.1"),
        (schuss.Adadelta, {"rho": 1.0}, "rho: expected at least 0 and below 1; got 1.0"),
        (schuss.Signum, {"beta": 1.0}, "beta: expected at least 0 and below 1"),
        (schuss.Adamax, {"betas": (0.9, 1.0)}, "betas: expected at least 0 and below 1"),
        (schuss.ASGD, {"lambd": -1.0}, "lambd: expected a finite number, at least 0"),
        (schuss.ASGD, {"t0": math.nan}, "t0: expected a finite number; got nan"),
    ],
)
def test_bad_options(make, options, message):
    with pytest.raises(ValueError, match=message):
        make([np.ones(3)], **options)


def test_bad_types():
    with pytest.raises(TypeError, match="etas: expected a tuple of 2 numbers"):
        schuss.Rprop([np.ones(3)], etas=0.5)
    with pytest.raises(TypeError, match="decoupled_weight_decay: expected True or False; got 1"):
        schuss.RAdam([np.ones(3)], decoupled_weight_decay=1)
