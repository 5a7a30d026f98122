"""Optimizers that find their learning rate, need no schedule, or take a Hessian: against the papers, step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest

import schuss

STEPS = 25
SHAPES = [(4, 3), (5,)]
TOLERANCE = {np.float64: 1e-10, np.float32: 1e-5}


def start(dtype=np.float64):
    rng = np.random.default_rng(1)
    return [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]


def gradients(dtype=np.float64):
    """Of every step, of quite different sizes; one element has none at first."""
    rng = np.random.default_rng(2)
    made = [
        [((rng.standard_normal(shape) + 0.3) * (1 + step % 5)).astype(dtype) for shape in SHAPES]
        for step in range(STEPS)
    ]
    for step in range(3):
        made[step][1][-1] = 0.0
    return made


def hessians(dtype=np.float64):
    rng = np.random.default_rng(3)
    return [[(rng.standard_normal(shape) + 0.5).astype(dtype) for shape in SHAPES] for _ in range(STEPS)]


def rates(base):
    return [base * (1.0 + 0.5 * math.sin(step)) for step in range(STEPS)]


def trajectory(make, dtype, base, seen=lambda opt, params: params, **options):
    """What ``seen`` finds after every step, as one row of numbers."""
    params = start(dtype)
    opt = make(params, **options)
    for rate, g in zip(rates(base), gradients(dtype), strict=True):
        opt.param_groups[0]["lr"] = rate
        opt.step(g)
        yield np.concatenate([np.ravel(p) for p in seen(opt, params)]).astype(np.float64)


def compare(ours, theirs, dtype):
    count = 0
    for one, other in zip(ours, theirs, strict=True):
        flat = np.concatenate([np.ravel(p) for p in other])
        np.testing.assert_allclose(one, flat, rtol=0, atol=TOLERANCE[dtype] * np.abs(flat).max(), err_msg=str(count))
        count += 1
    assert count == STEPS


def dot(one, other):
    return sum(float((a * b).sum()) for a, b in zip(one, other, strict=True))


def norm(arrays):
    return math.sqrt(dot(arrays, arrays))


# ------------------------------------------------------------------------------------------------------ DoG and DoWG


def dog(base, weight_decay=0.0, reps_rel=1e-6, init_eta=0.0, init_dist=0.0, eps=1e-8, tensors=slice(None)):
    """Ivgi, Hinder & Carmon 2023: the distance over the gradients."""
    x = start()[tensors]
    x0 = [p.copy() for p in x]
    r = init_dist or (0.0 if init_eta else reps_rel * (1 + norm(x0)))
    total = 0.0
    for t, (g, c) in enumerate(zip(gradients(), rates(base), strict=True)):
        g = [a + weight_decay * p for a, p in zip(g[tensors], x, strict=True)]
        r = max(r, norm([p - q for p, q in zip(x, x0, strict=True)]))
        total += dot(g, g)
        eta = init_eta if init_eta and t == 0 else c * r / math.sqrt(total + eps)
        x = [p - eta * a for p, a in zip(x, g, strict=True)]
        yield x


def ldog(base, **options):
    """The same for every tensor by itself."""
    ways = [dog(base, tensors=slice(number, number + 1), **options) for number in range(len(SHAPES))]
    for step in zip(*ways, strict=True):
        yield [x for (x,) in step]


def dowg(base, weight_decay=0.0, init_estim_sq_dist=0.0, eps=1e-4):
    """Khaled, Mishchenko & Jin 2023, Algorithm 1; eps as in the authors' code."""
    x = start()
    x0 = [p.copy() for p in x]
    r2, v = init_estim_sq_dist or eps, 0.0
    for g, c in zip(gradients(), rates(base), strict=True):
        g = [a + weight_decay * p for a, p in zip(g, x, strict=True)]
        away = [p - q for p, q in zip(x, x0, strict=True)]
        r2 = max(r2, dot(away, away))
        v += r2 * dot(g, g)
        x = [p - c * r2 / (math.sqrt(v) + eps) * a for p, a in zip(x, g, strict=True)]
        yield x


# ------------------------------------------------------------------------------------------- Prodigy and D-Adaptation


