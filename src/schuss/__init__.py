"""schuss: fused optimizer kernels for NumPy and CUDA arrays.

    opt = schuss.AdamW(params, lr=1e-3)
    opt.step(grads)

Parameters are updated in place, in one pass over memory, by all cores, bit for bit as the numpy reference would.
"""

import importlib
from typing import TYPE_CHECKING, Any

from schuss_kernels.rule import FINITE, FRACTION, NOT_NEGATIVE, Interval, Rule, RuleError

from .loss_scale import DynamicLossScale
from .optimizer import Optimizer
from .optimizers import SGD, Adagrad, Adam, AdamW, RMSprop
from .riding import StepInfo

if TYPE_CHECKING:
    from . import schedules

__version__ = "0.1.0"

__all__ = [
    "FINITE",
    "FRACTION",
    "NOT_NEGATIVE",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "DynamicLossScale",
    "Interval",
    "Optimizer",
    "RMSprop",
    "Rule",
    "RuleError",
    "StepInfo",
    "schedules",
]


def __getattr__(name: str) -> Any:
    if name == "schedules":  # imported when it is used
        return importlib.import_module("schuss.schedules")
    raise AttributeError(f"module 'schuss' has no attribute {name!r}")
