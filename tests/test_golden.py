"""The optimizers against what torch, Optax and Keras did. ``golden/make_golden.py`` recorded it; none is needed here.

A new optimizer is a new row of ``ROWS``; ``WAITING`` says what is recorded and has none yet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import schuss

FOLDER = Path(__file__).parent / "golden"
FRAMEWORKS = ("torch", "optax", "keras")
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


@dataclass(frozen=True)
class Row:
    """A recorded case, and what has to do the same: a class (or a function of the parameters) and its options.

    ``convention`` is the framework's, where the class has conventions.
    """

    framework: str
    case: str
    make: Any
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.framework}.{self.case}"

    def build(self, params: Any, **options: Any) -> schuss.Optimizer:
        known = getattr(self.make, "_conventions", {})
        convention = {"convention": self.framework} if self.framework in known else {}
        return self.make(params, **convention, **self.options, **options)


def torch(optimizer: str, **options: Any) -> Row:
    """A row for an optimizer that has torch's name and torch's options."""
    said = ", ".join(f"{name}={value}" for name, value in options.items())
    return Row("torch", f"{optimizer}({said})", getattr(schuss, optimizer), options)


BETAS = {"betas": (0.8, 0.95)}
DECAY = {"weight_decay": 0.1}
NESTEROV = {"momentum": 0.9, "nesterov": True}

ROWS = [
    torch("SGD"),
    torch("SGD", lr=0.1, weight_decay=0.1),
    torch("SGD", lr=0.05, momentum=0.9),
    torch("SGD", lr=0.05, momentum=0.9, dampening=0.3, weight_decay=0.1),
    torch("SGD", lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    torch("Adagrad"),
    torch("Adagrad", lr=0.1, lr_decay=0.1, initial_accumulator_value=0.5, eps=0.001, weight_decay=0.1),
    torch("RMSprop"),
    torch("RMSprop", lr=0.05, alpha=0.9, eps=0.01, weight_decay=0.1),
    torch("RMSprop", lr=0.02, momentum=0.9, weight_decay=0.1),
    torch("RMSprop", lr=0.05, centered=True, eps=0.01),
    torch("RMSprop", lr=0.02, centered=True, momentum=0.9, eps=0.01, weight_decay=0.1),
    torch("Adam"),
    torch("Adam", lr=0.1, betas=(0.8, 0.95), eps=0.01, weight_decay=0.1),
    torch("Adam", lr=0.1, betas=(0.8, 0.95), amsgrad=True, weight_decay=0.1),
    torch("AdamW"),
    torch("AdamW", lr=0.1, betas=(0.8, 0.95), eps=0.01, weight_decay=0.1),
    torch("AdamW", lr=0.1, betas=(0.8, 0.95), amsgrad=True, weight_decay=0.1),
    Row("optax", "sgd(learning_rate=0.05)", schuss.SGD, {"lr": 0.05}),
    Row("optax", "sgd(learning_rate=0.05, momentum=0.9)", schuss.SGD, {"lr": 0.05, "momentum": 0.9}),
    Row("optax", "sgd(learning_rate=0.05, momentum=0.9, nesterov=True)", schuss.SGD, {"lr": 0.05, **NESTEROV}),
    Row("optax", "sgd(learning_rate=0.05, momentum=0.9, nesterov=True, add_decayed_weights=0.1)",
        schuss.SGD, {"lr": 0.05, **NESTEROV, **DECAY}),
    Row("optax", "adagrad(learning_rate=0.1)", schuss.Adagrad, {"lr": 0.1}),
    Row("optax", "adagrad(learning_rate=0.1, initial_accumulator_value=0.0, eps=0.0)",
        schuss.Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.0, "eps": 0.0}),
    Row("optax", "adagrad(learning_rate=0.1, initial_accumulator_value=0.5, eps=0.01, add_decayed_weights=0.1)",
        schuss.Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-2, **DECAY}),
    Row("optax", "rmsprop(learning_rate=0.05)", schuss.RMSprop, {"lr": 0.05}),
    Row("optax", "rmsprop(learning_rate=0.05, decay=0.95, eps=0.01, add_decayed_weights=0.1)",
        schuss.RMSprop, {"lr": 0.05, "alpha": 0.95, "eps": 1e-2, **DECAY}),
    Row("optax", "rmsprop(learning_rate=0.02, momentum=0.9, eps=0.01)",
        schuss.RMSprop, {"lr": 0.02, "momentum": 0.9, "eps": 1e-2}),
    Row("optax", "rmsprop(learning_rate=0.02, momentum=0.9, eps=0.01, add_decayed_weights=0.1)",
        schuss.RMSprop, {"lr": 0.02, "momentum": 0.9, "eps": 1e-2, **DECAY}),
    Row("optax", "rmsprop(learning_rate=0.02, centered=True, eps=0.01)",
        schuss.RMSprop, {"lr": 0.02, "centered": True, "eps": 1e-2}),
    Row("optax", "rmsprop(learning_rate=0.02, centered=True, momentum=0.9, eps=0.01, add_decayed_weights=0.1)",
        schuss.RMSprop, {"lr": 0.02, "centered": True, "momentum": 0.9, "eps": 1e-2, **DECAY}),
    Row("optax", "adam(learning_rate=0.1)", schuss.Adam, {"lr": 0.1}),
    Row("optax", "adam(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01, add_decayed_weights=0.1)",
        schuss.Adam, {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY}),
    Row("optax", "adamw(learning_rate=0.1)", schuss.AdamW, {"lr": 0.1}),
    Row("optax", "adamw(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01, weight_decay=0.1)",
        schuss.AdamW, {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY}),
    Row("optax", "amsgrad(learning_rate=0.1)", schuss.Adam, {"lr": 0.1, "amsgrad": True}),
    Row("optax", "amsgrad(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01, add_decayed_weights=0.1)",
        schuss.Adam, {"lr": 0.1, **BETAS, "eps": 1e-2, "amsgrad": True, **DECAY}),
    Row("optax", "amsgrad_decoupled(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01, weight_decay=0.1)",
        schuss.AdamW, {"lr": 0.1, **BETAS, "eps": 1e-2, "amsgrad": True, **DECAY}),
    Row("keras", "SGD()", schuss.SGD),
    Row("keras", "SGD(learning_rate=0.1, weight_decay=0.1)", schuss.SGD, {"lr": 0.1, **DECAY}),
    Row("keras", "SGD(learning_rate=0.05, momentum=0.9)", schuss.SGD, {"lr": 0.05, "momentum": 0.9}),
    Row("keras", "SGD(learning_rate=0.05, momentum=0.9, weight_decay=0.1)",
        schuss.SGD, {"lr": 0.05, "momentum": 0.9, **DECAY}),
    Row("keras", "SGD(learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=0.1)",
        schuss.SGD, {"lr": 0.05, **NESTEROV, **DECAY}),
    Row("keras", "Adagrad()", schuss.Adagrad),
    Row("keras", "Adagrad(learning_rate=0.1, initial_accumulator_value=0.5, epsilon=0.01, weight_decay=0.1)",
        schuss.Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-2, **DECAY}),
    Row("keras", "RMSprop()", schuss.RMSprop),
    Row("keras", "RMSprop(learning_rate=0.05, rho=0.95, epsilon=0.01, weight_decay=0.1)",
        schuss.RMSprop, {"lr": 0.05, "alpha": 0.95, "eps": 1e-2, **DECAY}),
    Row("keras", "RMSprop(learning_rate=0.02, momentum=0.9)", schuss.RMSprop, {"lr": 0.02, "momentum": 0.9}),
    Row("keras", "RMSprop(learning_rate=0.02, momentum=0.9, epsilon=0.01, weight_decay=0.1)",
        schuss.RMSprop, {"lr": 0.02, "momentum": 0.9, "eps": 1e-2, **DECAY}),
    Row("keras", "RMSprop(learning_rate=0.02, centered=True, epsilon=0.01)",
        schuss.RMSprop, {"lr": 0.02, "centered": True, "eps": 1e-2}),
    Row("keras", "RMSprop(learning_rate=0.02, centered=True, momentum=0.9, epsilon=0.01, weight_decay=0.1)",
        schuss.RMSprop, {"lr": 0.02, "centered": True, "momentum": 0.9, "eps": 1e-2, **DECAY}),
    Row("keras", "Adam()", schuss.Adam),
    Row("keras", "Adam(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01)",
        schuss.Adam, {"lr": 0.1, **BETAS, "eps": 1e-2}),
    Row("keras", "Adam(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, weight_decay=0.1)",
        schuss.Adam, {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY}),
    Row("keras", "Adam(learning_rate=0.1, beta_1=0.8, beta_2=0.95, amsgrad=True, weight_decay=0.1)",
        schuss.Adam, {"lr": 0.1, **BETAS, "amsgrad": True, **DECAY}),
    Row("keras", "AdamW()", schuss.AdamW),
    Row("keras", "AdamW(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, weight_decay=0.1)",
        schuss.AdamW, {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY}),
    Row("keras", "AdamW(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, amsgrad=True, weight_decay=0.1)",
        schuss.AdamW, {"lr": 0.1, **BETAS, "eps": 1e-2, "amsgrad": True, **DECAY}),
]  # fmt: skip

WAITING = {
    "torch": {"ASGD", "Adadelta", "Adafactor", "Adamax", "Muon", "NAdam", "RAdam", "Rprop"},
    "optax": {
        "adabelief", "adadelta", "adafactor", "adamax", "adamaxw", "adan", "fromage", "lamb", "lars", "lion",
        "lookahead", "nadam", "nadamw", "novograd", "optimistic_adam_v2", "optimistic_gradient_descent", "radam",
        "rprop", "sign_sgd", "signum", "sm3", "yogi", "contrib.acprop", "contrib.ademamix", "contrib.adopt",
        "contrib.cocob", "contrib.dadapt_adamw", "contrib.dog", "contrib.dowg", "contrib.madgrad", "contrib.muon",
        "contrib.prodigy", "contrib.schedule_free_adamw", "contrib.schedule_free_sgd", "contrib.simplified_ademamix",
        "contrib.sophia",
    },
    "keras": {
        "Adadelta", "Adafactor", "Adamax", "Ftrl", "Lamb", "Lion", "Muon", "Nadam", "ScheduleFreeAdamW",
    },
}  # fmt: skip
"""Recorded optimizers that no row compares with."""


@cache
def recorded(name):
    """A file of ``golden``: what it says about itself, and its arrays."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        arrays = dict(file)
    return json.loads(str(arrays.pop("about"))), arrays


