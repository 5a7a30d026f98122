"""The table of what is tested: every optimizer with its options. A new optimizer is a new row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from schuss_kernels import native

import schuss

needs_native = pytest.mark.skipif(native.available() is not None, reason=str(native.available()))


@dataclass(frozen=True)
class Case:
    """One optimizer with one set of options; ``torch`` names torch's class where it has the optimizer."""

    make: type[schuss.Optimizer]
    options: dict[str, Any] = field(default_factory=dict)
    torch: str | None = None

    def __str__(self) -> str:
        said = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.make.__name__}({said})"


CASES = [
    Case(schuss.SGD, {"lr": 0.1}, "SGD"),
    Case(schuss.SGD, {"lr": 0.1, "weight_decay": 0.1}, "SGD"),
    Case(schuss.SGD, {"lr": 0.1, "momentum": 0.9}, "SGD"),
    Case(schuss.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1}, "SGD"),
    Case(schuss.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, "SGD"),
    Case(schuss.SGD, {"lr": 0.1, "momentum": 0.5, "nesterov": True, "weight_decay": 0.01, "maximize": True}, "SGD"),
    Case(schuss.Adagrad, {}, "Adagrad"),
    Case(schuss.Adagrad, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1}, "Adagrad"),
    Case(schuss.Adagrad, {"initial_accumulator_value": 0.5, "eps": 1e-3, "maximize": True}, "Adagrad"),
    Case(schuss.RMSprop, {}, "RMSprop"),
    Case(schuss.RMSprop, {"alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}, "RMSprop"),
    Case(schuss.RMSprop, {"momentum": 0.9, "weight_decay": 0.1}, "RMSprop"),
    Case(schuss.RMSprop, {"centered": True}, "RMSprop"),
    Case(schuss.RMSprop, {"centered": True, "momentum": 0.9, "weight_decay": 0.1, "maximize": True}, "RMSprop"),
    Case(schuss.Adam, {}, "Adam"),
    Case(schuss.Adam, {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-4, "weight_decay": 0.1}, "Adam"),
    Case(schuss.Adam, {"amsgrad": True, "weight_decay": 0.1, "maximize": True}, "Adam"),
    Case(schuss.AdamW, {}, "AdamW"),
    Case(schuss.AdamW, {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-4, "weight_decay": 0.0}, "AdamW"),
    Case(schuss.AdamW, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1}, "AdamW"),
    Case(schuss.LAMB, {"lr": 0.01, "weight_decay": 0.1}),
    Case(schuss.LAMB, {"lr": 0.1, "clip": True, "maximize": True}),
    Case(schuss.SGD, {"convention": "paper", "momentum": 0.9, "weight_decay": 0.1}),
    Case(schuss.SGD, {"convention": "paper", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    Case(schuss.SGD, {"convention": "keras", "momentum": 0.9, "weight_decay": 0.1, "maximize": True}),
    Case(schuss.SGD, {"convention": "keras", "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    Case(schuss.Adagrad, {"convention": "keras", "weight_decay": 0.1}),
    Case(schuss.Adagrad, {"convention": "optax", "weight_decay": 0.1}),
    Case(schuss.Adagrad, {"convention": "optax", "initial_accumulator_value": 0.0, "eps": 0.0}),
    Case(schuss.RMSprop, {"convention": "keras", "weight_decay": 0.1}),
    Case(schuss.RMSprop, {"convention": "keras", "momentum": 0.9, "weight_decay": 0.1}),
    Case(schuss.RMSprop, {"convention": "keras", "centered": True, "weight_decay": 0.1}),
    Case(schuss.RMSprop, {"convention": "keras", "centered": True, "momentum": 0.9, "weight_decay": 0.1}),
    Case(schuss.RMSprop, {"convention": "optax", "weight_decay": 0.1}),
    Case(schuss.RMSprop, {"convention": "optax", "momentum": 0.9, "weight_decay": 0.1}),
    Case(schuss.RMSprop, {"convention": "paper", "centered": True, "weight_decay": 0.1}),
    Case(schuss.RMSprop, {"convention": "paper", "centered": True, "momentum": 0.9, "weight_decay": 0.1}),
    Case(schuss.Adam, {"convention": "keras", "weight_decay": 0.1}),
    Case(schuss.Adam, {"convention": "keras", "amsgrad": True, "weight_decay": 0.1}),
    Case(schuss.Adam, {"convention": "optax", "amsgrad": True, "weight_decay": 0.1}),
    Case(schuss.Adam, {"convention": "paper", "amsgrad": True, "weight_decay": 0.1}),
    Case(schuss.AdamW, {"convention": "optax", "amsgrad": True, "weight_decay": 0.1}),
    Case(schuss.AdamW, {"convention": "paper", "weight_decay": 0.01}),
    Case(schuss.AdamW, {"convention": "paper", "amsgrad": True, "weight_decay": 0.01}),
]


def one_a_kernel() -> list[Case]:
    """The first case of every update (and measure): for what does not depend on the options' values."""
    found: dict[Any, Case] = {}
    for case in CASES:
        optimizer = case.make([np.ones(1)], **case.options, backend="numpy")
        rule = optimizer._engine.tensors[0].rule
        found.setdefault((rule.update, rule.measure), case)
    return list(found.values())


BACKENDS = ["numpy", "numba", pytest.param("native", marks=needs_native)]
SIZES = [0, 1, 7, 8, 9, 31, 33, 63, 100, 1000, 65_537]
DTYPES = [np.float32, np.float64]


def arrays(sizes, dtype, seed):
    """Normal numbers of very different scales, one array a size or shape."""
    rng = np.random.default_rng(seed)
    made = []
    for size in sizes:
        values = rng.standard_normal(size) * 10.0 ** rng.integers(-6, 4, size)
        made.append(np.asarray(values, dtype))
    return made


def assert_same_bits(actual, expected, what=""):
    """Equal to the last bit, the sign of zero included; a NaN equals any NaN."""
    np.testing.assert_array_equal(actual, expected, err_msg=what)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual)[numbers], np.signbit(expected)[numbers], err_msg=what)


def assert_same_optimizers(one, other):
    """Parameters and states of two optimizers are the same bits."""
    for name, p, q in zip(one._names, one._parameters, other._parameters, strict=True):
        assert_same_bits(p.array, q.array, f"parameter {name}")
    ours, theirs = one.state_dict()["state"], other.state_dict()["state"]
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].keys() == theirs[name].keys()
        for field_, value in ours[name].items():
            assert_same_bits(np.asarray(value), np.asarray(theirs[name][field_]), f"{field_} of {name}")
