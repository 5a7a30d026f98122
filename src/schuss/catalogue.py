"""Every optimizer there is, in all its forms: one row each. Names, benches and the demo go by it."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .optimizer import Optimizer

ELEMENT, TENSOR, GLOBAL, MATRIX = "element-wise", "per tensor", "global", "matrix"
"""What an element's step depends on: the element, a number of its tensor, one of all tensors, or its row and column."""


@dataclass(frozen=True)
class Variant:
    """One form of an optimizer.

    ``module`` in :mod:`schuss.optim` has the class. ``options`` mean the same to torch's class of that name.
    ``fused``: torch has ``fused=True`` for it on the CPU. ``demo_lr`` trains the network of ``schuss demo``.
    """

    key: str
    title: str
    module: str
    optimizer: str
    demo_lr: float
    fused: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ELEMENT

    @property
    def cls(self) -> type[Optimizer]:
        """The optimizer's class."""
        found: type[Optimizer] = getattr(importlib.import_module(f"schuss.optim.{self.module}"), self.optimizer)
        return found

    def build(self, params: Any, **options: Any) -> Optimizer:
        """The optimizer on ``params``; ``options`` are added to its own."""
        return self.cls(params, **{**self.options, **options})


_BOTH = {"centered": True, "momentum": 0.9}

VARIANTS = {
    variant.key: variant
    for variant in (
        Variant("sgd", "SGD", "sgd", "SGD", 0.3, True),
        Variant("sgd-momentum", "SGD momentum", "sgd", "SGD", 0.05, True, {"momentum": 0.9}),
        Variant("sgd-nesterov", "SGD Nesterov", "sgd", "SGD", 0.05, True, {"momentum": 0.9, "nesterov": True}),
        Variant("adagrad", "Adagrad", "adagrad", "Adagrad", 0.03, True),
        Variant("rmsprop", "RMSprop", "rmsprop", "RMSprop", 0.002),
        Variant("rmsprop-momentum", "RMSprop momentum", "rmsprop", "RMSprop", 0.0005, False, {"momentum": 0.9}),
        Variant("rmsprop-centered", "RMSprop centered", "rmsprop", "RMSprop", 0.002, False, {"centered": True}),
        Variant("rmsprop-centered-momentum", "RMSprop centered, momentum", "rmsprop", "RMSprop", 0.0005, False, _BOTH),
        Variant("adam", "Adam", "adam", "Adam", 0.003, True),
        Variant("adam-amsgrad", "Adam AMSGrad", "adam", "Adam", 0.003, True, {"amsgrad": True}),
        Variant("adamw", "AdamW", "adam", "AdamW", 0.003, True),
        Variant("adamw-amsgrad", "AdamW AMSGrad", "adam", "AdamW", 0.003, True, {"amsgrad": True}),
        Variant("lamb", "LAMB", "lamb", "LAMB", 0.007, kind=TENSOR),
    )
}

CLASSIC = tuple(VARIANTS)[:12]
"""The optimizers that gradient descent is taught with, in all forms: what benches and the demo take by themselves."""

CLASSES = {variant.optimizer: variant.module for variant in VARIANTS.values()}
"""The optimizer classes, and which module of :mod:`schuss.optim` has them."""


@dataclass(frozen=True)
class Listed:
    """What :func:`schuss.optimizers` tells of a form of an optimizer.

    ``name`` is what :func:`schuss.make` takes; ``cls`` the class, ``options`` what makes it this form; ``states`` what
    an element keeps; ``bytes_per_parameter`` what a step moves in float32; ``kind``: ``"element-wise"``, ``"per
    tensor"``, ``"global"`` or ``"matrix"``; ``source``: the paper.
    """

    name: str
    title: str
    cls: type[Optimizer]
    options: Mapping[str, Any]
    states: tuple[str, ...]
    bytes_per_parameter: float
    kind: str
    source: str


def optimizers() -> list[Listed]:
    """Every optimizer in every form.

    >>> import schuss
    >>> [found.name for found in schuss.optimizers()][:3]
    ['sgd', 'sgd-momentum', 'sgd-nesterov']
    """
    return [_listed(key) for key in VARIANTS]


@functools.cache
def _listed(key: str) -> Listed:
    import numpy as np

    variant = VARIANTS[key]
    (tensor,) = variant.build([np.zeros((1, 1), np.float32)], backend="numpy")._engine.tensors
    spec = tensor.spec(False)
    return Listed(
        variant.key, variant.title, variant.cls, variant.options, tensor.rule.State._fields,
        spec.bytes_per_element, variant.kind, tensor.rule.paper,
    )  # fmt: skip
