"""Which backend runs the steps, and its engine."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from schuss_kernels.engine.base import Engine
from schuss_kernels.lang.rule import Rule
from schuss_kernels.plan.tensor import Tensor
from schuss_kernels.storage.memory import Memory

BACKENDS = ("auto", "native", "numba", "numpy", "cuda")


def check(backend: str) -> None:
    """Raise a ValueError for a backend that does not exist."""
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(map(repr, BACKENDS))}, got {backend!r}")


def checked_threads(threads: Any) -> int | None:
    """Return a maximum number of threads, None for the default.

    Raises
    ------
    ValueError
        When it is no whole number of at least 1.
    """
    if threads is None:
        return None
    whole = isinstance(threads, (int, np.integer)) and not isinstance(threads, bool)
    if not (whole and threads >= 1):
        raise ValueError(f"threads: expected a whole number of at least 1, or None; got {threads!r}")
    return int(threads)


def choose(backend: str, names: Sequence[str], parameters: Sequence[Memory], rules: Sequence[Rule]) -> str:
    """Return the backend for parameters and their rules: the one asked for, or what ``"auto"`` stands for here.

    ``names``, ``parameters``, ``rules``: one a tensor.

    Raises
    ------
    RuntimeError
        When the backend asked for cannot run here.
    TypeError, ValueError
        When the parameters do not lie where the backend works (host or device).
    """
    device = [not p.on_host for p in parameters]
    if any(device) and not all(device):
        here, there = names[device.index(False)], names[device.index(True)]
        raise ValueError(
            f"parameter {here!r} is in host memory and {there!r} in CUDA memory; use one optimizer for each"
        )
    no_compiler = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
    if backend == "auto":
        backend = "cuda" if all(device) else _best_on_host(no_compiler, parameters, rules)
    if backend == "native":
        from schuss_kernels.native import library

        reason = library.available()
        if reason is not None:
            raise RuntimeError(f"backend='native': {reason}")
    if backend == "numba" and no_compiler:
        raise RuntimeError("backend='numba': the environment variable NUMBA_DISABLE_JIT forbids it to compile")
    if backend == "cuda":
        from schuss_kernels.cuda.engine import available

        reason = available()
        if reason is not None:
            raise RuntimeError(f"backend='cuda': {reason}")
        if not all(device):
            raise TypeError(f"backend='cuda': parameter {names[0]!r} is in host memory; pass device arrays")
    elif any(device):
        raise TypeError(f"backend={backend!r}: parameter {names[0]!r} is in CUDA memory")
    return backend


def _best_on_host(no_compiler: bool, parameters: Sequence[Memory], rules: Sequence[Rule]) -> str:
    from schuss_kernels.native import library

    if library.available() is None and all(
        rule.matrix or library.covers(rule, parameter.dtype) for rule, parameter in zip(rules, parameters, strict=True)
    ):
        return "native"
    return "numpy" if no_compiler else "numba"


def engine(backend: str, tensors: list[Tensor], clock: np.ndarray, threads: int | None, strict: bool) -> Engine:
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
    if backend == "numpy":
        from schuss_kernels.engine.reference import ReferenceEngine

        return ReferenceEngine(tensors, clock)
    matrices = [tensor.rule.matrix for tensor in tensors]
    if all(matrices):
        from schuss_kernels.engine.matrix import MatrixEngine

        return MatrixEngine(tensors, clock, threads)
    if any(matrices):
        from schuss_kernels.engine.matrix import MixedEngine

        return MixedEngine(tensors, clock, lambda rest, own: engine(backend, rest, own, threads, strict), threads)
    if backend == "cuda":
        from schuss_kernels.cuda.engine import CudaEngine

        return CudaEngine(tensors, clock)
    if backend == "native":
        from schuss_kernels.native.engine import NativeEngine

        return NativeEngine(tensors, clock, threads, strict=strict)
    from schuss_kernels.cpu.engine import make_engine

    return make_engine(tensors, clock, threads)
