"""Sets of tensors that optimizers are measured on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np


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
    """Return the tensors called ``key``, one of ``WORKLOADS``."""
    if key == "resnet18":
        return Workload(key, "ResNet18", model_shapes("resnet18"), 25)
    if key == "gpt2":
        return Workload(key, "GPT-2 124M", model_shapes("gpt2-124m"), 9)
    count, size = map(int, key.split("x"))
    return Workload(key, f"{count} x {size}", ((size,),) * count, 25)


def model_shapes(model: str) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of all parameters of a model, in the model's order."""
    text = (resources.files(__package__) / "data" / "model_shapes.json").read_text(encoding="utf-8")
    return tuple(tuple(shape) for _, shape in json.loads(text)[model]["shapes"])


def random_arrays(shapes: Sequence[tuple[int, ...]], seed: int, scale: float = 1.0) -> list[np.ndarray]:
    """Make normally distributed float32 arrays, never exactly zero."""
    rng = np.random.default_rng(seed)
    made = []
    for shape in shapes:
        values = rng.standard_normal(shape, np.float32)
        values *= np.float32(scale)
        values[values == 0.0] = np.float32(scale)
        made.append(values)
    return made
