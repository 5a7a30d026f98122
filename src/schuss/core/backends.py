"""What runs the steps: which backend, and its engine."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from schuss_kernels.engine.base import Engine
from schuss_kernels.lang.rule import Rule
from schuss_kernels.plan.tensor import Tensor
from schuss_kernels.storage.memory import Memory

BACKENDS = ("auto", "native", "numba", "numpy", "cuda")


def check(backend: str) -> None:
    """Raise a ValueError for what is no backend."""
    if backend not in BACKENDS:
        raise ValueError(f"backend: expected one of {', '.join(map(repr, BACKENDS))}, got {backend!r}")


def choose(backend: str, names: Sequence[str], parameters: Sequence[Memory], rules: Sequence[Rule]) -> str:
    """The backend for parameters and their rules; what ``"auto"`` stands for.

    Raises
    ------
    RuntimeError
        When the backend asked for cannot run here.
    TypeError, ValueError
        When the parameters do not lie where it works.
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
    """The engine of a backend, of matrix rules numpy's. ``strict``: of the native one, refuse what was not
    compiled ahead of time."""
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
