"""The optimizers against what torch, Optax and Keras did. ``golden/make_golden.py`` recorded it; none is needed here.

A new optimizer is a new row of ``ROWS``.
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

    ``convention`` is the framework's, where the class has conventions. ``hessian_every``: the steps between those that
    are given the recorded Hessian diagonals. ``single``: the framework takes some of its steps in float32 whatever the
    parameters are, so that float64 can be no closer than float32. (Keras's ``ops.mean`` and ``ops.norm`` are float32.)
    """

    framework: str
    case: str
    make: Any
    options: dict[str, Any] = field(default_factory=dict)
    hessian_every: int = 0
    single: bool = False

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


def lookahead(make: Any, k: int, alpha: float) -> Any:
    """What puts slow weights beside those of another."""
    return lambda params, **options: schuss.Lookahead(make(params, **options), k, alpha)


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
    Row(
        "optax",
        "sgd(learning_rate=0.05, momentum=0.9, nesterov=True, add_decayed_weights=0.1)",
        schuss.SGD,
        {"lr": 0.05, **NESTEROV, **DECAY},
    ),
    Row("optax", "adagrad(learning_rate=0.1)", schuss.Adagrad, {"lr": 0.1}),
    Row(
        "optax",
        "adagrad(learning_rate=0.1, initial_accumulator_value=0.0, eps=0.0)",
        schuss.Adagrad,
        {"lr": 0.1, "initial_accumulator_value": 0.0, "eps": 0.0},
    ),
    Row(
        "optax",
        "adagrad(learning_rate=0.1, initial_accumulator_value=0.5, eps=0.01, add_decayed_weights=0.1)",
        schuss.Adagrad,
        {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-2, **DECAY},
    ),
    Row("optax", "rmsprop(learning_rate=0.05)", schuss.RMSprop, {"lr": 0.05}),
    Row(
        "optax",
        "rmsprop(learning_rate=0.05, decay=0.95, eps=0.01, add_decayed_weights=0.1)",
        schuss.RMSprop,
        {"lr": 0.05, "alpha": 0.95, "eps": 1e-2, **DECAY},
    ),
    Row(
        "optax",
        "rmsprop(learning_rate=0.02, momentum=0.9, eps=0.01)",
        schuss.RMSprop,
        {"lr": 0.02, "momentum": 0.9, "eps": 1e-2},
    ),
    Row(
        "optax",
        "rmsprop(learning_rate=0.02, momentum=0.9, eps=0.01, add_decayed_weights=0.1)",
        schuss.RMSprop,
        {"lr": 0.02, "momentum": 0.9, "eps": 1e-2, **DECAY},
    ),
    Row(
        "optax",
        "rmsprop(learning_rate=0.02, centered=True, eps=0.01)",
        schuss.RMSprop,
        {"lr": 0.02, "centered": True, "eps": 1e-2},
    ),
    Row(
        "optax",
        "rmsprop(learning_rate=0.02, centered=True, momentum=0.9, eps=0.01, add_decayed_weights=0.1)",
        schuss.RMSprop,
        {"lr": 0.02, "centered": True, "momentum": 0.9, "eps": 1e-2, **DECAY},
    ),
    Row("optax", "adam(learning_rate=0.1)", schuss.Adam, {"lr": 0.1}),
    Row(
        "optax",
        "adam(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01, add_decayed_weights=0.1)",
        schuss.Adam,
        {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY},
    ),
    Row("optax", "adamw(learning_rate=0.1)", schuss.AdamW, {"lr": 0.1}),
    Row(
        "optax",
        "adamw(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01, weight_decay=0.1)",
        schuss.AdamW,
        {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY},
    ),
    Row("optax", "amsgrad(learning_rate=0.1)", schuss.Adam, {"lr": 0.1, "amsgrad": True}),
    Row(
        "optax",
        "amsgrad(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01, add_decayed_weights=0.1)",
        schuss.Adam,
        {"lr": 0.1, **BETAS, "eps": 1e-2, "amsgrad": True, **DECAY},
    ),
    Row(
        "optax",
        "amsgrad_decoupled(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01, weight_decay=0.1)",
        schuss.AdamW,
        {"lr": 0.1, **BETAS, "eps": 1e-2, "amsgrad": True, **DECAY},
    ),
    Row("keras", "SGD()", schuss.SGD),
    Row("keras", "SGD(learning_rate=0.1, weight_decay=0.1)", schuss.SGD, {"lr": 0.1, **DECAY}),
    Row("keras", "SGD(learning_rate=0.05, momentum=0.9)", schuss.SGD, {"lr": 0.05, "momentum": 0.9}),
    Row(
        "keras",
        "SGD(learning_rate=0.05, momentum=0.9, weight_decay=0.1)",
        schuss.SGD,
        {"lr": 0.05, "momentum": 0.9, **DECAY},
    ),
    Row(
        "keras",
        "SGD(learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=0.1)",
        schuss.SGD,
        {"lr": 0.05, **NESTEROV, **DECAY},
    ),
    Row("keras", "Adagrad()", schuss.Adagrad),
    Row(
        "keras",
        "Adagrad(learning_rate=0.1, initial_accumulator_value=0.5, epsilon=0.01, weight_decay=0.1)",
        schuss.Adagrad,
        {"lr": 0.1, "initial_accumulator_value": 0.5, "eps": 1e-2, **DECAY},
    ),
    Row("keras", "RMSprop()", schuss.RMSprop),
    Row(
        "keras",
        "RMSprop(learning_rate=0.05, rho=0.95, epsilon=0.01, weight_decay=0.1)",
        schuss.RMSprop,
        {"lr": 0.05, "alpha": 0.95, "eps": 1e-2, **DECAY},
    ),
    Row("keras", "RMSprop(learning_rate=0.02, momentum=0.9)", schuss.RMSprop, {"lr": 0.02, "momentum": 0.9}),
    Row(
        "keras",
        "RMSprop(learning_rate=0.02, momentum=0.9, epsilon=0.01, weight_decay=0.1)",
        schuss.RMSprop,
        {"lr": 0.02, "momentum": 0.9, "eps": 1e-2, **DECAY},
    ),
    Row(
        "keras",
        "RMSprop(learning_rate=0.02, centered=True, epsilon=0.01)",
        schuss.RMSprop,
        {"lr": 0.02, "centered": True, "eps": 1e-2},
    ),
    Row(
        "keras",
        "RMSprop(learning_rate=0.02, centered=True, momentum=0.9, epsilon=0.01, weight_decay=0.1)",
        schuss.RMSprop,
        {"lr": 0.02, "centered": True, "momentum": 0.9, "eps": 1e-2, **DECAY},
    ),
    Row("keras", "Adam()", schuss.Adam),
    Row(
        "keras",
        "Adam(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01)",
        schuss.Adam,
        {"lr": 0.1, **BETAS, "eps": 1e-2},
    ),
    Row(
        "keras",
        "Adam(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, weight_decay=0.1)",
        schuss.Adam,
        {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY},
    ),
    Row(
        "keras",
        "Adam(learning_rate=0.1, beta_1=0.8, beta_2=0.95, amsgrad=True, weight_decay=0.1)",
        schuss.Adam,
        {"lr": 0.1, **BETAS, "amsgrad": True, **DECAY},
    ),
    Row("keras", "AdamW()", schuss.AdamW),
    Row(
        "keras",
        "AdamW(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, weight_decay=0.1)",
        schuss.AdamW,
        {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY},
    ),
    Row(
        "keras",
        "AdamW(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, amsgrad=True, weight_decay=0.1)",
        schuss.AdamW,
        {"lr": 0.1, **BETAS, "eps": 1e-2, "amsgrad": True, **DECAY},
    ),
    Row("optax", "lars(learning_rate=0.1)", schuss.LARS, {"lr": 0.1}),
    Row(
        "optax",
        "lars(learning_rate=1.0, trust_coefficient=0.01, eps=0.01, nesterov=True, weight_decay=0.1)",
        schuss.LARS,
        {"lr": 1.0, "trust_coefficient": 0.01, "eps": 1e-2, "nesterov": True, **DECAY},
    ),
    Row("optax", "lamb(learning_rate=0.1)", schuss.LAMB, {"lr": 0.1}),
    Row(
        "optax",
        "lamb(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01, weight_decay=0.1)",
        schuss.LAMB,
        {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY},
    ),
    Row("keras", "Lamb()", schuss.LAMB),
    Row(
        "keras",
        "Lamb(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, weight_decay=0.1)",
        schuss.LAMB,
        {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY},
    ),
    Row("optax", "novograd(learning_rate=0.05)", schuss.NovoGrad, {"lr": 0.05}),
    Row(
        "optax",
        "novograd(learning_rate=0.05, b1=0.8, b2=0.5, eps=0.01, weight_decay=0.1)",
        schuss.NovoGrad,
        {"lr": 0.05, "betas": (0.8, 0.5), "eps": 1e-2, **DECAY},
    ),
    Row("optax", "fromage(learning_rate=0.01)", schuss.Fromage, {"lr": 0.01}),
    Row("optax", "fromage(learning_rate=0.1, min_norm=1.0)", schuss.Fromage, {"lr": 0.1, "min_norm": 1.0}),
    Row("optax", "adabelief(learning_rate=0.1)", schuss.AdaBelief, {"lr": 0.1}),
    Row(
        "optax",
        "adabelief(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.001, eps_root=0.001)",
        schuss.AdaBelief,
        {"lr": 0.1, **BETAS, "eps": 1e-3, "eps_root": 1e-3},
    ),
    Row(
        "optax",
        "contrib.acprop(learning_rate=0.1, eps=0.001, eps_root=0.001)",
        schuss.ACProp,
        {"lr": 0.1, "eps": 1e-3, "eps_root": 1e-3},
    ),
    Row("optax", "yogi(learning_rate=0.1)", schuss.Yogi, {"lr": 0.1}),
    Row("optax", "yogi(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01)", schuss.Yogi, {"lr": 0.1, **BETAS, "eps": 1e-2}),
    Row("optax", "adan(learning_rate=0.1)", schuss.Adan, {"lr": 0.1}),
    Row(
        "optax",
        "adan(learning_rate=0.1, b1=0.9, b2=0.8, b3=0.95, eps=0.01, weight_decay=0.1)",
        schuss.Adan,
        {"lr": 0.1, "betas": (0.9, 0.8, 0.95), "eps": 1e-2, **DECAY},
    ),
    Row("optax", "contrib.ademamix(learning_rate=0.1)", schuss.AdEMAMix, {"lr": 0.1}),
    Row(
        "optax",
        "contrib.ademamix(learning_rate=0.1, b1=0.8, b2=0.95, b3=0.97, alpha=3.0, eps=0.01, weight_decay=0.1)",
        schuss.AdEMAMix,
        {"lr": 0.1, "betas": (0.8, 0.95, 0.97), "alpha": 3.0, "eps": 1e-2, **DECAY},
    ),
    Row(
        "optax",
        "contrib.simplified_ademamix(learning_rate=0.1, b1=0.8, b2=0.95, alpha=0.5, eps=0.01)",
        schuss.SimplifiedAdEMAMix,
        {"lr": 0.1, **BETAS, "alpha": 0.5, "eps": 1e-2},
    ),
    Row("optax", "contrib.adopt(learning_rate=0.1)", schuss.ADOPT, {"lr": 0.1}),
    Row(
        "optax",
        "contrib.adopt(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01, use_clipping=False)",
        schuss.ADOPT,
        {"lr": 0.1, **BETAS, "eps": 1e-2, "use_clipping": False},
    ),
    Row(
        "optax",
        "contrib.adopt(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01, add_decayed_weights_after=0.1)",
        schuss.ADOPT,
        {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY, "decoupled_weight_decay": True},
    ),
    Row("optax", "lion(learning_rate=0.01)", schuss.Lion, {"lr": 0.01}),
    Row(
        "optax",
        "lion(learning_rate=0.05, b1=0.8, b2=0.95, weight_decay=0.1)",
        schuss.Lion,
        {"lr": 0.05, **BETAS, **DECAY},
    ),
    Row("keras", "Lion()", schuss.Lion),
    Row(
        "keras",
        "Lion(learning_rate=0.05, beta_1=0.8, beta_2=0.95, weight_decay=0.1)",
        schuss.Lion,
        {"lr": 0.05, **BETAS, **DECAY},
    ),
    torch("Adadelta"),
    torch("Adadelta", lr=0.5, rho=0.8, eps=0.001, weight_decay=0.1),
    torch("Adamax"),
    torch("Adamax", lr=0.1, betas=(0.8, 0.95), eps=0.01, weight_decay=0.1),
    torch("NAdam"),
    torch("NAdam", lr=0.1, betas=(0.8, 0.95), eps=0.01, weight_decay=0.1),
    torch("NAdam", lr=0.1, momentum_decay=0.1, decoupled_weight_decay=True, weight_decay=0.1),
    torch("RAdam"),
    torch("RAdam", lr=0.1, betas=(0.8, 0.95), eps=0.01, weight_decay=0.1),
    torch("RAdam", lr=0.1, betas=(0.8, 0.95), decoupled_weight_decay=True, weight_decay=0.1),
    torch("Rprop"),
    torch("Rprop", lr=0.05, etas=(0.4, 1.3), step_sizes=(0.001, 0.2)),
    torch("ASGD"),
    torch("ASGD", lr=0.05, lambd=0.1, alpha=0.6, t0=8.0, weight_decay=0.1),
    Row("optax", "sign_sgd(learning_rate=0.05)", schuss.SignSGD, {"lr": 0.05}),
    Row("optax", "signum(learning_rate=0.05, beta=0.8)", schuss.Signum, {"lr": 0.05, "beta": 0.8}),
    Row("optax", "adadelta(learning_rate=1.0)", schuss.Adadelta),
    Row(
        "optax",
        "adadelta(learning_rate=0.5, rho=0.8, eps=0.001, weight_decay=0.1)",
        schuss.Adadelta,
        {"lr": 0.5, "rho": 0.8, "eps": 1e-3, **DECAY},
    ),
    Row("optax", "adamax(learning_rate=0.1)", schuss.Adamax, {"lr": 0.1}),
    Row(
        "optax",
        "adamax(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01)",
        schuss.Adamax,
        {"lr": 0.1, **BETAS, "eps": 1e-2},
    ),
    Row(
        "optax",
        "adamaxw(learning_rate=0.1, b1=0.8, b2=0.95, weight_decay=0.1)",
        schuss.AdamaxW,
        {"lr": 0.1, **BETAS, **DECAY},
    ),
    Row("optax", "nadam(learning_rate=0.1)", schuss.NAdam, {"lr": 0.1}),
    Row(
        "optax", "nadam(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01)", schuss.NAdam, {"lr": 0.1, **BETAS, "eps": 1e-2}
    ),
    Row(
        "optax",
        "nadamw(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01, weight_decay=0.1)",
        schuss.NAdam,
        {"lr": 0.1, **BETAS, "eps": 1e-2, "decoupled_weight_decay": True, **DECAY},
    ),
    Row("optax", "radam(learning_rate=0.1)", schuss.RAdam, {"lr": 0.1}),
    Row(
        "optax", "radam(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01)", schuss.RAdam, {"lr": 0.1, **BETAS, "eps": 1e-2}
    ),
    Row("optax", "rprop(learning_rate=0.05)", schuss.Rprop, {"lr": 0.05}),
    Row(
        "optax",
        "rprop(learning_rate=0.05, eta_minus=0.4, eta_plus=1.3, min_step_size=0.001, max_step_size=0.2)",
        schuss.Rprop,
        {"lr": 0.05, "etas": (0.4, 1.3), "step_sizes": (1e-3, 0.2)},
    ),
    Row("keras", "Adadelta()", schuss.Adadelta),
    Row(
        "keras",
        "Adadelta(learning_rate=0.5, rho=0.8, epsilon=0.001, weight_decay=0.1)",
        schuss.Adadelta,
        {"lr": 0.5, "rho": 0.8, "eps": 1e-3, **DECAY},
    ),
    Row("keras", "Adamax()", schuss.Adamax),
    Row(
        "keras",
        "Adamax(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, weight_decay=0.1)",
        schuss.Adamax,
        {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY},
    ),
    Row("keras", "Nadam()", schuss.NAdam),
    Row(
        "keras",
        "Nadam(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, weight_decay=0.1)",
        schuss.NAdam,
        {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY},
    ),
    Row("optax", "contrib.dog()", schuss.DoG),
    Row(
        "optax",
        "contrib.dog(learning_rate=0.5, init_step=('heuristic', 0.01), weight_decay=0.1)",
        schuss.DoG,
        {"lr": 0.5, "reps_rel": 1e-2, **DECAY},
    ),
    Row("optax", "contrib.dowg()", schuss.DoWG),
    Row("optax", "contrib.prodigy()", schuss.Prodigy, {"use_bias_correction": True}),
    Row(
        "optax",
        "contrib.prodigy(learning_rate=0.5, betas=(0.8, 0.95), estim_lr0=0.01, weight_decay=0.1)",
        schuss.Prodigy,
        {"lr": 0.5, **BETAS, "d0": 1e-2, "use_bias_correction": True, **DECAY},
    ),
    Row("optax", "contrib.dadapt_adamw()", schuss.DAdaptAdam, {"use_bias_correction": True, "decouple": True}),
    Row(
        "optax",
        "contrib.dadapt_adamw(learning_rate=0.5, betas=(0.8, 0.95), estim_lr0=0.01, weight_decay=0.1)",
        schuss.DAdaptAdam,
        {"lr": 0.5, **BETAS, "d0": 1e-2, "use_bias_correction": True, "decouple": True, **DECAY},
    ),
    Row("optax", "contrib.schedule_free_sgd(learning_rate=0.05)", schuss.ScheduleFreeSGD, {"lr": 0.05}),
    Row(
        "optax",
        "contrib.schedule_free_sgd(learning_rate=0.05, b1=0.8, weight_decay=0.1)",
        schuss.ScheduleFreeSGD,
        {"lr": 0.05, "momentum": 0.8, **DECAY},
    ),
    Row("optax", "contrib.schedule_free_adamw()", schuss.ScheduleFreeAdamW),
    Row(
        "optax",
        "contrib.schedule_free_adamw(learning_rate=0.1, b1=0.8, b2=0.95, eps=0.01, weight_decay=0.1)",
        schuss.ScheduleFreeAdamW,
        {"lr": 0.1, **BETAS, "eps": 1e-2, **DECAY},
    ),
    Row("keras", "ScheduleFreeAdamW()", schuss.ScheduleFreeAdamW),
    Row(
        "keras",
        "ScheduleFreeAdamW(learning_rate=0.1, beta_1=0.8, beta_2=0.95, epsilon=0.01, warmup_steps=5, weight_decay=0.1)",
        schuss.ScheduleFreeAdamW,
        {"lr": 0.1, **BETAS, "eps": 1e-2, "warmup_steps": 5, **DECAY},
    ),
    Row("optax", "contrib.sophia(learning_rate=0.01, update_interval=3)", schuss.Sophia, {"lr": 0.01}, 3),
    Row(
        "optax",
        "contrib.sophia(learning_rate=0.05, b1=0.8, b2=0.95, gamma=0.5, update_interval=4, weight_decay=0.1)",
        schuss.Sophia,
        {"lr": 0.05, **BETAS, "gamma": 0.5, **DECAY},
        4,
    ),
    torch("Adafactor"),
    Row(
        "torch",
        "Adafactor(lr=0.1, beta2_decay=-0.7, d=1.2, weight_decay=0.1)",
        schuss.Adafactor,
        {"lr": 0.1, "beta2_decay": -0.7, "d": 1.2, **DECAY},
    ),
    torch("Muon"),
    torch("Muon", lr=0.05, momentum=0.8, nesterov=False, weight_decay=0.0),
    Row(
        "torch",
        "Muon(lr=0.05, adjust_lr_fn=match_rms_adamw, weight_decay=0.1)",
        schuss.Muon,
        {"lr": 0.05, "rms_scale": 0.2, **DECAY},
    ),
    Row("optax", "adafactor(learning_rate=0.1)", schuss.Adafactor, {"lr": 0.1}),
    Row("optax", "adafactor(learning_rate=0.1, min_dim_size_to_factor=2)", schuss.Adafactor, {"lr": 0.1, "min_dim": 2}),
    Row(
        "optax",
        "adafactor(learning_rate=0.1, min_dim_size_to_factor=2, multiply_by_parameter_scale=False, "
        "momentum=0.9, weight_decay_rate=0.01)",
        schuss.Adafactor,
        {"lr": 0.1, "min_dim": 2, "scale_parameter": False, "momentum": 0.9, "weight_decay": 0.01},
    ),
    Row("optax", "sm3(learning_rate=0.1)", schuss.SM3, {"lr": 0.1, "eps": 1e-8}),
    Row("optax", "sm3(learning_rate=0.1, momentum=0.5)", schuss.SM3, {"lr": 0.1, "momentum": 0.5, "eps": 1e-8}),
    Row("optax", "contrib.muon(learning_rate=0.05)", schuss.Muon, {"lr": 0.05}),
    Row(
        "optax",
        "contrib.muon(learning_rate=0.05, beta=0.8, nesterov=False, weight_decay=0.1)",
        schuss.Muon,
        {"lr": 0.05, "momentum": 0.8, "nesterov": False, **DECAY},
    ),
    Row(
        "optax",
        "lookahead(learning_rate=0.05, fast=sgd, sync_period=5, slow_step_size=0.5)",
        lookahead(schuss.SGD, 5, 0.5),
        {"lr": 0.05},
    ),
    Row(
        "optax",
        "lookahead(learning_rate=0.05, fast=adamw, sync_period=4, slow_step_size=0.8)",
        lookahead(schuss.AdamW, 4, 0.8),
        {"lr": 0.05, "weight_decay": 1e-4},
    ),
    Row("keras", "Adafactor()", schuss.Adafactor, single=True),
    Row(
        "keras",
        "Adafactor(learning_rate=0.1, beta_2_decay=-0.7, relative_step=False, clip_threshold=0.9, weight_decay=0.1)",
        schuss.Adafactor,
        {"lr": 0.1, "beta2_decay": -0.7, "d": 0.9, **DECAY},
        single=True,
    ),
    Row("keras", "Muon()", schuss.Muon, single=True),
    Row(
        "keras",
        "Muon(learning_rate=0.05, momentum=0.8, nesterov=False, weight_decay=0.1)",
        schuss.Muon,
        {"lr": 0.05, "momentum": 0.8, "nesterov": False, **DECAY},
        single=True,
    ),
    Row("optax", "optimistic_adam_v2(learning_rate=0.1)", schuss.OptimisticAdam, {"lr": 0.1}),
    Row(
        "optax",
        "optimistic_gradient_descent(learning_rate=0.05, alpha=0.9, beta=0.5)",
        schuss.OGD,
        {"lr": 0.05, "alpha": 0.9, "beta": 0.5},
    ),
    Row("optax", "contrib.cocob()", schuss.COCOB),
    Row("optax", "contrib.madgrad(learning_rate=0.1)", schuss.MADGRAD, {"lr": 0.1}, single=True),
    Row(
        "optax",
        "contrib.madgrad(learning_rate=0.1, momentum=0.5, eps=0.01, weight_decay=0.1)",
        schuss.MADGRAD,
        {"lr": 0.1, "momentum": 0.5, "eps": 1e-2, **DECAY},
        single=True,
    ),
    Row("keras", "Ftrl()", schuss.FTRL),
    Row(
        "keras",
        "Ftrl(learning_rate=0.1, l1_regularization_strength=0.1, l2_regularization_strength=0.2, beta=0.3, "
        "l2_shrinkage_regularization_strength=0.1)",
        schuss.FTRL,
        {"lr": 0.1, "l1": 0.1, "l2": 0.2, "beta": 0.3, "l2_shrinkage": 0.1},
    ),
    Row(
        "keras",
        "Ftrl(learning_rate=0.1, learning_rate_power=-0.7, initial_accumulator_value=0.5, weight_decay=0.1)",
        schuss.FTRL,
        {"lr": 0.1, "learning_rate_power": -0.7, "initial_accumulator_value": 0.5, **DECAY},
    ),
]


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
        estimate = {}
        if row.hessian_every and number % row.hessian_every == 0:
            estimate = {"hessian": split(given["hessians"][number][:width], about["shapes"], dtype)}
        optimizer.step(split(gradient[:width], about["shapes"], dtype), **estimate)
        if number + 1 in about["snapshots"]:
            for name, right in split(expected[compared], about["shapes"], dtype).items():
                error = np.abs(params[name] - right).max() / np.abs(right).max()
                most = TOLERANCE["float32" if row.single else dtype]
                assert error <= most, f"{name} after {number + 1} steps: {error:.1e}"
            compared += 1
    assert compared == len(expected)
    assert number + 1 >= 20


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_recorded_case_has_a_row(framework):
    about, _ = recorded(framework)
    rows = {row.case for row in ROWS if row.framework == framework}
    assert rows == set(about["cases"])
    assert len(rows) == len([row for row in ROWS if row.framework == framework])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_files_say_what_made_them(framework):
    about, arrays = recorded(framework)
    assert {framework, "numpy", "python"} <= set(about["versions"])
    assert set(arrays) == {f"{name}|{dtype}" for name in about["cases"] for dtype in TOLERANCE}
    assert all(array.dtype == key.rpartition("|")[2] for key, array in arrays.items())


def test_the_files_are_small():
    assert sum(path.stat().st_size for path in FOLDER.glob("*.npz")) < 500_000