def prodigy(
    base,
    betas=(0.9, 0.999),
    beta3=0.0,
    eps=1e-8,
    weight_decay=0.0,
    decouple=True,
    use_bias_correction=False,
    safeguard_warmup=False,
    d0=1e-6,
    d_coef=1.0,
    growth_rate=0.0,
):
    """Mishchenko & Defazio 2023, the Adam version, in the way of the authors' code."""
    x, (beta1, beta2) = start(), betas
    x0 = [p.copy() for p in x]
    m, v, s = ([np.zeros(shape) for shape in SHAPES] for _ in range(3))
    d = d_max = d0
    n, beta3 = 0.0, beta3 or math.sqrt(beta2)
    for t, (g, lr) in enumerate(zip(gradients(), rates(base), strict=True), 1):
        dlr = d * lr * (math.sqrt(1 - beta2**t) / (1 - beta1**t) if use_bias_correction else 1)
        if not decouple:
            g = [a + weight_decay * p for a, p in zip(g, x, strict=True)]
        n = beta3 * n + (d / d0) * dlr * dot(g, [q - p for p, q in zip(x, x0, strict=True)])
        m = [beta1 * a + d * (1 - beta1) * b for a, b in zip(m, g, strict=True)]
        v = [beta2 * a + d**2 * (1 - beta2) * b**2 for a, b in zip(v, g, strict=True)]
        s = [beta3 * a + (d / d0) * (d if safeguard_warmup else dlr) * b for a, b in zip(s, g, strict=True)]
        found = d_coef * n / sum(float(np.abs(a).sum()) for a in s)
        if d == d0:
            d = max(d, found)
        d_max = max(d_max, found)
        d = min(d_max, d * (growth_rate or math.inf))
        if decouple:
            x = [p - weight_decay * dlr * p for p in x]
        x = [p - dlr * a / (np.sqrt(b) + d * eps) for p, a, b in zip(x, m, v, strict=True)]
        yield x


def dadapt(
    base,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0.0,
    decouple=False,
    use_bias_correction=False,
    d0=1e-6,
    growth_rate=0.0,
):
    """Defazio & Mishchenko 2023, the Adam version, in the way of the authors' code."""
    x, (beta1, beta2) = start(), betas
    m, v, s = ([np.zeros(shape) for shape in SHAPES] for _ in range(3))
    d, n, root = d0, 0.0, math.sqrt(beta2)
    for t, (g, lr) in enumerate(zip(gradients(), rates(base), strict=True), 1):
        dlr = d * lr * (math.sqrt(1 - beta2**t) / (1 - beta1**t) if use_bias_correction else 1)
        if not decouple:
            g = [a + weight_decay * p for a, p in zip(g, x, strict=True)]
        n = root * n + (1 - root) * dlr * dot(g, [a / (np.sqrt(b) + eps) for a, b in zip(s, v, strict=True)])
        m = [beta1 * a + (1 - beta1) * dlr * b for a, b in zip(m, g, strict=True)]
        v = [beta2 * a + (1 - beta2) * b**2 for a, b in zip(v, g, strict=True)]
        s = [root * a + (1 - root) * dlr * b for a, b in zip(s, g, strict=True)]
        found = n / ((1 - root) * sum(float(np.abs(a).sum()) for a in s))
        d = max(d, min(found, d * (growth_rate or math.inf)))
        if decouple:
            x = [p - weight_decay * dlr * p for p in x]
        x = [p - a / (np.sqrt(b) + eps) for p, a, b in zip(x, m, v, strict=True)]
        yield x


# -------------------------------------------------------------------------------------------------------- Schedule-Free


def means(base, beta, direction, lr_of, weight_decay=0.0, r=0.0, weight_lr_power=2.0):
    """Defazio et al. 2024: all three sequences, as they are written."""
    x, z, y = start(), start(), start()
    total, most = 0.0, 0.0
    for t, (g, lr) in enumerate(zip(gradients(), rates(base), strict=True), 1):
        lr = lr_of(lr, t)
        u = [a + weight_decay * p for a, p in zip(direction(g, t), y, strict=True)]
        z = [a - lr * b for a, b in zip(z, u, strict=True)]
        most = max(most, lr)
        weight = t**r * most**weight_lr_power
        total += weight
        c = weight / total if total else 0.0
        x = [(1 - c) * a + c * b for a, b in zip(x, z, strict=True)]
        y = [(1 - beta) * b + beta * a for a, b in zip(x, z, strict=True)]
        yield y, x


def warm(steps):
    return lambda lr, t: lr * min(1.0, t / steps) if steps else lr


def schedule_free_sgd(base, momentum=0.9, warmup_steps=0, **options):
    return means(base, momentum, lambda g, t: g, warm(warmup_steps), **options)


