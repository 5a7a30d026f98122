"""What is measured: the optimizers in all their forms, and sets of tensors they are run on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np

from .. import optimizers
from ..optimizer import Optimizer


@dataclass(frozen=True)
class Variant:
    """One form of an optimizer.

    ``options`` mean the same to torch's class of that name. ``fused``: torch has ``fused=True`` for it on the CPU.
    ``demo_lr`` trains the network of ``schuss demo``.
    """

    key: str
    title: str
    optimizer: str
    demo_lr: float
    fused: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def build(self, params: Any, **options: Any) -> Optimizer:
        """The optimizer on ``params``; ``options`` are added to its own."""
        cls: type[Optimizer] = getattr(optimizers, self.optimizer)
        return cls(params, **{**self.options, **options})


_BOTH = {"centered": True, "momentum": 0.9}

VARIANTS = {
    variant.key: variant
    for variant in (
        Variant("sgd", "SGD", "SGD", 0.3, True),
        Variant("sgd-momentum", "SGD momentum", "SGD", 0.05, True, {"momentum": 0.9}),
        Variant("sgd-nesterov", "SGD Nesterov", "SGD", 0.05, True, {"momentum": 0.9, "nesterov": True}),
        Variant("adagrad", "Adagrad", "Adagrad", 0.03, True),
        Variant("rmsprop", "RMSprop", "RMSprop", 0.002),
        Variant("rmsprop-momentum", "RMSprop momentum", "RMSprop", 0.0005, False, {"momentum": 0.9}),
        Variant("rmsprop-centered", "RMSprop centered", "RMSprop", 0.002, False, {"centered": True}),
        Variant("rmsprop-centered-momentum", "RMSprop centered, momentum", "RMSprop", 0.0005, False, _BOTH),
        Variant("adam", "Adam", "Adam", 0.003, True),
        Variant("adam-amsgrad", "Adam AMSGrad", "Adam", 0.003, True, {"amsgrad": True}),
        Variant("adamw", "AdamW", "AdamW", 0.003, True),
        Variant("adamw-amsgrad", "AdamW AMSGrad", "AdamW", 0.003, True, {"amsgrad": True}),
    )
}


@dataclass(frozen=True)
class Workload:
    """A set of float32 tensors and how many rounds a measurement on it takes."""

    key: str
    title: str
    shapes: tuple[tuple[int, ...], ...]
    rounds: int

    @property
    def sizes(self) -> list[int]:
        return [int(np.prod(shape)) for shape in self.shapes]

    @property
    def parameters(self) -> int:
        return sum(self.sizes)

    def __str__(self) -> str:
        count = len(self.shapes)
        return f"{self.title}: {count} tensor{'s' * (count != 1)}, {self.parameters:,} parameters, float32"


WORKLOADS = ("resnet18", "gpt2", "500x1000", "1x1000")


def workload(key: str) -> Workload:
    """The tensors called ``key``, one of ``WORKLOADS``."""
    if key == "resnet18":
        return Workload(key, "ResNet18", model_shapes("resnet18"), 25)
    if key == "gpt2":
        return Workload(key, "GPT-2 124M", model_shapes("gpt2-124m"), 9)
    count, size = map(int, key.split("x"))
    return Workload(key, f"{count} x {size}", ((size,),) * count, 25)


def model_shapes(model: str) -> tuple[tuple[int, ...], ...]:
    """The shapes of all parameters of a model, in the model's order."""
    text = (resources.files(__package__) / "data" / "model_shapes.json").read_text(encoding="utf-8")
    return tuple(tuple(shape) for _, shape in json.loads(text)[model]["shapes"])


def random_arrays(shapes: Sequence[tuple[int, ...]], seed: int, scale: float = 1.0) -> list[np.ndarray]:
    """Normally distributed float32 arrays, never exactly zero."""
    rng = np.random.default_rng(seed)
    made = []
    for shape in shapes:
        values = rng.standard_normal(shape, np.float32)
        values *= np.float32(scale)
        values[values == 0.0] = np.float32(scale)
        made.append(values)
    return made
