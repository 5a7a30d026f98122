"""Every backend there is, one row each: where its engine is, and whether it can run here.

The one place that reaches up, to folders that may import this one: by name, and only when a backend is used.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..plan.tensor import Tensor
from .base import Engine


class Backend(NamedTuple):
    """Where a backend's parts are, as modules of this package.

    ``engine`` has ``make_engine(tensors, clock, threads, strict)``. ``availability`` has ``available()``: None where
    the backend can run, else a sentence that says why not. ``on_device``: it steps arrays in device memory, and those
    alone. ``steps_matrices``: its engine steps matrix rules itself.
    """

    engine: str
    availability: str
    on_device: bool = False
    steps_matrices: bool = False


BACKENDS = {
    "native": Backend("native.engine", "native.library"),
    "numba": Backend("cpu.engine", "cpu"),
    "numpy": Backend("engine.reference", "engine.reference", steps_matrices=True),
    "cuda": Backend("cuda.engine", "cuda.engine", on_device=True),
}


def _module(name: str) -> Any:
    return importlib.import_module(f"{__package__.rpartition('.')[0]}.{name}")


def why_not(backend: str) -> str | None:
    """Return None where a backend can run here, else a sentence that says why not."""
    reason: str | None = _module(BACKENDS[backend].availability).available()
    return reason


def make_engine(backend: str, tensors: list[Tensor], clock: np.ndarray, threads: int | None, strict: bool) -> Engine:
    """Make the engine of a backend; tensors with a matrix rule get the matrix engine.

    Parameters
    ----------
    tensors
        What it steps.
    clock
        One int64, which it raises in every step that moves something.
    threads
        Maximum number of threads, None for the default.
    strict
        Whether the native engine refuses kernels that were not compiled ahead of time.
    """

    def of_backend(own: Sequence[Tensor], own_clock: np.ndarray) -> Engine:
        made: Engine = _module(BACKENDS[backend].engine).make_engine(own, own_clock, threads, strict)
        return made

    matrices = [tensor.rule.matrix for tensor in tensors]
    if BACKENDS[backend].steps_matrices or not any(matrices):
        return of_backend(tensors, clock)
    from .matrix import MatrixEngine, MixedEngine  # here: few use them

    if all(matrices):
        return MatrixEngine(tensors, clock, threads)
    return MixedEngine(tensors, clock, of_backend, threads)