def adam_direction(beta2, eps, corrected=True):
    v = [np.zeros(shape) for shape in SHAPES]

    def direction(g, t):
        v[:] = [beta2 * a + (1 - beta2) * b**2 for a, b in zip(v, g, strict=True)]
        return [b / (np.sqrt(a / (1 - beta2**t if corrected else 1)) + eps) for a, b in zip(v, g, strict=True)]

    return direction


def schedule_free_adamw(base, betas=(0.9, 0.999), eps=1e-8, warmup_steps=0, convention="authors", **options):
    warmed, corrected = warm(warmup_steps), convention != "paper"

    def lr_of(lr, t):
        return warmed(lr, t) * (1 if corrected else math.sqrt(1 - betas[1] ** t))

    return means(base, betas[0], adam_direction(betas[1], eps, corrected), lr_of, **options)


def schedule_free_radam(base, betas=(0.9, 0.999), eps=1e-8, silent_sgd_phase=True, **options):
    """The rectification is that of Liu et al. 2020, Algorithm 2."""
    limit, divided = 2 / (1 - betas[1]) - 1, adam_direction(betas[1], eps)

    def rho(t):
        return limit - 2 * t * betas[1] ** t / (1 - betas[1] ** t)

    def lr_of(lr, t):
        if rho(t) <= 4:
            return 0.0 if silent_sgd_phase else lr
        share = (rho(t) - 4) * (rho(t) - 2) * limit / ((limit - 4) * (limit - 2) * rho(t))
        return lr * math.sqrt(share)

    def direction(g, t):
        made = divided(g, t)
        return made if rho(t) > 4 else g

    return means(base, betas[0], direction, lr_of, **options)


# --------------------------------------------------------------------------------------------------------------- tests

DECAY = {"weight_decay": 0.1}
CORRECT = {"use_bias_correction": True}
PAPERS = [
    (schuss.DoG, dog, 1.0, {}),
    (schuss.DoG, dog, 0.8, {"reps_rel": 0.01, "eps": 0.1, **DECAY}),
    (schuss.DoG, dog, 1.0, {"init_eta": 0.01, **DECAY}),
    (schuss.DoG, dog, 1.0, {"init_dist": 0.2}),
    (schuss.LDoG, ldog, 1.0, {"reps_rel": 0.01, **DECAY}),
    (schuss.LDoG, ldog, 0.8, {"init_eta": 0.01}),
    (schuss.DoWG, dowg, 1.0, {}),
    (schuss.DoWG, dowg, 0.8, {"init_estim_sq_dist": 0.1, "eps": 0.01, **DECAY}),
    (schuss.Prodigy, prodigy, 1.0, {}),
    (schuss.Prodigy, prodigy, 0.8, {"d0": 0.01, "d_coef": 2.0, "betas": (0.8, 0.9), "beta3": 0.8, "eps": 0.1, **DECAY}),
    (schuss.Prodigy, prodigy, 1.0, {"d0": 0.01, "decouple": False, "safeguard_warmup": True, **CORRECT, **DECAY}),
    (schuss.Prodigy, prodigy, 1.0, {"d0": 0.01, "growth_rate": 1.02}),
    (schuss.DAdaptAdam, dadapt, 1.0, {}),
    (schuss.DAdaptAdam, dadapt, 0.8, {"d0": 0.01, "betas": (0.8, 0.9), "eps": 0.1, **DECAY}),
    (schuss.DAdaptAdam, dadapt, 1.0, {"d0": 0.01, "decouple": True, "growth_rate": 1.02, **CORRECT, **DECAY}),
]
FREE = [
    (schuss.ScheduleFreeSGD, schedule_free_sgd, 0.1, {}),
    (schuss.ScheduleFreeSGD, schedule_free_sgd, 0.1, {"momentum": 0.5, "warmup_steps": 7, "r": 1.0, **DECAY}),
    (schuss.ScheduleFreeSGD, schedule_free_sgd, 0.1, {"weight_lr_power": 0.0}),
    (schuss.ScheduleFreeAdamW, schedule_free_adamw, 0.1, {}),
    (
        schuss.ScheduleFreeAdamW,
        schedule_free_adamw,
        0.1,
        {"betas": (0.5, 0.9), "eps": 0.1, "warmup_steps": 7, "r": 1.0, "weight_lr_power": 1.0, **DECAY},
    ),
    (schuss.ScheduleFreeAdamW, schedule_free_adamw, 0.1, {"convention": "paper", "warmup_steps": 5}),
    (schuss.ScheduleFreeAdamW, schedule_free_adamw, 0.1, {"convention": "paper", "betas": (0.5, 0.9), **DECAY}),
    (schuss.ScheduleFreeRAdam, schedule_free_radam, 0.1, {}),
    (schuss.ScheduleFreeRAdam, schedule_free_radam, 0.1, {"betas": (0.8, 0.95), "silent_sgd_phase": False, **DECAY}),
]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("make", "paper", "base", "options"), PAPERS)
def test_papers(make, paper, base, options, dtype):
    compare(trajectory(make, dtype, base, backend="numpy", **options), paper(base, **options), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("make", "paper", "base", "options"), FREE)
