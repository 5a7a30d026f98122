"""Optimizers with a number for every tensor, against plain transcriptions of their papers; and where norms are zero."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import assert_same_bits

import schuss

STEPS = 25
SHAPES = [(6, 5), (11,)]
TOLERANCE = [(np.float64, 1e-10), (np.float32, 1e-5)]
norm = np.linalg.norm


def start(dtype=np.float64):
    rng = np.random.default_rng(0)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in SHAPES]


def gradients(step, dtype=np.float64):
    rng = np.random.default_rng(100 + step)
    size = (0.1, 1.0, 3.0, 20.0)[step % 4]  # some have norms below 1, some jump
    return [np.asarray(size * (rng.standard_normal(shape) + 0.3), dtype) for shape in SHAPES]


def rate(step):
    return 1.0 + 0.5 * math.sin(step)


def lars(w, g, s, t, lr, decay, eta=0.01, momentum=0.9):
    """You, Gitman & Ginsburg 2017, Algorithm 1."""
    local = lr * eta * norm(w) / (norm(g) + decay * norm(w))
    s["v"] = momentum * s.get("v", 0.0) + local * (g + decay * w)
    return w - s["v"]


def lars_nesterov(w, g, s, t, lr, decay, eta=0.01, momentum=0.9):
    local = lr * eta * norm(w) / (norm(g) + decay * norm(w))
    d = local * (g + decay * w)
    s["v"] = momentum * s.get("v", 0.0) + d
    return w - (d + momentum * s["v"])


def larc(w, g, s, t, lr, decay, eta=0.02, eps=1e-8):
    """Apex: the adaptive rate over lr, at most 1, multiplies gradient and decay; without momentum."""
    adaptive = eta * norm(w) / (norm(g) + decay * norm(w) + eps)
    return w - lr * (min(adaptive / lr, 1.0) * (g + decay * w))


def lamb(w, g, s, t, lr, decay, beta1=0.9, beta2=0.999, eps=1e-6, most=math.inf):
    """You et al. 2020, Algorithm 2."""
    s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * g
    s["v"] = beta2 * s.get("v", 0.0) + (1 - beta2) * g**2
    r = (s["m"] / (1 - beta1**t)) / (np.sqrt(s["v"] / (1 - beta2**t)) + eps)
    u = r + decay * w
    return w - lr * min(most, norm(w) / norm(u)) * u


def lamb_clipped(w, g, s, t, lr, decay):
    return lamb(w, g, s, t, lr, decay, most=1.0)


def lamb_only_decayed(w, g, s, t, lr, decay):
    """As in NVIDIA's code: no adaptation where nothing decays."""
    if decay:
        return lamb(w, g, s, t, lr, decay)
    s["m"] = 0.9 * s.get("m", 0.0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0.0) + 0.001 * g**2
    return w - lr * (s["m"] / (1 - 0.9**t)) / (np.sqrt(s["v"] / (1 - 0.999**t)) + 1e-6)


def novograd(w, g, s, t, lr, decay, beta1=0.95, beta2=0.98, eps=1e-8, share=1.0):
    """Ginsburg et al. 2019, Algorithm 1."""
    if t == 1:
        s["v"] = norm(g) ** 2
        s["m"] = share * (g / norm(g) + decay * w)
    else:
        s["v"] = beta2 * s["v"] + (1 - beta2) * norm(g) ** 2
        s["m"] = beta1 * s["m"] + share * (g / (math.sqrt(s["v"]) + eps) + decay * w)
    return w - lr * s["m"]


def novograd_averaged(w, g, s, t, lr, decay):
    return novograd(w, g, s, t, lr, decay, share=1 - 0.95)


def stable_adamw(theta, g, s, t, lr, decay, beta1=0.9, beta2=0.99, eps=1e-6):
    """Wortsman et al. 2023, Algorithm 2."""
    b1 = beta1 * (1 - beta1 ** (t - 1)) / (1 - beta1**t)
    b2 = beta2 * (1 - beta2 ** (t - 1)) / (1 - beta2**t)
    s["v"] = b1 * s.get("v", 0.0) + (1 - b1) * g
    s["u"] = b2 * s.get("u", 0.0) + (1 - b2) * g**2
    rms = math.sqrt(np.mean(g**2 / np.maximum(s["u"], eps**2)))
    s["clipped"] = s.get("clipped", 0) + (rms > 1)
    eta = lr / max(1.0, rms)
    return theta - eta * decay * theta - eta * s["v"] / (np.sqrt(s["u"]) + eps)


