"""FTRL, QHM, QHAdam, MADGRAD, AggMo, AdaBound, PAdam, optimistic steps and COCOB against plain transcriptions.

And the cube root and the power that some of them take, against numpy's.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from cases import said
from schuss_kernels.lang.scalar_math import cube_root, on_arrays, power_of

import schuss

STEPS = 25
TOLERANCE = {np.float64: 1e-10, np.float32: 1e-5}


def gradients():
    rng = np.random.default_rng(5)
    return [float(g) for g in rng.standard_normal(STEPS) * (1 + np.arange(STEPS) % 5)]


def rates():
    return [0.05 * (1.0 + 0.5 * math.sin(step)) for step in range(STEPS)]


def steps():
    return list(enumerate(zip(gradients(), rates(), strict=True), 1))


def sign(x):
    return math.copysign(1.0, x) if x else 0.0


def mcmahan(decay, lambda1=0.0, lambda2=0.0, beta=1.0, power=0.5, keras=False, n=0.0):
    """McMahan et al. 2013, Algorithm 1, and Keras's: twice lambda2; both with Keras's decay."""
    w, z = 0.7, 0.0
    for _, (g, alpha) in steps():
        w *= 1 - alpha * decay
        sigma = ((n + g * g) ** power - n**power) / alpha
        z += g - sigma * w
        n += g * g
        if abs(z) <= lambda1:
            w = 0.0
        else:
            w = -(z - sign(z) * lambda1) / ((beta + n**power) / alpha + lambda2 * (2 if keras else 1))
        yield w


def quasi_hyperbolic(decay, beta=0.999, nu=0.7, decoupled=False):
    """Ma & Yarats 2019, equations 3 and 4."""
    theta, buffer = 0.7, 0.0
    for _, (g, alpha) in steps():
        if decoupled:
            theta *= 1 - alpha * decay
        else:
            g += decay * theta
        buffer = beta * buffer + (1 - beta) * g
        theta -= alpha * ((1 - nu) * g + nu * buffer)
        yield theta


def quasi_hyperbolic_adam(decay, betas=(0.9, 0.999), nus=(0.7, 0.8), eps=1e-8, decoupled=False):
    """Ma & Yarats 2019, section 4, with the means' bias divided out at the end, as the paper writes it."""
    theta, m, v = 0.7, 0.0, 0.0
    for t, (g, alpha) in steps():
        if decoupled:
            theta *= 1 - alpha * decay
        else:
            g += decay * theta
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        mean, square = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        above = (1 - nus[0]) * g + nus[0] * mean
        theta -= alpha * above / (math.sqrt((1 - nus[1]) * g**2 + nus[1] * square) + eps)
        yield theta


def defazio(decay, momentum=0.9, eps=1e-6):
    """Defazio & Jelassi 2021, Algorithm 1, eps in the learning rate as in the authors' code."""
    x, x0, s, v = 0.7, 0.7, 0.0, 0.0
    for k, (g, gamma) in steps():
        g += decay * x
        weight = (gamma + eps) * math.sqrt(k)
        s += weight * g
        v += weight * g * g
        z = x0 - s / (v ** (1 / 3) + eps)
        x = (1 - momentum) * z + momentum * x
        yield x


def lucas(decay, betas=(0.0, 0.9, 0.99)):
    """Lucas et al. 2019, equation 4: velocities and their mean."""
    theta, velocities = 0.7, [0.0] * 3
    for _, (g, gamma) in steps():
        g += decay * theta
        velocities = [beta * v - g for beta, v in zip(betas, velocities, strict=True)]
        theta += gamma * sum(velocities) / 3
        yield theta


def luo(decay, ams=False, betas=(0.9, 0.999), final_lr=0.1, gamma=0.02, eps=1e-8):
    """Luo et al. 2019, Algorithms 2 and 3, with the corrections and the schedule of the authors' code."""
    x, m, v, largest = 0.7, 0.0, 0.0, 0.0
    base = rates()[0]
    for t, (g, alpha) in steps():
        g += decay * x
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        largest = max(largest, v)
        final = final_lr * alpha / base
        low, high = final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t))
        rate = alpha * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t) / (math.sqrt(largest if ams else v) + eps)
        x -= min(max(rate, low), high) * m
        yield x


