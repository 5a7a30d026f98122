"""Records what the optimizers of torch, Optax and Keras do, so that the tests need none of them.

    python tests/optim/golden/make_golden.py [torch] [optax] [keras]

Run by hand, with the three installed; writes ``inputs.npz`` and one file a framework beside itself. Every optimizer is
taken through the same steps in float64 and float32; the parameters after some of them are kept. What every file holds:

``about``
    JSON: the versions that made it, and for every case its optimizer, options and learning rate.
``<case>|float64``, ``<case>|float32``
    One row for each of ``SNAPSHOTS``: the parameters, one after the other.
"""

from __future__ import annotations

import inspect
import json
import os
import platform
import sys
from functools import partial
from pathlib import Path
from types import FunctionType

import numpy as np

FOLDER = Path(__file__).parent
SHAPES = {"w": (4, 3), "b": (5,)}
STEPS = 24
SNAPSHOTS = (1, 2, 3, 6, 12, 24)
DTYPES = ("float64", "float32")


def inputs() -> dict[str, np.ndarray]:
    """Where the parameters start, the gradients and Hessian diagonals of all steps, and what multiplies lr in each."""
    rng = np.random.default_rng(20)
    size = sum(int(np.prod(shape)) for shape in SHAPES.values())
    scale = 1.0 + np.arange(STEPS) % 7
    gradients = (rng.standard_normal((STEPS, size)) + 0.5 * np.sign(rng.standard_normal(size))) * scale[:, None]
    gradients[:3, -1] = 0.0  # an element that has had no gradient yet
    gradients[10:15, 0] = 0.0  # and one that has none for a while
    return {
        "start": rng.standard_normal(size),
        "gradients": gradients,
        "hessians": rng.standard_normal((STEPS, size)) + 0.5,
        "factors": 1.0 + 0.5 * np.sin(np.arange(STEPS)),
    }


def split(flat: np.ndarray, dtype: str) -> dict[str, np.ndarray]:
    """The parameters by name out of one row."""
    made, at = {}, 0
    for name, shape in SHAPES.items():
        size = int(np.prod(shape))
        made[name] = np.array(flat[at : at + size], dtype).reshape(shape)
        at += size
    return made


def case_name(optimizer: str, options: dict) -> str:
    """``Adam(lr=0.1, amsgrad=True)``."""
    return f"{optimizer}({', '.join(f'{name}={value}' for name, value in options.items())})"


# ------------------------------------------------------------------------------------------------------------- torch

DECAY = {"weight_decay": 0.1}

TORCH = [
    ("SGD", {}),
    ("SGD", {"lr": 0.1, **DECAY}),
    ("SGD", {"lr": 0.05, "momentum": 0.9}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, **DECAY}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, **DECAY}),
    ("Adagrad", {}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-3, **DECAY}),
    ("RMSprop", {}),
    ("RMSprop", {"lr": 0.05, "alpha": 0.9, "eps": 1e-2, **DECAY}),
    ("RMSprop", {"lr": 0.02, "momentum": 0.9, **DECAY}),
    ("RMSprop", {"lr": 0.05, "centered": True, "eps": 1e-2}),
    ("RMSprop", {"lr": 0.02, "centered": True, "momentum": 0.9, "eps": 1e-2, **DECAY}),
    ("Adam", {}),
    ("Adam", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-2, **DECAY}),
    ("Adam", {"lr": 0.1, "betas": (0.8, 0.95), "amsgrad": True, **DECAY}),
    ("AdamW", {}),
    ("AdamW", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-2, **DECAY}),
    ("AdamW", {"lr": 0.1, "betas": (0.8, 0.95), "amsgrad": True, **DECAY}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-3, **DECAY}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-2, **DECAY}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-2, **DECAY}),
    ("NAdam", {"lr": 0.1, "momentum_decay": 0.1, "decoupled_weight_decay": True, **DECAY}),
    ("RAdam", {}),
    ("RAdam", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-2, **DECAY}),
    ("RAdam", {"lr": 0.1, "betas": (0.8, 0.95), "decoupled_weight_decay": True, **DECAY}),
    ("Rprop", {}),
    ("Rprop", {"lr": 0.05, "etas": (0.4, 1.3), "step_sizes": (1e-3, 0.2)}),
    ("ASGD", {}),
    ("ASGD", {"lr": 0.05, "lambd": 0.1, "alpha": 0.6, "t0": 8.0, **DECAY}),
    ("Adafactor", {}),
    ("Adafactor", {"lr": 0.1, "beta2_decay": -0.7, "d": 1.2, **DECAY}),
    ("Muon", {}),
    ("Muon", {"lr": 0.05, "momentum": 0.8, "nesterov": False, "weight_decay": 0.0}),
    ("Muon", {"lr": 0.05, "adjust_lr_fn": "match_rms_adamw", **DECAY}),
]
TORCH_LEFT_OUT = {
    "LBFGS": "calls the loss again within a step",
    "SparseAdam": "takes sparse gradients only",
    "Optimizer": "the base class",
}
ONLY_MATRICES = {"Muon"}
"""torch's refuses other parameters."""