def fromage(w, g, s, t, lr, decay):
    """Bernstein et al. 2020, Algorithm 1."""
    return (w - lr * norm(w) / norm(g) * g) / math.sqrt(1 + lr**2)


def cautious(u, g):
    """Liang et al. 2024, Algorithm 1, with the least mean of the authors' code."""
    mask = np.where(u * g > 0, 1.0, 0.0)
    assert 0.0 < mask.mean() <= 1.0
    return u * (mask / max(mask.mean(), 1e-3))


def cautious_adamw(w, g, s, t, lr, decay, beta1=0.9, beta2=0.999, eps=1e-6):
    s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * g
    s["v"] = beta2 * s.get("v", 0.0) + (1 - beta2) * g**2
    step_size = lr * math.sqrt(1 - beta2**t) / (1 - beta1**t)
    return w - lr * decay * w - step_size * cautious(s["m"] / (np.sqrt(s["v"]) + eps), g)


def cautious_lion(w, g, s, t, lr, decay, beta1=0.9, beta2=0.99):
    m = s.get("m", np.zeros_like(w))
    u = np.sign(beta1 * m + (1 - beta1) * g)
    s["m"] = beta2 * m + (1 - beta2) * g
    return w - lr * decay * w - lr * cautious(u, g)


def corrected(g, s, beta1=0.95, gamma=0.025):
    """Yuan et al. 2024, Algorithm 1, lines 3 to 5: x_1 = x_0, so the first two gradients are one."""
    c = g + gamma * beta1 / (1 - beta1) * (g - s.get("before", g))
    s["before"] = g
    return c / norm(c) if norm(c) > 1 else c


def mars(x, g, s, t, lr, decay, beta1=0.95, beta2=0.99, eps=1e-8):
    """Algorithm 2."""
    c = corrected(g, s)
    s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * c
    s["v"] = beta2 * s.get("v", 0.0) + (1 - beta2) * c**2
    m, v = s["m"] / (1 - beta1**t), s["v"] / (1 - beta2**t)
    return x - lr * (m / (np.sqrt(v) + eps) + decay * x)


def mars_lion(x, g, s, t, lr, decay, beta1=0.95):
    """Algorithm 3."""
    s["m"] = beta1 * s.get("m", 0.0) + (1 - beta1) * corrected(g, s)
    return x - lr * (np.sign(s["m"]) + decay * x)


PAPERS = [
    (schuss.LARS, {"lr": 2.0, "trust_coefficient": 0.01}, lars),
    (schuss.LARS, {"lr": 2.0, "trust_coefficient": 0.01, "nesterov": True}, lars_nesterov),
    (schuss.LARS, {"lr": 0.02, "trust_coefficient": 0.02, "eps": 1e-8, "clip": True, "momentum": 0.0}, larc),
    (schuss.LAMB, {"lr": 0.05}, lamb),
    (schuss.LAMB, {"lr": 0.05, "clip": True}, lamb_clipped),
    (schuss.LAMB, {"lr": 0.05, "always_adapt": False}, lamb_only_decayed),
    (schuss.NovoGrad, {"lr": 0.02}, novograd),
    (schuss.NovoGrad, {"lr": 0.2, "grad_averaging": True}, novograd_averaged),
    (schuss.StableAdamW, {"lr": 0.05}, stable_adamw),
    (schuss.Fromage, {"lr": 0.05}, fromage),
    (schuss.CautiousAdamW, {"lr": 0.05}, cautious_adamw),
    (schuss.CautiousLion, {"lr": 0.05}, cautious_lion),
    (schuss.MARS, {"lr": 0.05}, mars),
    (schuss.MARSLion, {"lr": 0.05}, mars_lion),
]


