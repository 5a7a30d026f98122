"""AdaBelief, ACProp, Yogi, Adan, AdEMAMix, ADOPT, LaProp, Grams, Lion and Tiger against their papers, number by number.

Every function below is a paper's algorithm (where said, the authors' code) for one number, in plain Python.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import schuss

STEPS = 30
START = 0.7


def gradients():
    """They change size, once the sign, and are 0 once."""
    rng = np.random.default_rng(11)
    made = rng.standard_normal(STEPS) * (1 + np.arange(STEPS) % 5)
    made[12] = 0.0
    return [float(g) for g in made]


def rates():
    return [0.05 * (1.0 + 0.5 * math.sin(step)) for step in range(STEPS)]


def given():
    """Step, gradient and learning rate."""
    return zip(range(1, STEPS + 1), gradients(), rates(), strict=True)


def sign(x):
    return math.copysign(1.0, x) if x else 0.0


def path(make, dtype, backend="numpy", **options):
    """One number's way under an optimizer."""
    w = np.array([START], dtype)
    optimizer = make([w], backend=backend, **options)
    made = []
    for _, g, rate in given():
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step([np.array([g], dtype)])
        made.append(float(w[0]))
    return made


def adabelief(decay, beta1=0.9, beta2=0.999, eps=1e-3):
    """Zhuang et al. 2020, Algorithm 2: one eps, in s and beside its root; the decay of the authors' code."""
    theta, m, s = START, 0.0, 0.0
    for t, g, alpha in given():
        theta *= 1 - alpha * decay
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * (g - m) ** 2 + eps
        theta -= alpha * (m / (1 - beta1**t)) / (math.sqrt(s / (1 - beta2**t)) + eps)
        yield theta


def adabelief_coupled(decay, beta1=0.9, beta2=0.999, eps=1e-16):
    """The authors' code with ``weight_decouple=False``."""
    theta, m, s = START, 0.0, 0.0
    for t, g, alpha in given():
        g = g + decay * theta
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * (g - m) ** 2 + eps
        theta -= alpha / (1 - beta1**t) * m / (math.sqrt(s) / math.sqrt(1 - beta2**t) + eps)
        yield theta


def acprop(decay, beta1=0.9, beta2=0.999, eps=1e-3):
    """Optax's: what divides is known before the gradient; at first nothing is."""
    theta, m, s = START, 0.0, 0.0
    for t, g, alpha in given():
        known = 1.0 if t == 1 else s / (1 - beta2 ** (t - 1))
        s = beta2 * s + (1 - beta2) * (g - m) ** 2 + 1e-16
        m = beta1 * m + (1 - beta1) * g
        theta -= alpha * (g / (math.sqrt(known) + eps) + decay * theta)
        yield theta


def yogi(decay, beta1=0.9, beta2=0.999, eps=1e-3, initial=0.0):
    """Zaheer et al. 2018, Algorithm 2, and AdamW's decay."""
    x, m, v = START, 0.0, initial
    for _, g, eta in given():
        x *= 1 - eta * decay
        m = beta1 * m + (1 - beta1) * g
        v = v - (1 - beta2) * sign(v - g**2) * g**2
        x -= eta * m / (math.sqrt(v) + eps)
        yield x


def yogi_from(decay):
    return yogi(decay, beta2=0.5, initial=4.0)


def adan(decay, beta1=0.02, beta2=0.08, beta3=0.01, eps=1e-8):
    """Xie et al. 2022, Algorithm 1, with the paper's betas (what is new); corrected as in the authors' code."""
    theta, m, v, n, before = START, 0.0, 0.0, 0.0, None
    for k, g, eta in given():
        difference = 0.0 if before is None else g - before
        before = g
        m = (1 - beta1) * m + beta1 * g
        v = (1 - beta2) * v + beta2 * difference
        n = (1 - beta3) * n + beta3 * (g + (1 - beta2) * difference) ** 2
        root = math.sqrt(n / (1 - (1 - beta3) ** k)) + eps
        ahead = m / (1 - (1 - beta1) ** k) + (1 - beta2) * v / (1 - (1 - beta2) ** k)
        theta = (theta - eta * ahead / root) / (1 + decay * eta)
        yield theta


def ademamix(decay, beta1=0.9, beta2=0.999, beta3=0.9999, alpha=5.0, eps=1e-8, total=None):
    """Pagliardini et al. 2024, Algorithm 1, with its two schedules."""
    theta, fast, slow, v = START, 0.0, 0.0, 0.0
    for t, g, eta in given():
        weight, kept = alpha, beta3
        if total is not None:
            weight = min(t * alpha / total, alpha)
            product = math.log(beta1) * math.log(beta3)
            mixed = (1 - t / total) * math.log(beta3) + t / total * math.log(beta1)
            kept = min(math.exp(product / mixed), beta3)
        fast = beta1 * fast + (1 - beta1) * g
        slow = kept * slow + (1 - kept) * g
        v = beta2 * v + (1 - beta2) * g**2
        u = (fast / (1 - beta1**t) + weight * slow) / (math.sqrt(v / (1 - beta2**t)) + eps)
        theta -= eta * (u + decay * theta)
        yield theta