def torch_runs():
    import torch

    torch.set_num_threads(1)
    there = {name for name, value in vars(torch.optim).items() if isinstance(value, type)}
    check_complete("torch", there, TORCH, TORCH_LEFT_OUT)

    def run(optimizer, options, dtype, given):
        params = {name: torch.from_numpy(p) for name, p in split(given["start"], dtype).items()}
        if optimizer in ONLY_MATRICES:
            del params["b"]
        made = getattr(torch.optim, optimizer)(params.values(), **options)
        [group] = made.param_groups
        if "foreach" in group:
            group["foreach"] = False
        base = float(group["lr"])

        def step(number):
            group["lr"] = base * float(given["factors"][number])
            for name, g in split(given["gradients"][number], dtype).items():
                if name in params:
                    params[name].grad = torch.from_numpy(g)
            made.step()
            return [p.numpy() for p in params.values()]

        return base, step

    return {"torch": torch.__version__}, TORCH, run


# ------------------------------------------------------------------------------------------------------------- Optax

RATE = {"learning_rate": 0.1}
BETAS = {"b1": 0.8, "b2": 0.95}

OPTAX = [
    ("sgd", {"learning_rate": 0.05}),
    ("sgd", {"learning_rate": 0.05, "momentum": 0.9}),
    ("sgd", {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True}),
    ("sgd", {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True, "add_decayed_weights": 0.1}),
    ("adagrad", RATE),
    ("adagrad", {**RATE, "initial_accumulator_value": 0.0, "eps": 0.0}),
    ("adagrad", {**RATE, "initial_accumulator_value": 0.5, "eps": 1e-2, "add_decayed_weights": 0.1}),
    ("rmsprop", {"learning_rate": 0.05}),
    ("rmsprop", {"learning_rate": 0.05, "decay": 0.95, "eps": 1e-2, "add_decayed_weights": 0.1}),
    ("rmsprop", {"learning_rate": 0.02, "momentum": 0.9, "eps": 1e-2}),
    ("rmsprop", {"learning_rate": 0.02, "momentum": 0.9, "eps": 1e-2, "add_decayed_weights": 0.1}),
    ("rmsprop", {"learning_rate": 0.02, "centered": True, "eps": 1e-2}),
    ("rmsprop", {"learning_rate": 0.02, "centered": True, "momentum": 0.9, "eps": 1e-2, "add_decayed_weights": 0.1}),
    ("adam", RATE),
    ("adam", {**RATE, **BETAS, "eps": 1e-2, "add_decayed_weights": 0.1}),
    ("adamw", RATE),
    ("adamw", {**RATE, **BETAS, "eps": 1e-2, **DECAY}),
    ("amsgrad", RATE),
    ("amsgrad", {**RATE, **BETAS, "eps": 1e-2, "add_decayed_weights": 0.1}),
    ("amsgrad_decoupled", {**RATE, **BETAS, "eps": 1e-2, **DECAY}),
    ("adabelief", RATE),
    ("adabelief", {**RATE, **BETAS, "eps": 1e-3, "eps_root": 1e-3}),
    ("adadelta", {"learning_rate": 1.0}),
    ("adadelta", {"learning_rate": 0.5, "rho": 0.8, "eps": 1e-3, **DECAY}),
    ("adafactor", RATE),
    ("adafactor", {**RATE, "min_dim_size_to_factor": 2}),
    (
        "adafactor",
        {
            **RATE,
            "min_dim_size_to_factor": 2,
            "multiply_by_parameter_scale": False,
            "momentum": 0.9,
            "weight_decay_rate": 0.01,
        },
    ),
    ("adamax", RATE),
    ("adamax", {**RATE, **BETAS, "eps": 1e-2}),
    ("adamaxw", {**RATE, **BETAS, **DECAY}),
    ("adan", RATE),
    ("adan", {**RATE, "b1": 0.9, "b2": 0.8, "b3": 0.95, "eps": 1e-2, **DECAY}),
    ("fromage", {"learning_rate": 0.01}),
    ("fromage", {"learning_rate": 0.1, "min_norm": 1.0}),
    ("lamb", RATE),
    ("lamb", {**RATE, **BETAS, "eps": 1e-2, **DECAY}),
    ("lars", RATE),
    ("lars", {"learning_rate": 1.0, "trust_coefficient": 0.01, "eps": 1e-2, "nesterov": True, **DECAY}),
    ("lion", {"learning_rate": 0.01}),
    ("lion", {"learning_rate": 0.05, **BETAS, **DECAY}),
    ("nadam", RATE),
    ("nadam", {**RATE, **BETAS, "eps": 1e-2}),
    ("nadamw", {**RATE, **BETAS, "eps": 1e-2, **DECAY}),
    ("novograd", {"learning_rate": 0.05}),
    ("novograd", {"learning_rate": 0.05, "b1": 0.8, "b2": 0.5, "eps": 1e-2, **DECAY}),
    ("optimistic_adam_v2", RATE),
    ("optimistic_gradient_descent", {"learning_rate": 0.05, "alpha": 0.9, "beta": 0.5}),
    ("radam", RATE),
    ("radam", {**RATE, **BETAS, "eps": 1e-2}),
    ("rprop", {"learning_rate": 0.05}),
    ("rprop", {"learning_rate": 0.05, "eta_minus": 0.4, "eta_plus": 1.3, "min_step_size": 1e-3, "max_step_size": 0.2}),
    ("sign_sgd", {"learning_rate": 0.05}),
    ("signum", {"learning_rate": 0.05, "beta": 0.8}),
    ("sm3", RATE),
    ("sm3", {**RATE, "momentum": 0.5}),
    ("yogi", RATE),
    ("yogi", {**RATE, **BETAS, "eps": 1e-2}),
    ("lookahead", {"learning_rate": 0.05, "fast": "sgd", "sync_period": 5, "slow_step_size": 0.5}),
    ("lookahead", {"learning_rate": 0.05, "fast": "adamw", "sync_period": 4, "slow_step_size": 0.8}),
    ("contrib.acprop", {**RATE, "eps": 1e-3, "eps_root": 1e-3}),
    ("contrib.ademamix", RATE),
    ("contrib.ademamix", {**RATE, **BETAS, "b3": 0.97, "alpha": 3.0, "eps": 1e-2, **DECAY}),
    ("contrib.adopt", RATE),
    ("contrib.adopt", {**RATE, **BETAS, "eps": 1e-2, "use_clipping": False}),
    ("contrib.adopt", {**RATE, **BETAS, "eps": 1e-2, "add_decayed_weights_after": 0.1}),
    ("contrib.cocob", {}),
    ("contrib.dadapt_adamw", {}),
    ("contrib.dadapt_adamw", {"learning_rate": 0.5, "betas": (0.8, 0.95), "estim_lr0": 1e-2, **DECAY}),
    ("contrib.dog", {}),
    ("contrib.dog", {"learning_rate": 0.5, "init_step": ("heuristic", 1e-2), **DECAY}),
    ("contrib.dowg", {}),
    ("contrib.madgrad", RATE),
    ("contrib.madgrad", {**RATE, "momentum": 0.5, "eps": 1e-2, **DECAY}),
    ("contrib.muon", {"learning_rate": 0.05}),
    ("contrib.muon", {"learning_rate": 0.05, "beta": 0.8, "nesterov": False, **DECAY}),
    ("contrib.prodigy", {}),
    ("contrib.prodigy", {"learning_rate": 0.5, "betas": (0.8, 0.95), "estim_lr0": 1e-2, **DECAY}),
    ("contrib.schedule_free_adamw", {}),
    ("contrib.schedule_free_adamw", {**RATE, **BETAS, "eps": 1e-2, **DECAY}),
    ("contrib.schedule_free_sgd", {"learning_rate": 0.05}),
    ("contrib.schedule_free_sgd", {"learning_rate": 0.05, "b1": 0.8, **DECAY}),
    ("contrib.simplified_ademamix", {**RATE, **BETAS, "alpha": 0.5, "eps": 1e-2}),
    ("contrib.sophia", {"learning_rate": 0.01, "update_interval": 3}),
    ("contrib.sophia", {"learning_rate": 0.05, **BETAS, "gamma": 0.5, "update_interval": 4, **DECAY}),
]
OPTAX_LEFT_OUT = {
    "lbfgs": "searches along a line: it calls the loss within a step",
    "noisy_sgd": "draws its noise itself",
    "optimistic_adam": "the older form of optimistic_adam_v2",
    "polyak_sgd": "takes the value of the loss",
    "contrib.momo": "takes the value of the loss",
    "contrib.momo_adam": "takes the value of the loss",
    "contrib.dpsgd": "draws noise, and takes the gradient of every example",
    "contrib.galore": "projects by singular vectors, whose signs the linear algebra library chooses",
    "contrib.mechanize": "a wrapper that tunes the learning rate of another",
    "contrib.schedule_free": "the wrapper under schedule_free_sgd and schedule_free_adamw",
}


