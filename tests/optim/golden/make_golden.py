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
from recorded import KERAS, KERAS_LEFT_OUT, OPTAX, OPTAX_LEFT_OUT, TORCH, TORCH_LEFT_OUT

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