@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCE)
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("make", "options", "paper"), PAPERS, ids=lambda value: getattr(value, "__name__", None))
def test_papers(make, options, paper, decay, dtype, tolerance):
    """The second tensor has no gradient in two of the steps: its numbers stay, and its own steps are counted."""
    if decay and make is schuss.Fromage:
        pytest.skip("has no weight decay")
    params, theirs = start(dtype), start()
    states, counts = [{}, {}], [0, 0]
    given = {**options, "weight_decay": decay} if make is not schuss.Fromage else options
    opt = make(params, **given, backend="numpy")
    for step in range(STEPS):
        lr = opt.param_groups[0]["lr"] = options["lr"] * rate(step)
        gone = 1 if step in (0, 9) else None
        grads = [None if number == gone else g for number, g in enumerate(gradients(step, dtype))]
        opt.step(grads)
        for number, g in enumerate(gradients(step)):
            if number != gone:
                counts[number] += 1
                theirs[number] = paper(theirs[number], g, states[number], counts[number], lr, decay)
    assert counts == [STEPS, STEPS - 2]
    for ours, expected in zip(params, theirs, strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    if make is schuss.StableAdamW:
        assert 0 < states[0]["clipped"] < STEPS


FIRST = [
    # ||w|| = 5, ||g|| = 2, and the decay of 0.1 makes the denominator 2.5
    (schuss.LARS, {"lr": 1.0, "trust_coefficient": 0.1, "weight_decay": 0.1}, [0.0, 2.0], [2.94, 3.52]),
    # the norm of the sum: g + 0.1 w = (0.3, 0.4) has 0.5, and the rate is 1
    (
        schuss.LARS,
        {"convention": "optax", "lr": 1.0, "trust_coefficient": 0.1, "weight_decay": 0.1},
        [0.0, 0.0],
        [2.7, 3.6],
    ),
    (schuss.LARS, {"lr": 0.1, "trust_coefficient": 1.0, "clip": True}, [0.0, 2.0], [3.0, 3.8]),
    (schuss.LARS, {"lr": 9.0, "trust_coefficient": 0.1, "clip": True}, [0.0, 2.0], [3.0, 3.5]),
    # Adam's step is (1, -1): the trust is 5 / sqrt(2), or 1
    (schuss.LAMB, {"lr": 0.1, "eps": 0.0}, [1.0, -7.0], [3 - 0.5 / math.sqrt(2), 4 + 0.5 / math.sqrt(2)]),
    (schuss.LAMB, {"lr": 0.1, "eps": 0.0, "clip": True}, [1.0, -7.0], [2.9, 4.1]),
    (schuss.LAMB, {"lr": 0.1, "eps": 0.0, "always_adapt": False}, [1.0, -7.0], [2.9, 4.1]),
    # the weights are decayed to (1.5, 2) first, and their norm of 2.5 is the trust's
    (
        schuss.LAMB,
        {"convention": "keras", "lr": 0.5, "eps": 0.0, "weight_decay": 1.0},
        [1.0, -7.0],
        [1.5 - 1.25 / math.sqrt(2), 2 + 1.25 / math.sqrt(2)],
    ),
    (schuss.NovoGrad, {"lr": 0.1, "eps": 0.0, "weight_decay": 0.5}, [3.0, -4.0], [2.79, 3.88]),
    (schuss.StableAdamW, {"lr": 0.1, "eps": 0.0, "weight_decay": 0.5}, [3.0, -4.0], [2.75, 3.9]),
    (schuss.Fromage, {"lr": 0.75}, [0.0, 2.0], [2.4, 0.2]),
    (schuss.CautiousAdamW, {"lr": 0.1, "eps": 0.0, "weight_decay": 0.5}, [3.0, 0.1], [2.75, 3.7]),
    (schuss.CautiousLion, {"lr": 0.1, "weight_decay": 0.5}, [0.0, -4.0], [2.85, 4.0]),
    (schuss.MARS, {"lr": 0.1, "eps": 0.0, "weight_decay": 0.5}, [3.0, -4.0], [2.75, 3.9]),
    (schuss.MARSLion, {"lr": 0.1, "weight_decay": 0.5}, [3.0, -4.0], [2.75, 3.9]),
]


@pytest.mark.parametrize(("make", "options", "gradient", "expected"), FIRST)
def test_first_step_by_hand(make, options, gradient, expected):
    w = np.array([3.0, 4.0])
    make([w], **options, backend="numpy").step([np.array(gradient)])
    np.testing.assert_allclose(w, expected, rtol=1e-12)


def test_the_signs_are_counted_over_the_tensor():
    """One of four elements goes on down its gradient: with four times the learning rate. Decay spares none."""
    w = np.ones(4)
    opt = schuss.CautiousLion([w], lr=0.1, betas=(0.9, 0.9))
    opt.step([np.ones(4)])
    np.testing.assert_allclose(w, 0.9)
    opt.param_groups[0]["weight_decay"] = 0.5
    opt.step([np.array([1.0, -0.1, -0.1, -0.1])])
    np.testing.assert_allclose(w, [0.9 * 0.95 - 0.4, *[0.9 * 0.95] * 3])


@pytest.mark.parametrize("make", [schuss.CautiousAdamW, schuss.CautiousLion])
def test_the_least_mean_of_the_mask(make):
    """One of 5000 is taken for one of 1000."""
    w = np.zeros(5000)
    g = np.zeros(5000)
    g[17] = 2.0
    make([w], lr=1e-3, **({"eps": 0.0} if make is schuss.CautiousAdamW else {})).step([g + 0.0])
    if make is schuss.CautiousLion:
        np.testing.assert_allclose(w[17], -1.0)
    else:
        assert np.isnan(w[0])  # 0 / 0, as in Adam with eps = 0
        np.testing.assert_allclose(w[17], -1.0)


ALL = [
    (schuss.LARS, {"weight_decay": 0.1}),
    (schuss.LARS, {"weight_decay": 0.1, "clip": True, "nesterov": True}),
    (schuss.LARS, {"weight_decay": 0.1, "convention": "optax"}),
    (schuss.LAMB, {"weight_decay": 0.1}),
    (schuss.LAMB, {"weight_decay": 0.1, "clip": True, "convention": "keras"}),
    (schuss.NovoGrad, {"weight_decay": 0.1}),
    (schuss.NovoGrad, {"convention": "optax"}),
    (schuss.StableAdamW, {}),
    (schuss.Fromage, {}),
    (schuss.Fromage, {"convention": "optax"}),
    (schuss.CautiousAdamW, {"weight_decay": 0.1}),
    (schuss.CautiousLion, {"weight_decay": 0.1}),
    (schuss.MARS, {"weight_decay": 0.1}),
    (schuss.MARSLion, {"weight_decay": 0.1}),
]


@pytest.mark.parametrize("backend", ["numpy", "auto"])
@pytest.mark.parametrize(("make", "options"), ALL)
def test_zeros(make, options, backend):
    """No elements, no gradient, no weights, neither: all stays finite, and zeros without gradient are zeros."""
    params = [np.zeros((0, 3)), np.ones(5), np.zeros(5), np.zeros(5), np.array(0.0)]
    opt = make(params, lr=0.1, **options, backend=backend)
    for _ in range(3):
        opt.step([np.zeros((0, 3)), np.zeros(5), np.full(5, 0.5), np.zeros(5), np.array(0.0)])
    assert all(np.isfinite(p).all() for p in params)
    assert np.all((params[1] > 0.0) & (params[1] <= 1.0))
    assert np.all(params[2] < 0.0)
    assert not params[3].any()
    assert params[4] == 0.0
    opt.step([None, None, np.full(5, 0.5), None, None])
    assert all(np.isfinite(p).all() for p in params)


@pytest.mark.parametrize(("make", "options"), [(schuss.NovoGrad, {"eps": 0.0}), (schuss.NovoGrad, {"eps": 1e-300})])
def test_a_tensor_with_no_gradient_to_divide_by(make, options):
    w = np.ones(3)
    opt = make([w], lr=0.1, **options)
    opt.step([np.zeros(3)])
    np.testing.assert_array_equal(w, 1.0)
    opt.step([np.array([3.0, 0.0, -4.0])])
    np.testing.assert_allclose(w, 1.0 - 0.1 * np.array([3.0, 0.0, -4.0]) / math.sqrt(0.02 * 25.0))


def test_where_a_norm_is_zero_the_rate_is_the_learning_rate():
    g, w = np.full(2, 0.5), np.zeros(2)
    for options in ({}, {"clip": True}, {"convention": "optax"}, {"convention": "optax", "clip": True}):
        w[...] = 0.0
        schuss.LARS([w], lr=0.1, **options).step([g])
        np.testing.assert_allclose(w, -0.05)
    for options, moved in (({}, 0.05), ({"min_norm": 1e-3}, 0.1 * 1e-3 / math.hypot(0.5, 0.5) * 0.5)):
        w[...] = 0.0
        schuss.Fromage([w], lr=0.1, **options).step([g])
        np.testing.assert_allclose(w, -moved / math.sqrt(1.01))
    w[...] = 0.0
    schuss.LAMB([w], lr=0.1, eps=0.0).step([g])
    np.testing.assert_allclose(w, -0.1)


@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_novograds_number_goes_on_from_a_state_dict(backend):
    """It is one a tensor, stays where there is no gradient, and the first gradient sets it."""
    w = [np.ones(3), np.ones(2)]
    opt = schuss.NovoGrad(w, lr=0.1, backend=backend)
    opt.step([np.array([3.0, 0.0, 4.0]), None])
    opt.step([np.zeros(3), np.array([0.6, 0.8])])
    state = opt.state_dict()["state"]
    assert [state[name]["running"]["exp_avg_sq"] for name in ("0", "1")] == pytest.approx([0.98 * 25.0, 1.0])
    copies = [p.copy() for p in w]
    resumed = schuss.NovoGrad(copies, lr=0.1, backend=backend)
    resumed.load_state_dict(opt.state_dict())
    for one in (opt, resumed):
        one.step([np.array([1.0, -2.0, 0.5]), np.array([0.1, 0.2])])
    for ours, theirs in zip(w, copies, strict=True):
        assert_same_bits(theirs, ours)


CONVENTIONS = [
    (schuss.LARS, ["paper", "optax"]),
    (schuss.LAMB, ["paper", "optax", "keras"]),
    (schuss.NovoGrad, ["paper", "optax"]),
    (schuss.Fromage, ["paper", "optax"]),
]


@pytest.mark.parametrize(("make", "names"), CONVENTIONS)
def test_conventions(make, names):
    """What the table says of the defaults is what they are; the paper's is the convention by itself."""
    assert list(make._conventions) == names
    assert make([np.ones(3)]).param_groups[0]["convention"] == "paper"
    for convention, (defaults, *_) in make._conventions.items():
        [group] = make([np.ones(3)], convention=convention).param_groups
        assert {name: group[name] for name in defaults} == defaults
        assert None not in group.options.values()
    with pytest.raises(ValueError, match=f"convention: expected one of 'paper', .*'{names[-1]}'; got 'torch'"):
        make([np.ones(3)], convention="torch")


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (schuss.LARS, {"nesterov": True, "momentum": 0.0}, "nesterov needs momentum above 0; got momentum=0.0"),
        (schuss.LARS, {"trust_coefficient": -1.0}, "trust_coefficient: .*at least 0; got -1.0"),
        (schuss.LARS, {"momentum": -0.1}, "momentum: .*at least 0; got -0.1"),
        (schuss.LAMB, {"betas": (0.9, 1.0)}, "betas: .*at least 0 and below 1; got .*1.0"),
        (schuss.NovoGrad, {"betas": (0.9, 1.0)}, "betas: .*at least 0 and below 1; got .*1.0"),
        (schuss.NovoGrad, {"betas": (0.9, 0.9, 0.9)}, "betas: expected 2 numbers"),
        (schuss.StableAdamW, {"eps": -1.0}, "eps: .*at least 0; got -1.0"),
        (schuss.Fromage, {"min_norm": -1.0}, "min_norm: .*at least 0; got -1.0"),
        (schuss.CautiousLion, {"betas": (-0.1, 0.9)}, "betas: .*at least 0 and below 1; got .*-0.1"),
        (schuss.MARS, {"gamma": -1.0}, "gamma: .*at least 0; got -1.0"),
        (schuss.MARSLion, {"beta": 1.0}, "beta: .*at least 0 and below 1; got 1.0"),
    ],
)
def test_bad_options(make, options, message):
    with pytest.raises(ValueError, match=message):
        make([np.ones(3)], **options)


@pytest.mark.parametrize(
    ("option", "make"), [("clip", schuss.LARS), ("clip", schuss.LAMB), ("always_adapt", schuss.LAMB)]
)
def test_flags(option, make):
    with pytest.raises(TypeError, match=f"{option}: expected True or False; got 1.5"):
        make([np.ones(3)], **{option: 1.5})