def chen(decay, p=0.125, betas=(0.9, 0.999), eps=1e-8):
    """Chen et al. 2018, Algorithm 1, corrected and with the eps of the authors' code."""
    theta, m, v, largest = 0.7, 0.0, 0.0, 0.0
    for t, (g, alpha) in steps():
        g += decay * theta
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        largest = max(largest, v)
        size = alpha * math.sqrt(1 - betas[1] ** t) / (1 - betas[0] ** t)
        theta -= size * m / (math.sqrt(largest) + eps) ** (2 * p)
        yield theta


def mokhtari(decay, alpha=0.9, beta=0.5):
    """Mokhtari et al. 2019: a gradient step and the change of the gradient; at first there is none."""
    x, before = 0.7, None
    for _, (g, rate) in steps():
        g += decay * x
        x -= rate * (alpha * g + beta * (g - (g if before is None else before)))
        before = g
        yield x


def daskalakis(decay, betas=(0.9, 0.999), eps=1e-8):
    """Daskalakis et al. 2018, Algorithm 1 (2 * r - r before), but for the first step, which has no change."""
    theta, m, v, before = 0.7, 0.0, 0.0, None
    for t, (g, rate) in steps():
        g += decay * theta
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        r = m / (1 - betas[0] ** t) / (math.sqrt(v / (1 - betas[1] ** t)) + eps)
        theta -= rate * (2 * r - (r if before is None else before))
        before = r
        yield theta


def orabona(decay, alpha=100.0, eps=1e-8):
    """Orabona & Tommasi 2017, Algorithm 2, on gradients scaled by the rates."""
    w, first, largest, total, reward, theta = 0.7, 0.7, eps, 0.0, 0.0, 0.0
    for _, (g, rate) in steps():
        g = rate * (g + decay * w)
        largest = max(largest, abs(g))
        total += abs(g)
        reward = max(reward - g * (w - first), 0.0)
        theta -= g
        w = first + theta / (largest * max(total + largest, alpha * largest)) * (largest + reward)
        yield w


CASES = [
    (schuss.FTRL, {}, mcmahan, {}),
    (schuss.FTRL, {"l1": 0.5, "l2": 0.2}, mcmahan, {"lambda1": 0.5, "lambda2": 0.2}),
    (schuss.FTRL, {"l1": 0.5, "learning_rate_power": -0.7}, mcmahan, {"lambda1": 0.5, "power": 0.7}),
    (schuss.FTRL, {"l2": 0.2, "convention": "keras"}, mcmahan, {"lambda2": 0.2, "keras": True, "n": 0.1, "beta": 0.0}),
    (schuss.QHM, {}, quasi_hyperbolic, {}),
    (
        schuss.QHM,
        {"momentum": 0.9, "nu": 0.5, "decoupled_weight_decay": True},
        quasi_hyperbolic,
        {"beta": 0.9, "nu": 0.5, "decoupled": True},
    ),
    (schuss.QHAdam, {"nus": (0.7, 0.8)}, quasi_hyperbolic_adam, {}),
    (schuss.QHAdam, {"nus": (0.7, 0.8), "decoupled_weight_decay": True}, quasi_hyperbolic_adam, {"decoupled": True}),
    (schuss.MADGRAD, {}, defazio, {}),
    (schuss.MADGRAD, {"momentum": 0.0, "eps": 1e-3}, defazio, {"momentum": 0.0, "eps": 1e-3}),
    (schuss.AggMo, {}, lucas, {}),
    (schuss.AggMo, {"betas": (0.5, 0.9, 0.95)}, lucas, {"betas": (0.5, 0.9, 0.95)}),
    (schuss.AdaBound, {"gamma": 0.02}, luo, {}),
    (schuss.AdaBound, {"gamma": 0.02, "amsbound": True}, luo, {"ams": True}),
    *((schuss.PAdam, {"partial": p}, chen, {"p": p}) for p in (0.0625, 0.125, 0.2, 0.25, 0.375, 0.5)),
    (schuss.OGD, {"alpha": 0.9, "beta": 0.5}, mokhtari, {}),
    (schuss.OptimisticAdam, {"nesterov": False}, daskalakis, {}),
    (schuss.COCOB, {}, orabona, {}),
    (schuss.COCOB, {"alpha": 2.0}, orabona, {"alpha": 2.0}),
]