def optax_names(optax) -> set[str]:
    """What Optax exports that takes a learning rate, or an optimizer."""
    found = set()
    for prefix, module in (("", optax), ("contrib.", optax.contrib)):
        for name, value in vars(module).items():
            if not isinstance(value, (FunctionType, partial)) or name.startswith(("_", "scale_by_")):
                continue
            taken = inspect.signature(value).parameters
            if {"learning_rate", "max_learning_rate", "fast_optimizer", "base_optimizer"} & set(taken):
                found.add(prefix + name)
    return found


def optax_runs():
    import jax
    import optax

    # For float32 too: elements are float32 all the same, but powers such as b2**count are not rounded to it.
    jax.config.update("jax_enable_x64", True)
    check_complete("optax", optax_names(optax) | {"amsgrad_decoupled"}, OPTAX, OPTAX_LEFT_OUT)

    def build(optimizer, rate, options, given, dtype, number):
        options = dict(options)
        before = options.pop("add_decayed_weights", 0.0)
        after = options.pop("add_decayed_weights_after", 0.0)
        if optimizer == "amsgrad_decoupled":
            decay = optax.add_decayed_weights(options.pop("weight_decay"))
            made = optax.chain(optax.scale_by_amsgrad(**options), decay, optax.scale(-rate))
        elif optimizer == "lookahead":
            fast = getattr(optax, options.pop("fast"))(rate)
            made = optax.lookahead(fast, **options)
        else:
            found = optax
            for part in optimizer.split("."):
                found = getattr(found, part)
            if optimizer == "contrib.sophia":
                estimate = split(given["hessians"][number], dtype)
                options["hessian_diagonal_fn"] = optax.GradientTransformation(
                    lambda params: optax.EmptyState(), lambda g, state, params=None: (estimate, state)
                )
            made = found(learning_rate=rate, **options)
        if before:
            made = optax.chain(optax.add_decayed_weights(before), made)
        if after:
            made = optax.chain(made, optax.scale(1.0), optax.add_decayed_weights(-rate * after))
        return made

    def run(optimizer, options, dtype, given):
        options = dict(options)
        base = options.pop("learning_rate", None)
        if base is None:
            found = optax
            for part in optimizer.split("."):
                found = getattr(found, part)
            base = inspect.signature(found).parameters["learning_rate"].default
        params = {name: jax.numpy.asarray(p) for name, p in split(given["start"], dtype).items()}
        if optimizer == "lookahead":
            params = optax.LookaheadParams.init_synced(params)
        state = build(optimizer, base, options, given, dtype, 0).init(params)

        def step(number):
            nonlocal params, state
            rate = base * float(given["factors"][number])
            made = build(optimizer, rate, options, given, dtype, number)
            gradients = {name: jax.numpy.asarray(g) for name, g in split(given["gradients"][number], dtype).items()}
            updates, state = made.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
            held = params.fast if optimizer == "lookahead" else params
            return [np.asarray(held[name]) for name in SHAPES]

        return base, step

    return {"optax": optax.__version__, "jax": jax.__version__}, OPTAX, run