def test_papers_of_schedule_free(make, paper, base, options, dtype):
    """y, and x in evaluation mode."""
    compare(trajectory(make, dtype, base, backend="numpy", **options), (y for y, _ in paper(base, **options)), dtype)

    def averaged(opt, params):
        with opt.averaged():
            return [p.copy() for p in params]

    means_of = (x for _, x in paper(base, **options))
    compare(trajectory(make, dtype, base, averaged, backend="numpy", **options), means_of, dtype)


def test_the_warm_up_of_optax():
    """Its schedule starts at 0 for the step, and one step further on for the weight (optax 0.2.8)."""
    w = np.array([1.0, -2.0])
    opt = schuss.ScheduleFreeSGD([w], lr=0.5, momentum=0.8, warmup_steps=4, convention="optax")
    z, x, y, total = (w.copy(), w.copy(), w.copy(), 0.0)
    for t, g in enumerate(np.random.default_rng(0).standard_normal((9, 2))):
        opt.step([g])
        z = z - 0.5 * min(1.0, t / 4) * g
        weight = (0.5 * min(1.0, (t + 1) / 4)) ** 2
        total += weight
        x = (1 - weight / total) * x + weight / total * z
        y = 0.2 * z + 0.8 * x
        np.testing.assert_allclose(w, y, rtol=1e-12)


# -------------------------------------------------------------------------------------------------------------- Sophia


def sophia(every, betas=(0.96, 0.99), gamma=0.01, eps=1e-12, weight_decay=0.2, rho=1.0):
    """Liu et al. 2023, Algorithm 3."""
    theta = start()
    m, h = ([np.zeros(shape) for shape in SHAPES] for _ in range(2))
    for t, (g, estimate, lr) in enumerate(zip(gradients(), hessians(), rates(0.05), strict=True), 1):
        m = [betas[0] * a + (1 - betas[0]) * b for a, b in zip(m, g, strict=True)]
        if every == 1 or t % every == 1:
            h = [betas[1] * a + (1 - betas[1]) * b for a, b in zip(h, estimate, strict=True)]
        theta = [p - lr * weight_decay * p for p in theta]
        for number, (a, b) in enumerate(zip(m, h, strict=True)):
            theta[number] = theta[number] - lr * np.clip(a / np.maximum(gamma * b, eps), -rho, rho)
        yield theta


def sophia_trajectory(dtype, every, apart=False, **options):
    params = start(dtype)
    opt = schuss.Sophia(params, **options)
    for t, (g, estimate, lr) in enumerate(zip(gradients(dtype), hessians(dtype), rates(0.05), strict=True), 1):
        opt.param_groups[0]["lr"] = lr
        due = every == 1 or t % every == 1
        if due and apart:
            opt.update_hessian(estimate)
        opt.step(g, hessian=estimate if due and not apart else None)
        yield np.concatenate([np.ravel(p) for p in params]).astype(np.float64)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(
    ("every", "options"),
    [(3, {}), (1, {"gamma": 2.0, "betas": (0.8, 0.5), "eps": 0.1, "weight_decay": 0.0}), (4, {"gamma": 1.0})],
)
def test_sophia_against_the_paper(every, options, apart, dtype):
    compare(sophia_trajectory(dtype, every, apart, **options), sophia(every, **options), dtype)


def test_the_limit_of_sophia():
    compare(sophia_trajectory(np.float64, 2, clip_threshold=0.3, gamma=1.0), sophia(2, gamma=1.0, rho=0.3), np.float64)


# ---------------------------------------------------------------------------------------------------- their edges