def ademamix_warmed(decay):
    return ademamix(decay, total=20)


def simplified_ademamix(decay, beta1=0.99, beta2=0.95, alpha=0.7, eps=1e-8):
    """Morwani et al. 2025, as in Optax."""
    theta, m, v = START, 0.0, 0.0
    for t, g, eta in given():
        m = beta1 * m + g
        v = beta2 * v + (1 - beta2) * g**2
        theta -= eta * ((m + alpha * g) / (math.sqrt(v / (1 - beta2**t)) + eps) + decay * theta)
        yield theta


def adopt(decay, beta1=0.9, beta2=0.9999, eps=1e-6, decoupled=True, clip=True):
    """Taniguchi et al. 2024, clipped, in the order of the authors' code, whose steps count from 0."""
    theta, m, v = START, 0.0, 0.0
    for step, (_, g, alpha) in enumerate(given()):
        if not decoupled:
            g = g + decay * theta
        if step == 0:
            v = g**2
            yield theta
            continue
        if decoupled:
            theta -= alpha * decay * theta
        normed = g / max(math.sqrt(v), eps)
        if clip:
            normed = min(max(normed, -(step**0.25)), step**0.25)
        m = m + (1 - beta1) * (normed - m)
        theta -= alpha * m
        v = beta2 * v + (1 - beta2) * g**2
        yield theta


def adopt_coupled(decay):
    return adopt(decay, decoupled=False)


def adopt_unclipped(decay):
    return adopt(decay, clip=False)


def laprop(decay, mu=0.9, nu=0.999, eps=1e-15):
    """Ziyin, Wang & Ueda 2020, and AdamW's decay."""
    theta, m, n = START, 0.0, 0.0
    for t, g, rate in given():
        theta *= 1 - rate * decay
        n = nu * n + (1 - nu) * g**2
        m = mu * m + (1 - mu) * g / (math.sqrt(n / (1 - nu**t)) + eps)
        theta -= rate * m / (1 - mu**t)
        yield theta


def grams(decay, beta1=0.9, beta2=0.999, eps=1e-6):
    """Cao, Li & Song 2024."""
    w, m, v = START, 0.0, 0.0
    for t, g, eta in given():
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        u = m / (1 - beta1**t) / (math.sqrt(v / (1 - beta2**t)) + eps)
        w -= eta * (sign(g) * abs(u) + decay * w)
        yield w


def lion(decay, beta1=0.9, beta2=0.99):
    """Chen et al. 2023, Algorithm 2."""
    theta, m = START, 0.0
    for _, g, eta in given():
        c = beta1 * m + (1 - beta1) * g
        theta -= eta * (sign(c) + decay * theta)
        m = beta2 * m + (1 - beta2) * g
        yield theta


def tiger(decay, beta=0.965):
    """Su 2023, without what is chosen by a tensor's name."""
    theta, m = START, 0.0
    for _, g, alpha in given():
        m = beta * m + (1 - beta) * g
        theta -= alpha * (sign(m) + decay * theta)
        yield theta


PAPERS = [
    (schuss.AdaBelief, {"eps": 1e-3, "eps_root": 1e-3}, adabelief),
    (schuss.AdaBelief, {"decoupled_weight_decay": False}, adabelief_coupled),
    (schuss.ACProp, {"eps": 1e-3}, acprop),
    (schuss.Yogi, {}, yogi),
    (schuss.Yogi, {"betas": (0.9, 0.5), "initial_accumulator_value": 4.0}, yogi_from),
    (schuss.Adan, {}, adan),
    (schuss.AdEMAMix, {}, ademamix),
    (schuss.AdEMAMix, {"t_alpha_beta3": 20}, ademamix_warmed),
    (schuss.SimplifiedAdEMAMix, {"alpha": 0.7}, simplified_ademamix),
    (schuss.ADOPT, {"decoupled_weight_decay": True}, adopt),
    (schuss.ADOPT, {}, adopt_coupled),
    (schuss.ADOPT, {"decoupled_weight_decay": True, "use_clipping": False}, adopt_unclipped),
    (schuss.LaProp, {}, laprop),
    (schuss.Grams, {}, grams),
    (schuss.Lion, {}, lion),
    (schuss.Tiger, {}, tiger),
]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-5)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize(("make", "options", "paper"), PAPERS, ids=lambda value: getattr(value, "__name__", None))
def test_papers(make, options, paper, decay, dtype, tolerance):
    ours, theirs = path(make, dtype, weight_decay=decay, **options), list(paper(decay))
    assert len(ours) == len(theirs) == STEPS
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(map(abs, theirs)))