# ------------------------------------------------------------------------------------------------------------- Keras

KERAS_BETAS = {"beta_1": 0.8, "beta_2": 0.95}
KERAS = [
    ("SGD", {}),
    ("SGD", {**RATE, **DECAY}),
    ("SGD", {"learning_rate": 0.05, "momentum": 0.9}),
    ("SGD", {"learning_rate": 0.05, "momentum": 0.9, **DECAY}),
    ("SGD", {"learning_rate": 0.05, "momentum": 0.9, "nesterov": True, **DECAY}),
    ("Adagrad", {}),
    ("Adagrad", {**RATE, "initial_accumulator_value": 0.5, "epsilon": 1e-2, **DECAY}),
    ("RMSprop", {}),
    ("RMSprop", {"learning_rate": 0.05, "rho": 0.95, "epsilon": 1e-2, **DECAY}),
    ("RMSprop", {"learning_rate": 0.02, "momentum": 0.9}),
    ("RMSprop", {"learning_rate": 0.02, "momentum": 0.9, "epsilon": 1e-2, **DECAY}),
    ("RMSprop", {"learning_rate": 0.02, "centered": True, "epsilon": 1e-2}),
    ("RMSprop", {"learning_rate": 0.02, "centered": True, "momentum": 0.9, "epsilon": 1e-2, **DECAY}),
    ("Adam", {}),
    ("Adam", {**RATE, **KERAS_BETAS, "epsilon": 1e-2}),
    ("Adam", {**RATE, **KERAS_BETAS, "epsilon": 1e-2, **DECAY}),
    ("Adam", {**RATE, **KERAS_BETAS, "amsgrad": True, **DECAY}),
    ("AdamW", {}),
    ("AdamW", {**RATE, **KERAS_BETAS, "epsilon": 1e-2, **DECAY}),
    ("AdamW", {**RATE, **KERAS_BETAS, "epsilon": 1e-2, "amsgrad": True, **DECAY}),
    ("Adadelta", {}),
    ("Adadelta", {"learning_rate": 0.5, "rho": 0.8, "epsilon": 1e-3, **DECAY}),
    ("Adafactor", {}),
    ("Adafactor", {**RATE, "beta_2_decay": -0.7, "relative_step": False, "clip_threshold": 0.9, **DECAY}),
    ("Adamax", {}),
    ("Adamax", {**RATE, **KERAS_BETAS, "epsilon": 1e-2, **DECAY}),
    ("Ftrl", {}),
    (
        "Ftrl",
        {
            **RATE,
            "l1_regularization_strength": 0.1,
            "l2_regularization_strength": 0.2,
            "beta": 0.3,
            "l2_shrinkage_regularization_strength": 0.1,
        },
    ),
    ("Ftrl", {**RATE, "learning_rate_power": -0.7, "initial_accumulator_value": 0.5, **DECAY}),
    ("Lamb", {}),
    ("Lamb", {**RATE, **KERAS_BETAS, "epsilon": 1e-2, **DECAY}),
    ("Lion", {}),
    ("Lion", {"learning_rate": 0.05, **KERAS_BETAS, **DECAY}),
    ("Muon", {}),
    ("Muon", {"learning_rate": 0.05, "momentum": 0.8, "nesterov": False, **DECAY}),
    ("Nadam", {}),
    ("Nadam", {**RATE, **KERAS_BETAS, "epsilon": 1e-2, **DECAY}),
    ("ScheduleFreeAdamW", {}),
    ("ScheduleFreeAdamW", {**RATE, **KERAS_BETAS, "epsilon": 1e-2, "warmup_steps": 5, **DECAY}),
]
KERAS_LEFT_OUT = {
    "LossScaleOptimizer": "a wrapper around others",
    "MultiOptimizer": "a wrapper around others",
    "OptimizerMap": "part of MultiOptimizer",
    "Optimizer": "the base class",
}


