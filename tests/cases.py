"""The table of what is tested: every optimizer with its options. A new optimizer is a new row."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from schuss_kernels.native import library

import schuss

NATIVE_LEVELS = []
"""The native engine at each instruction-set level that was built and that this processor runs."""
if library.available() is None:
    NATIVE_LEVELS += [f"native {level}" for level, runs in library.library().levels if runs]

BUILT = NATIVE_LEVELS or ["numba prange"]
"""Engines, for the fixture ``backend``, whose kernels are there already; where there are none, what compiles them."""

needs_native = pytest.mark.skipif(
    not NATIVE_LEVELS,
    reason=f"needs the native extension; `SCHUSS_LEVELS=all pip install .` builds it: {library.available()}",
)


@dataclass(frozen=True)
class Case:
    """One optimizer with one set of options; ``torch`` names torch's class where it has the optimizer."""

    make: type[schuss.Optimizer]
    options: dict[str, Any] = field(default_factory=dict)
    torch: str | None = None

    @cached_property
    def rule(self) -> Any:
        """The rule that moves a vector."""
        return self.make([np.ones(1)], **self.options, backend="numpy")._stepper.engine.tensors[0].rule

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
    Case(schuss.LAMB, {"lr": 0.01, "convention": "keras", "weight_decay": 0.1, "clip": True}),
    Case(schuss.LAMB, {"lr": 0.01, "always_adapt": False}),
    Case(schuss.LARS, {"weight_decay": 0.1}),
    Case(schuss.LARS, {"nesterov": True, "clip": True, "eps": 1e-8, "maximize": True}),
    Case(schuss.LARS, {"convention": "optax", "weight_decay": 0.1}),
    Case(schuss.LARS, {"convention": "optax", "nesterov": True}),
    Case(schuss.NovoGrad, {"lr": 0.01}),
    Case(schuss.NovoGrad, {"lr": 0.01, "convention": "optax", "grad_averaging": True, "weight_decay": 0.1}),
    Case(schuss.StableAdamW, {}),
    Case(schuss.StableAdamW, {"lr": 0.1, "eps": 0.0, "weight_decay": 0.0, "maximize": True}),
    Case(schuss.Fromage, {}),
    Case(schuss.Fromage, {"convention": "optax", "lr": 0.1, "maximize": True}),
    Case(schuss.CautiousAdamW, {}),
    Case(schuss.CautiousAdamW, {"lr": 0.01, "weight_decay": 0.1, "maximize": True}),
    Case(schuss.CautiousLion, {"lr": 0.01, "weight_decay": 0.1}),
    Case(schuss.MARS, {}),
    Case(schuss.MARS, {"lr": 0.1, "gamma": 0.5, "weight_decay": 0.1, "maximize": True}),
    Case(schuss.MARSLion, {"lr": 0.01, "weight_decay": 0.1}),
    Case(schuss.AdaBelief, {"weight_decay": 0.1}),
    Case(schuss.AdaBelief, {"eps": 1e-3, "weight_decay": 0.1, "decoupled_weight_decay": False, "maximize": True}),
    Case(schuss.ACProp, {"weight_decay": 0.1}),
    Case(schuss.Yogi, {"weight_decay": 0.1}),
    Case(schuss.Yogi, {"convention": "optax", "maximize": True}),
    Case(schuss.Adan, {"weight_decay": 0.1}),
    Case(schuss.Adan, {"convention": "optax", "weight_decay": 0.1, "maximize": True}),
    Case(schuss.AdEMAMix, {"weight_decay": 0.1, "t_alpha_beta3": 3.0}),
    Case(schuss.SimplifiedAdEMAMix, {"alpha": 0.5, "weight_decay": 0.1}),
    Case(schuss.ADOPT, {"weight_decay": 0.1}),
    Case(schuss.ADOPT, {"use_clipping": False, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True}),
    Case(schuss.ADOPT, {"convention": "optax", "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case(schuss.LaProp, {"weight_decay": 0.1}),
    Case(schuss.Grams, {"weight_decay": 0.1}),
    Case(schuss.Lion, {"weight_decay": 0.1}),
    Case(schuss.Tiger, {"maximize": True}),
    Case(schuss.SignSGD, {"lr": 0.01, "weight_decay": 0.1, "maximize": True}),
    Case(schuss.Signum, {"lr": 0.01, "weight_decay": 0.1}),
    Case(schuss.Adadelta, {}, "Adadelta"),
    Case(schuss.Adadelta, {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}, "Adadelta"),
    Case(schuss.Adadelta, {"lr": 0.5, "convention": "keras", "weight_decay": 0.1}),
    Case(schuss.Adamax, {}, "Adamax"),
    Case(schuss.Adamax, {"lr": 0.01, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}, "Adamax"),
    Case(schuss.Adamax, {"convention": "keras", "weight_decay": 0.1}),
    Case(schuss.Adamax, {"convention": "paper"}),
    Case(schuss.AdamaxW, {"weight_decay": 0.1}),
    Case(schuss.NAdam, {"weight_decay": 0.1, "maximize": True}, "NAdam"),
    Case(schuss.NAdam, {"momentum_decay": 0.1, "decoupled_weight_decay": True, "weight_decay": 0.1}, "NAdam"),
    Case(schuss.NAdam, {"convention": "keras", "weight_decay": 0.1}),
    Case(schuss.NAdam, {"convention": "optax", "weight_decay": 0.1, "decoupled_weight_decay": True}),
    Case(schuss.NAdam, {"convention": "paper"}),
    Case(schuss.RAdam, {"betas": (0.8, 0.9), "weight_decay": 0.1, "maximize": True}, "RAdam"),
    Case(schuss.RAdam, {"lr": 0.01, "decoupled_weight_decay": True, "weight_decay": 0.1}, "RAdam"),
    Case(schuss.RAdam, {"convention": "optax", "betas": (0.8, 0.9)}),
    Case(schuss.RAdam, {"convention": "paper", "betas": (0.8, 0.9)}),
    Case(schuss.Rprop, {}, "Rprop"),
    Case(schuss.Rprop, {"lr": 0.05, "etas": (0.4, 1.3), "step_sizes": (1e-3, 0.2), "maximize": True}, "Rprop"),
    Case(schuss.Rprop, {"convention": "paper"}),
    Case(schuss.Rprop, {"convention": "optax"}),
    Case(schuss.ASGD, {}, "ASGD"),
    Case(schuss.ASGD, {"lambd": 0.1, "alpha": 0.6, "t0": 3.0, "weight_decay": 0.1, "maximize": True}, "ASGD"),
    Case(schuss.DoG, {"reps_rel": 0.01, "weight_decay": 0.1}),
    Case(schuss.LDoG, {"init_eta": 0.1, "maximize": True}),
    Case(schuss.DoWG, {"weight_decay": 0.1}),
    Case(schuss.Prodigy, {"d0": 0.01, "weight_decay": 0.1}),
    Case(schuss.Prodigy, {"use_bias_correction": True, "safeguard_warmup": True, "decouple": False, "maximize": True}),
    Case(schuss.DAdaptAdam, {"d0": 0.01, "weight_decay": 0.1}),
    Case(schuss.DAdaptAdam, {"use_bias_correction": True, "decouple": True, "growth_rate": 1.5, "weight_decay": 0.1}),
    Case(schuss.ScheduleFreeSGD, {"lr": 0.1, "weight_decay": 0.1, "warmup_steps": 3}),
    Case(schuss.ScheduleFreeAdamW, {"lr": 0.1, "weight_decay": 0.1, "warmup_steps": 3, "r": 1.0, "maximize": True}),
    Case(schuss.ScheduleFreeAdamW, {"convention": "keras", "weight_decay": 0.1}),
    Case(schuss.ScheduleFreeRAdam, {"betas": (0.8, 0.9), "weight_decay": 0.1, "silent_sgd_phase": False}),
    Case(schuss.Sophia, {"lr": 0.01, "weight_decay": 0.1}),
    Case(schuss.Sophia, {"convention": "optax", "lr": 0.01, "maximize": True}),
    Case(schuss.Adafactor, {"lr": 0.1, "weight_decay": 0.1}, "Adafactor"),
    Case(schuss.Adafactor, {"convention": "keras", "lr": 0.1, "weight_decay": 0.1}),
    Case(schuss.Adafactor, {"convention": "optax", "lr": 0.1, "momentum": 0.9, "min_dim": 3, "maximize": True}),
    Case(schuss.SM3, {}),
    Case(schuss.SM3, {"momentum": 0.0, "eps": 1e-3, "maximize": True}),
    Case(schuss.Muon, {"lr": 0.05}),
    Case(schuss.Muon, {"convention": "keras", "lr": 0.05, "maximize": True}),
    Case(schuss.Muon, {"convention": "optax", "lr": 0.05, "weight_decay": 0.1}),
    Case(schuss.Muon, {"convention": "optax", "lr": 0.05, "nesterov": False}),
    Case(schuss.FTRL, {"l1": 0.1, "l2": 0.2, "l2_shrinkage": 0.1, "weight_decay": 0.1}),
    Case(schuss.FTRL, {"convention": "keras", "lr": 0.1}),
    Case(schuss.FTRL, {"lr": 0.05, "learning_rate_power": -0.7, "l1": 0.01, "maximize": True}),
    Case(schuss.FTRL, {"convention": "keras", "learning_rate_power": -0.25, "weight_decay": 0.1}),
    Case(schuss.QHM, {"lr": 0.1, "weight_decay": 0.1}),
    Case(schuss.QHM, {"lr": 0.1, "momentum": 0.9, "decoupled_weight_decay": True, "weight_decay": 0.1}),
    Case(schuss.QHAdam, {"nus": (0.7, 0.9), "weight_decay": 0.1, "maximize": True}),
    Case(schuss.MADGRAD, {"weight_decay": 0.1}),
    Case(schuss.MADGRAD, {"momentum": 0.0, "eps": 0.0, "maximize": True}),
    Case(schuss.AggMo, {"weight_decay": 0.1}),
    Case(schuss.AggMo, {"betas": (0.5, 0.9, 0.99), "maximize": True}),
    Case(schuss.AdaBound, {"gamma": 0.1, "weight_decay": 0.1}),
    Case(schuss.AdaBound, {"amsbound": True, "gamma": 0.0, "maximize": True}),
    Case(schuss.PAdam, {"weight_decay": 0.1}),
    Case(schuss.PAdam, {"partial": 0.375, "eps": 0.0, "maximize": True}),
    Case(schuss.PAdam, {"partial": 0.2, "weight_decay": 0.1}),
    Case(schuss.OGD, {"lr": 0.1, "beta": 0.5, "weight_decay": 0.1}),
    Case(schuss.OptimisticAdam, {"eps_root": 1e-3, "weight_decay": 0.1, "maximize": True}),
    Case(schuss.COCOB, {"weight_decay": 0.1}),
    Case(schuss.COCOB, {"lr": 0.5, "alpha": 0.0, "eps": 0.0, "maximize": True}),
]


def one_a_kernel() -> list[Case]:
    """The first case of every update (and measure): for what does not depend on the options' values."""
    found: dict[Any, Case] = {}
    for case in CASES:
        rule = case.rule
        found.setdefault((rule.update, rule.measure), case)
    return list(found.values())


@functools.cache
def _options_of_rules() -> dict[str, dict[str, Any]]:
    cases = [*CASES, *(Case(case.make, {"convention": name}) for case in CASES for name in case.make._conventions)]
    found: dict[str, dict[str, Any]] = {}
    for case in cases:
        [group] = case.make([np.ones(1)], **case.options, backend="numpy").param_groups
        found.setdefault(case.rule.name, group.options)
    return found


def options_of(rule: Any) -> dict[str, Any]:
    """Values for the hyper-parameters of a built-in rule: those of the first case that it moves a vector in."""
    known = _options_of_rules()[rule.name]
    return {name: known[name] for name in rule.options}


def group_of(test: str) -> str:
    """What one worker runs together, from a test's name: a file; of files that step every optimizer, one optimizer.

    All that is compiled for CUDA is one group: it is kept in memory alone, numba's other kernels are on the disk too.
    """
    path, _, name = test.partition("::")
    file = path.rpartition("/")[2]
    if name.startswith("test_simulator"):
        return "the simulator"
    if file.startswith("test_cuda"):
        return "cuda"
    if file in ("test_bitwise.py", "test_combinations.py", "test_native_kernels.py", "test_convergence.py"):
        return f"{file} {name.partition('[')[2].partition('(')[0][:12]}"
    return file


def said(value: Any) -> str:
    """A parameter of a test as text that is the same in every process: functions by their names."""
    return getattr(value, "__name__", None) or re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def engines(starting: str = "") -> Iterator[Any]:
    """numba, on the C extension's launcher and on its own, and the native engine at each instruction-set level that was
    built and that this processor runs."""
    found = [pytest.param("numba", marks=needs_native, id="numba"), pytest.param("numba prange", id="numba prange")]
    found += NATIVE_LEVELS or [pytest.param("native", marks=needs_native, id="native")]
    yield from (each for each in found if getattr(each, "id", each).startswith(starting))


READY = ["numpy", "native" if NATIVE_LEVELS else "numba"]
"""The reference and the compiled backend that waits for no compiler, where there is one: for tests of every optimizer.
That numba's engine steps every rule as well is for ``kernels/test_combinations.py``."""

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


def ones(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def mapped(g):
    """The same numbers in a file without a name."""
    with tempfile.TemporaryFile() as file:
        g.tofile(file)
        return np.memmap(file, g.dtype, "r+", shape=g.shape)


def assert_same_bits(actual, expected, what=""):
    """Equal to the last bit, the sign of zero included; a NaN equals any NaN."""
    np.testing.assert_array_equal(actual, expected, err_msg=what)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual)[numbers], np.signbit(expected)[numbers], err_msg=what)


def initial_states(optimizer):
    """The states of a new optimizer's tensors, which are made here and not by a first gradient."""
    optimizer._stepper.make_states(range(len(optimizer._parameters.names)))
    return optimizer.state_dict()["state"]


def assert_same_optimizers(one, other):
    """Parameters and states of two optimizers are the same bits."""
    for name, p, q in zip(one._parameters.names, one._parameters.memories, other._parameters.memories, strict=True):
        assert_same_bits(p.array, q.array, f"parameter {name}")
    ours, theirs = one.state_dict()["state"], other.state_dict()["state"]
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].keys() == theirs[name].keys()
        for field_, value in ours[name].items():
            other = theirs[name][field_]
            if isinstance(value, dict):  # numbers by name
                assert value.keys() == other.keys()
                value, other = list(value.values()), list(other.values())
            assert_same_bits(np.asarray(value), np.asarray(other), f"{field_} of {name}")