def split(flat, shapes, dtype):
    """The arrays of these shapes out of one row of numbers; as many as there are numbers for."""
    made, at = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        if at < len(flat):
            made[name] = np.array(flat[at : at + size], dtype).reshape(shape)
        at += size
    return made


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("row", ROWS, ids=str)
@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_against_the_framework(row, dtype, backend):
    """The reference and, as one of the compiled ones, what runs by default: they are all the same bits."""
    about, given = recorded("inputs")
    _, arrays = recorded(row.framework)
    expected = arrays[f"{row.case}|{dtype}"]
    width = expected.shape[1]
    params = split(given["start"][:width], about["shapes"], dtype)
    optimizer = row.build(params, backend=backend)
    [group] = optimizer.param_groups
    base = group["lr"]
    compared = 0
    for number, gradient in enumerate(given["gradients"]):
        group["lr"] = base * float(given["factors"][number])
        optimizer.step(split(gradient[:width], about["shapes"], dtype))
        if number + 1 in about["snapshots"]:
            for name, right in split(expected[compared], about["shapes"], dtype).items():
                error = np.abs(params[name] - right).max() / np.abs(right).max()
                assert error <= TOLERANCE[dtype], f"{name} after {number + 1} steps: {error:.1e}"
            compared += 1
    assert compared == len(expected)
    assert number + 1 >= 20


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_recorded_case_has_a_row(framework):
    about, _ = recorded(framework)
    rows = {row.case for row in ROWS if row.framework == framework}
    left = {case["optimizer"] for name, case in about["cases"].items() if name not in rows}
    assert left == WAITING[framework]
    assert len(rows) == len([row for row in ROWS if row.framework == framework])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_files_say_what_made_them(framework):
    about, arrays = recorded(framework)
    assert {framework, "numpy", "python"} <= set(about["versions"])
    assert set(arrays) == {f"{name}|{dtype}" for name in about["cases"] for dtype in TOLERANCE}
    assert all(array.dtype == key.rpartition("|")[2] for key, array in arrays.items())


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.npz")) < 500_000
