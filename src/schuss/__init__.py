"""schuss: fused optimizer kernels for NumPy and CUDA arrays.

    opt = schuss.AdamW(params, lr=1e-3)
    opt.step(grads)

Parameters are updated in place, in one pass over memory, by all cores, bit for bit as the numpy reference would.
"""

from schuss_kernels.rule import FINITE, FRACTION, NOT_NEGATIVE, Interval, Rule, RuleError

from . import schedules
from .optimizer import Optimizer
from .optimizers import SGD, Adagrad, Adam, AdamW, RMSprop

__version__ = "0.1.0"

__all__ = [
    "FINITE",
    "FRACTION",
    "NOT_NEGATIVE",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Interval",
    "Optimizer",
    "RMSprop",
    "Rule",
    "RuleError",
    "schedules",
]
