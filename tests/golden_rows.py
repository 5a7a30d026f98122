"""What was recorded of torch, and what the rows of all frameworks are made of. A new optimizer is a new row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import schuss


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

TORCH = [
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
]