def path(make, dtype, **options):
    """One number's way under an optimizer."""
    w = np.array([0.7], dtype)
    optimizer = make([w], backend="numpy", **options)
    made = []
    for _, (g, rate) in steps():
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step([np.array([g], dtype)])
        made.append(float(w[0]))
    return made


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("make", "options", "paper", "said"), CASES, ids=said)
def test_papers(make, options, paper, said, decay, dtype):
    ours, theirs = path(make, dtype, weight_decay=decay, **options), list(paper(decay, **said))
    assert len(ours) == len(theirs) == STEPS
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE[dtype] * max(map(abs, theirs)))


def one_step(make, gradient, start=(1.0, 2.0), **options):
    w = np.array(start)
    make([w], **options).step([np.array(gradient)])
    return w.round(12).tolist()


def test_first_steps():
    """By hand."""
    assert one_step(schuss.FTRL, (3.0, 0.5), (0.0, 0.0), lr=0.1, l1=1.0) == [-0.05, 0.0]  # -(3 - 1) / (10 * (1 + 3))
    assert one_step(schuss.QHM, (3.0, -4.0), lr=0.1, momentum=0.9, nu=0.7) == [0.889, 2.148]  # 0.3 g + 0.7 * 0.1 g
    assert one_step(schuss.QHAdam, (3.0, -4.0), lr=0.1, eps=0.0) == [0.9, 2.1]
    assert one_step(schuss.MADGRAD, (8.0, -1.0), lr=1e-3, momentum=0.0, eps=0.0) == [0.98, 2.01]  # 0.008 / cbrt(0.064)
    assert one_step(schuss.AggMo, (3.0, -4.0), lr=0.1) == [0.7, 2.4]
    assert one_step(schuss.PAdam, (4.0, -9.0), lr=0.1, betas=(0.0, 0.0), eps=0.0, partial=0.25) == [0.8, 2.3]
    assert one_step(schuss.OGD, (3.0, -4.0), lr=0.1, beta=7.0) == [0.7, 2.4]
    assert one_step(schuss.OptimisticAdam, (3.0, -4.0), lr=0.1, nesterov=False, eps=0.0) == [0.9, 2.1]
    assert one_step(schuss.COCOB, (3.0, -4.0)) == [0.99, 2.01]


def test_weights_of_exactly_zero():
    """FTRL: where the sum of the gradients is within l1; also without any gradient, and without a divisor."""
    assert one_step(schuss.FTRL, (0.9, -1.1), (0.0, 0.0), l1=1.0)[0] == 0.0
    assert one_step(schuss.FTRL, (0.0, 0.0), beta=0.0) == [0.0, 0.0]


def test_elements_without_a_gradient_stay():
    """MADGRAD and COCOB: nothing is divided by zero where eps is 0."""
    assert one_step(schuss.MADGRAD, (0.0, 1.0), eps=0.0)[0] == 1.0
    assert one_step(schuss.COCOB, (0.0, 1.0), eps=0.0)[0] == 1.0


def test_the_bounds_follow_the_schedule():
    """AdaBound: from the first learning rate above 0 on; without one, nothing moves."""
    w = np.ones(1)
    optimizer = schuss.AdaBound([w], lr=lambda step: 0.0 if step == 0 else 0.01 / step, gamma=0.999, eps=1.0)
    optimizer.step([np.ones(1)])
    assert w[0] == 1.0
    optimizer.step([np.ones(1)])
    assert optimizer.state_dict()["state"]["0"]["running"] == {"lr": 0.01}
    optimizer.step([np.ones(1)])
    assert optimizer.state_dict()["state"]["0"]["running"] == {"lr": 0.01}


@pytest.mark.parametrize(
    ("ours", "options", "theirs", "same"),
    [
        (schuss.QHAdam, {}, schuss.Adam, {}),
        (schuss.OptimisticAdam, {"beta": 0.0, "nesterov": False}, schuss.Adam, {}),
        (schuss.OptimisticAdam, {"beta": 0.0}, schuss.NAdam, {"convention": "optax"}),
        (schuss.OGD, {"beta": 0.0}, schuss.SGD, {}),
        (schuss.QHM, {"nu": 0.0}, schuss.SGD, {}),
        (schuss.AggMo, {"betas": (0.9, 0.9, 0.9)}, schuss.SGD, {"momentum": 0.9}),
    ],
    ids=said,
)
def test_what_is_another_optimizer_in_the_end(ours, options, theirs, same):
    np.testing.assert_allclose(path(ours, np.float64, **options), path(theirs, np.float64, **same), rtol=1e-9)