def one_step(make, g, **options):
    w = np.array([1.0])
    make([w], backend="numpy", **options).step([np.array([g])])
    return w[0]


def test_first_steps_by_hand():
    """lr = 0.1, from 1, with a gradient of 4."""
    # s = 0.25 * (4 - 2)^2 = 1, corrected 4; m corrected 4
    assert one_step(schuss.AdaBelief, 4.0, lr=0.1, betas=(0.5, 0.75)) == pytest.approx(0.8)
    # v = 0.25 * 16 = 4 from below, m = 2
    assert one_step(schuss.Yogi, 4.0, lr=0.1, betas=(0.5, 0.75), eps=0.0) == pytest.approx(0.9)
    # v = 20 - 0.25 * 16 = 16 from above, m = 4
    options = {"betas": (0.0, 0.75), "eps": 0.0, "initial_accumulator_value": 20.0}
    assert one_step(schuss.Yogi, 4.0, lr=0.1, **options) == pytest.approx(0.9)
    # a whole step of 0.1, then divided by 1 + 0.1 * 0.5
    assert one_step(schuss.Adan, 4.0, lr=0.1, weight_decay=0.5) == pytest.approx(0.9 / 1.05)
    assert one_step(schuss.Adan, 4.0, lr=0.1, weight_decay=0.5, convention="optax") == pytest.approx(0.95 - 0.1)
    assert one_step(schuss.ADOPT, 4.0, lr=0.1, weight_decay=0.5, decoupled_weight_decay=True) == 1.0
    assert one_step(schuss.Lion, 4.0, lr=0.1, weight_decay=0.5) == pytest.approx(0.85)


def test_grams_goes_with_the_gradient():
    """After a gradient up that is small beside the mean: Adam still goes down, Grams goes up as far."""
    w, v = np.array([0.0]), np.array([0.0])
    grams_, adam = schuss.Grams([w], eps=1e-8, lr=0.1), schuss.Adam([v], lr=0.1)
    for g in (1.0, -0.1):
        before = w[0], v[0]
        grams_.step([np.array([g])])
        adam.step([np.array([g])])
    assert v[0] < before[1]
    assert w[0] - before[0] == pytest.approx(before[1] - v[0])


def test_ademamix_warm_up_ends():
    """From the last step of the warm-up on, the numbers are the final ones."""
    from schuss_kernels.rules.ademamix import warmed

    assert warmed(20, 0.9, 0.9999, 5.0, 20.0) == warmed(1, 0.9, 0.9999, 5.0, 0.0) == (5.0, 0.9999)
    alphas, betas = zip(*(warmed(step, 0.9, 0.9999, 5.0, 20.0) for step in range(1, 21)), strict=True)
    assert list(alphas) == pytest.approx([0.25 * step for step in range(1, 21)])
    assert 0.9 < betas[0] < betas[1] < betas[18] < betas[19] == 0.9999
    half_lives = np.diff([math.log(0.5) / math.log(beta) for beta in betas])
    np.testing.assert_allclose(half_lives, half_lives[0], rtol=1e-9)


@pytest.mark.parametrize("betas", [(0.0, 0.9, 0.99), (0.9, 0.9, 0.0), (0.0, 0.0, 0.0), (0.99, 0.9, 0.9)])
def test_ademamix_warm_up_at_the_limits(betas):
    """No logarithm of 0, and the decay never passes its final value."""
    from schuss_kernels.rules.ademamix import warmed

    found = [warmed(step, betas[0], betas[2], 5.0, 10.0)[1] for step in range(1, 13)]
    assert all(0.0 <= beta <= betas[2] for beta in found)
    assert np.isfinite(path(schuss.AdEMAMix, np.float64, betas=betas, t_alpha_beta3=10)).all()


@pytest.mark.parametrize("clipping", [True, False])
@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_adopt_takes_no_step_at_first(eps, clipping):
    """Whatever the gradient: the second moment starts as its square, the mean stays 0."""
    g = np.array([0.0, 3.0, -1e200, 1e-300])
    w = np.arange(1.0, 5.0)
    optimizer = schuss.ADOPT([w], eps=eps, use_clipping=clipping, backend="numpy")
    with np.errstate(over="ignore"):
        optimizer.step([g])
        np.testing.assert_array_equal(w, np.arange(1.0, 5.0))
        state = optimizer.state_dict()["state"]["0"]
        np.testing.assert_array_equal(state["exp_avg"], np.zeros(4))
        np.testing.assert_array_equal(state["exp_avg_sq"], g * g)