def keras_runs():
    os.environ["KERAS_BACKEND"] = "jax"  # runs Keras's own update_step; other backends have loops of their own
    import jax
    import keras

    there = {name for name, value in vars(keras.optimizers).items() if isinstance(value, type)}
    check_complete("keras", there, KERAS, KERAS_LEFT_OUT)

    def run(optimizer, options, dtype, given):
        jax.config.update("jax_enable_x64", dtype == "float64")
        keras.config.set_floatx(dtype)
        params = {name: keras.Variable(p, dtype=dtype, name=name) for name, p in split(given["start"], dtype).items()}
        made = getattr(keras.optimizers, optimizer)(**options)
        made.build(list(params.values()))
        base = inspect.signature(type(made).__init__).parameters["learning_rate"].default
        base = options.get("learning_rate", base)

        def step(number):
            made.learning_rate = base * float(given["factors"][number])
            gradients = split(given["gradients"][number], dtype)
            made.apply([jax.numpy.asarray(gradients[name]) for name in params], list(params.values()))
            return [np.asarray(p.value) for p in params.values()]

        return base, step

    return {"keras": keras.__version__, "jax": jax.__version__}, KERAS, run


# ------------------------------------------------------------------------------------------------------------- files


def check_complete(framework, there, rows, left_out):
    """Every optimizer that the framework has is recorded, or left out for a reason that is told."""
    known = {name for name, _ in rows} | set(left_out)
    if there != known:
        raise SystemExit(f"{framework}: not in the table: {sorted(there - known)}; not there: {sorted(known - there)}")