@pytest.mark.parametrize("partial", [0.0, -0.1, 0.6])
def test_powers_out_of_range(partial):
    with pytest.raises(ValueError, match=f"partial: expected a number above 0, at most 0.5; got {partial}"):
        schuss.PAdam([np.ones(2)], partial=partial)
    with pytest.raises(ValueError, match="learning_rate_power: expected at least -1 and below 0; got"):
        schuss.FTRL([np.ones(2)], learning_rate_power=abs(partial))


def test_other_bad_options():
    with pytest.raises(ValueError, match="betas: expected 3 numbers"):
        schuss.AggMo([np.ones(2)], betas=(0.9, 0.99))
    with pytest.raises(ValueError, match=r"gamma: expected at least 0 and below 1; got 1\.0"):
        schuss.AdaBound([np.ones(2)], gamma=1.0)


def test_the_conventions_of_ftrl():
    for convention, (defaults, *_) in schuss.FTRL._conventions.items():
        [group] = schuss.FTRL([np.ones(3)], convention=convention).param_groups
        assert {name: group[name] for name in defaults} == defaults
    assert schuss.FTRL([np.ones(3)]).param_groups[0]["convention"] == "paper"
    with pytest.raises(ValueError, match="convention: expected one of 'paper', 'keras'; got 'torch'"):
        schuss.FTRL([np.ones(3)], convention="torch")


def test_another_power_between_steps():
    """Rules of the same states: they go on with what there is."""
    w, v = np.ones(3), np.ones(3)
    one, other = schuss.PAdam([w], partial=0.25), schuss.PAdam([v], partial=0.2)
    one.step([np.ones(3)])
    v[:] = w
    other.load_state_dict(one.state_dict())
    one.param_groups[0]["partial"] = other.param_groups[0]["partial"] = 0.3
    for optimizer in (one, other):
        optimizer.step([np.full(3, 2.0)])
    np.testing.assert_array_equal(w, v)


def spread(dtype):
    """Numbers of every size, subnormal ones too."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    exponents = rng.integers(info.minexp - info.nmant, info.maxexp, 20_000)
    with np.errstate(under="ignore"):
        x = np.ldexp(rng.uniform(1.0, 2.0, exponents.size).astype(dtype), exponents)
    ends = [info.smallest_subnormal, info.tiny, info.max, 1.0, np.nextafter(dtype(1.0), dtype(0.0)), 8.0, 27.0]
    return np.concatenate([x[x > 0], np.array(ends, dtype), rng.uniform(1e-3, 1e3, 20_000).astype(dtype)])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_cube_root(dtype):
    x = spread(dtype)
    y = on_arrays(cube_root, dtype)(x)
    assert y.dtype == dtype
    # In fractions: numpy's own root is good to 4 ulps only on some machines.
    near = Fraction(2.5 * float(np.finfo(dtype).eps))
    for cube, root in zip(map(Fraction, x.tolist()), map(Fraction, y.tolist()), strict=True):
        assert (root * (1 - near)) ** 3 <= cube <= (root * (1 + near)) ** 3
    special = np.array([0.0, -0.0, np.inf, np.nan], dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(on_arrays(cube_root, dtype)(special), special)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("y", [0.01, 0.125, 1 / 3, 0.5, 0.7, 0.99])
def test_powers(y, dtype):
    x = spread(dtype)
    expected = x.astype(np.float64) ** y
    info = np.finfo(dtype)
    low, high = (0.0, 27.0) if dtype == np.float32 else (100.0, 100.0)
    near = (expected >= info.tiny * 2.0**low) & (expected <= info.max * 2.0**-high)
    with np.errstate(over="ignore", under="ignore"):
        made = power_of(x, y)
    assert made.dtype == dtype
    assert (np.abs(made - expected) <= 10.0 * np.finfo(dtype).eps * expected)[near].all()
    special = np.array([0.0, -0.0, np.inf, np.nan], dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(power_of(special, y), special)