def test_adan_knows_no_gradient_before_the_first():
    """A tensor that gets its first gradient later starts then."""
    late, only = np.array([1.0]), np.array([1.0])
    optimizer, other = schuss.Adan({"late": late, "rest": np.ones(1)}), schuss.Adan([only])
    optimizer.step({"late": None, "rest": np.ones(1)})
    for g in (0.5, -2.0):
        optimizer.step({"late": np.array([g]), "rest": np.ones(1)})
        other.step([np.array([g])])
    np.testing.assert_array_equal(late, only)


def test_lion_conventions_are_defaults():
    for convention, lr, decay in [("paper", 1e-4, 0.0), ("keras", 1e-3, 0.0), ("optax", 1e-4, 1e-3)]:
        [group] = schuss.Lion([np.ones(1)], convention=convention).param_groups
        assert (group["lr"], group["weight_decay"]) == (lr, decay)
    [group] = schuss.Lion([np.ones(1)]).param_groups
    assert group["convention"] == "paper"


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (schuss.AdaBelief, {"eps_root": -1.0}, "eps_root: expected a finite number, at least 0; got -1.0"),
        (schuss.AdaBelief, {"decoupled_weight_decay": 1}, "decoupled_weight_decay: expected True or False; got 1"),
        (schuss.ACProp, {"betas": (0.9, 1.0)}, "betas: expected at least 0 and below 1; got"),
        (schuss.Yogi, {"initial_accumulator_value": -1e-6}, "initial_accumulator_value: expected a finite number, at"),
        (schuss.Yogi, {"convention": "torch"}, "convention: expected one of 'paper', 'optax'; got 'torch'"),
        (schuss.Adan, {"betas": (0.9, 0.9)}, "betas: expected 3 numbers; got"),
        (schuss.AdEMAMix, {"alpha": -1.0}, "alpha: expected a finite number, at least 0; got -1.0"),
        (schuss.AdEMAMix, {"t_alpha_beta3": -1.0}, "t_alpha_beta3: expected a finite number, at least 0; got -1.0"),
        (schuss.AdEMAMix, {"t_alpha_beta3": None}, "t_alpha_beta3: expected a number; got None"),
        (schuss.SimplifiedAdEMAMix, {"betas": 0.9}, "betas: expected a tuple of 2 numbers; got 0.9"),
        (schuss.ADOPT, {"use_clipping": 0.25}, "use_clipping: expected True or False; got 0.25"),
        (schuss.ADOPT, {"convention": "paperr"}, "convention: .*; got 'paperr', did you mean 'paper'"),
        (schuss.LaProp, {"eps": math.nan}, "eps: expected a finite number, at least 0; got nan"),
        (schuss.Grams, {"weight_decay": -0.1}, "weight_decay: expected a finite number, at least 0; got -0.1"),
        (schuss.Lion, {"convention": "torch"}, "convention: expected one of 'paper', 'keras', 'optax'; got 'torch'"),
        (schuss.Lion, {"betas": (1.5, 0.9)}, "betas: expected at least 0 and below 1; got"),
        (schuss.Tiger, {"beta": 1.0}, "beta: expected at least 0 and below 1; got 1.0"),
        (schuss.Tiger, {"betas": (0.9, 0.9)}, "unknown option 'betas', did you mean 'beta'"),
    ],
    ids=str,
)
def test_bad_options(make, options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make([np.ones(3)], **options)


@pytest.mark.parametrize("convention", ["paper", "optax"])
@pytest.mark.parametrize("make", [schuss.Yogi, schuss.Adan, schuss.ADOPT, schuss.Lion])
def test_a_state_dict_keeps_the_convention(make, convention):
    """An optimizer of the default convention takes it over, and goes on as the first would have."""
    steps = np.random.default_rng(0).standard_normal((6, 7))
    w = np.ones(7)
    options = {"decoupled_weight_decay": True} if make is schuss.ADOPT else {}
    first = make([w], lr=0.1, convention=convention, weight_decay=0.1, **options)
    for g in steps[:3]:
        first.step([g])
    saved, v = first.state_dict(), w.copy()
    second = make([v])
    second.load_state_dict(saved)
    assert second.param_groups[0].options == first.param_groups[0].options
    for g in steps[3:]:
        first.step([g])
        second.step([g])
    np.testing.assert_array_equal(v, w)


@pytest.mark.parametrize("make", [schuss.Yogi, schuss.Adan, schuss.ADOPT, schuss.Lion])
def test_the_default_convention_is_the_papers(make):
    """Its own defaults are those that the conventions tell, and no option is left open."""
    for convention, (defaults, *_) in make._conventions.items():
        [group] = make([np.ones(3)], convention=convention).param_groups
        assert {name: group[name] for name in defaults} == defaults
        assert None not in group.options.values()
    [group] = make([np.ones(3)]).param_groups
    assert group["convention"] == next(iter(make._conventions)) == "paper"