def record(framework, given):
    """Write one framework's file."""
    versions, rows, run = {"torch": torch_runs, "optax": optax_runs, "keras": keras_runs}[framework]()
    arrays, cases = {}, {}
    for optimizer, options in rows:
        name = case_name(optimizer, options)
        for dtype in DTYPES:
            base, step = run(optimizer, options, dtype, given)
            kept = []
            for number in range(STEPS):
                after = step(number)
                assert all(p.dtype == dtype for p in after), (name, [p.dtype for p in after])
                if number + 1 in SNAPSHOTS:
                    kept.append(np.concatenate([p.ravel() for p in after]))
            arrays[f"{name}|{dtype}"] = np.stack(kept)
            assert np.isfinite(arrays[f"{name}|{dtype}"]).all(), name
        apart = np.abs(arrays[f"{name}|float64"] - arrays[f"{name}|float32"]).max()
        print(f"{framework:6} {apart:8.1e}  {name}", flush=True)
        cases[name] = {"optimizer": optimizer, "options": options, "lr": float(base)}
    versions = {**versions, "numpy": np.__version__, "python": platform.python_version()}
    write(framework, {"about": json.dumps({"versions": versions, "snapshots": SNAPSHOTS, "cases": cases}), **arrays})


def write(name, arrays):
    np.savez_compressed(FOLDER / f"{name}.npz", **{key: np.asarray(value) for key, value in arrays.items()})


def main() -> None:
    given = inputs()
    about = {"versions": {"numpy": np.__version__}, "shapes": SHAPES, "snapshots": SNAPSHOTS}
    write("inputs", {"about": json.dumps(about), **given})
    for framework in sys.argv[1:] or ("torch", "optax", "keras"):
        record(framework, given)


if __name__ == "__main__":
    main()
