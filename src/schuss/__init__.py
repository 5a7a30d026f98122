"""schuss: fused optimizer kernels for NumPy and CUDA arrays.

    opt = schuss.AdamW(params, lr=1e-3)
    opt.step(grads)

Parameters are updated in place, in one pass over memory, by all cores, bit for bit as the numpy reference would.
``schuss.optimizers()`` tells of every optimizer what it keeps and moves; ``schuss.make(name, params)`` makes one.
"""

import importlib
from typing import TYPE_CHECKING, Any

from schuss_kernels.lang.matrix_rule import MatrixRule
from schuss_kernels.lang.rule import FINITE, FRACTION, NOT_NEGATIVE, Interval, Rule, RuleError

from .core.step_options import StepInfo
from .loss_scale import DynamicLossScale
from .optim.registry import CLASSES, classes_by_kind
from .optimizer import Optimizer

if TYPE_CHECKING:
    from . import elementary, plots, problems, schedules
    from .descent.batches import batches
    from .descent.gradient_check import check_gradient
    from .descent.minimize import minimize, scipy_method
    from .optim import *  # noqa: F403
    from .optim.registry import make, optimizers

__version__ = "0.1.0"

__all__ = [
    "FINITE",
    "FRACTION",
    "NOT_NEGATIVE",
    "DynamicLossScale",
    "Interval",
    "MatrixRule",
    "Optimizer",
    "Rule",
    "RuleError",
    "StepInfo",
    "batches",
    "check_gradient",
    "elementary",
    "make",
    "minimize",
    "optimizers",
    "plots",
    "problems",
    "schedules",
    "scipy_method",
]
__all__ += CLASSES

# Imported when they are used. A module is its own name; what is in one stands beside its module's name.
_LATER = {
    **{name: f"optim.{module}" for name, module in CLASSES.items()},
    "batches": "descent.batches",
    "check_gradient": "descent.gradient_check",
    "elementary": "elementary",
    "make": "optim.registry",
    "minimize": "descent.minimize",
    "optimizers": "optim.registry",
    "plots": "plots",
    "problems": "problems",
    "schedules": "schedules",
    "scipy_method": "descent.minimize",
}


if __doc__:  # python -OO leaves docstrings out
    __doc__ += f"\nOptimizers, by what the step of an element depends on beside the element:\n\n{classes_by_kind()}\n"


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'schuss' has no attribute {name!r}")
    module = importlib.import_module(f"schuss.{_LATER[name]}")
    return module if _LATER[name] == name else getattr(module, name)