def test_the_distance_is_of_a_whole_group():
    """Groups have numbers of their own; the tensors of a group have them together."""
    one, other = start(), start()
    grouped = schuss.DoG([{"params": one}, {"params": other, "reps_rel": 0.01}], reps_rel=0.1, backend="numpy")
    alone = [start(), start()]
    apart = [schuss.DoG(p, reps_rel=rel, backend="numpy") for p, rel in zip(alone, (0.1, 0.01), strict=True)]
    for g in gradients()[:5]:
        grouped.step([g, g])
        for opt in apart:
            opt.step(g)
    for ours, theirs in zip([*one, *other], [*alone[0], *alone[1]], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    running = [entry["running"] for entry in grouped.state_dict()["state"].values()]
    assert running[0] == running[1] != running[2] == running[3]


@pytest.mark.parametrize("make", [schuss.DoG, schuss.LDoG, schuss.DoWG, schuss.Prodigy, schuss.DAdaptAdam])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_no_gradient_but_zero_moves_nothing(make, decay):
    w = np.array([1.0, 2.0])
    decoupled = {} if decay == 0.0 or make is not schuss.DAdaptAdam else {"decouple": True}
    opt = make([w], weight_decay=0.0 if make in (schuss.DoG, schuss.LDoG, schuss.DoWG) else decay, **decoupled)
    for _ in range(3):
        opt.step([np.zeros(2)])
    np.testing.assert_array_equal(w, [1.0, 2.0])
    opt.step([np.ones(2)])
    assert np.isfinite(w).all()
    assert (w < [1.0, 2.0]).all()


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (schuss.DoG, {"reps_rel": -1.0}, "reps_rel: expected a finite number, at least 0"),
        (schuss.DoG, {"init_eta": 1.0, "init_dist": 2.0}, "init_eta and init_dist: expected at most one of them"),
        (schuss.LDoG, {"init_eta": 1.0, "init_dist": 2.0}, "init_eta and init_dist: expected at most one of them"),
        (schuss.Prodigy, {"d0": 0.0}, r"d0: expected a number above 0; got 0\.0"),
        (schuss.Prodigy, {"eps": 0.0}, r"eps: expected a number above 0; got 0\.0"),
        (schuss.DAdaptAdam, {"d0": -1.0}, "d0: expected a finite number, at least 0"),
        (schuss.DAdaptAdam, {"growth_rate": 0.5}, r"growth_rate: expected a number of at least 1, or 0 .*; got 0\.5"),
        (schuss.Prodigy, {"decouple": 1.0}, "decouple: expected True or False"),
        (schuss.ScheduleFreeSGD, {"momentum": 0.0}, "momentum: expected a number above 0, as x is found by dividing"),
        (schuss.ScheduleFreeSGD, {"momentum": 1.0}, "momentum: expected at least 0 and below 1"),
        (schuss.ScheduleFreeAdamW, {"betas": (0.0, 0.9)}, r"betas\[0\]: expected a number above 0"),
        (schuss.ScheduleFreeRAdam, {"betas": (0, 0.9)}, r"betas\[0\]: expected a number above 0"),
        (schuss.ScheduleFreeAdamW, {"betas": 0.9}, "betas: expected a tuple of 2 numbers"),
        (schuss.ScheduleFreeAdamW, {"warmup_steps": -1}, "warmup_steps: expected a finite number, at least 0"),
        (schuss.ScheduleFreeSGD, {"r": 1.0, "convention": "optax"}, "r is the authors'; with convention='optax'"),
        (schuss.ScheduleFreeAdamW, {"r": 1.0, "convention": "keras"}, "r is the authors'; with convention='keras'"),
        (schuss.ScheduleFreeAdamW, {"weight_lr_power": 2.0, "convention": "keras"}, "weight_lr_power is the authors'"),
        (schuss.ScheduleFreeAdamW, {"convention": "torch"}, "expected one of 'authors', 'optax', 'keras', 'paper'"),
        (schuss.Sophia, {"eps": 0.0}, r"eps: expected a number above 0; got 0\.0"),
        (schuss.Sophia, {"convention": "keras"}, "convention: expected one of 'paper', 'optax'; got 'keras'"),
    ],
)
def test_options_that_cannot_be(make, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make([np.ones(3)], **options)


@pytest.mark.parametrize("make", [schuss.ScheduleFreeSGD, schuss.ScheduleFreeAdamW, schuss.Sophia])
def test_conventions_have_the_defaults_that_they_say(make):
    names = list(make._conventions)
    assert make([np.ones(3)]).param_groups[0]["convention"] == names[0]
    for convention, (defaults, *_) in make._conventions.items():
        [group] = make([np.ones(3)], convention=convention).param_groups
        assert {name: group[name] for name in defaults} == defaults
        assert f'"{convention}"' in make.__doc__
        assert None not in group.options.values()
