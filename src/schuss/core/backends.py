"""Which backend runs the steps."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from typing import Any

from schuss_kernels.engine import registry
from schuss_kernels.lang.rule import Rule
from schuss_kernels.storage.memory import Memory

from .validate import whole

BACKENDS = ("auto", *registry.BACKENDS)


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
    with contextlib.suppress(TypeError, ValueError):
        if (number := whole(threads)) >= 1:
            return number
    raise ValueError(f"threads: expected a whole number of at least 1, or None; got {threads!r}")


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
    if backend == "auto":
        backend = "cuda" if all(device) else _best_on_host(parameters, rules)
    reason = registry.why_not(backend)
    if reason is not None:
        raise RuntimeError(f"backend={backend!r}: {reason}")
    on_device = registry.BACKENDS[backend].on_device
    if on_device and not all(device):
        raise TypeError(f"backend={backend!r}: parameter {names[0]!r} is in host memory; pass device arrays")
    if any(device) and not on_device:
        raise TypeError(f"backend={backend!r}: parameter {names[0]!r} is in CUDA memory")
    return backend


def _best_on_host(parameters: Sequence[Memory], rules: Sequence[Rule]) -> str:
    from schuss_kernels.native import library

    try:
        library.library()
        pairs = zip(rules, parameters, strict=True)
        if all(rule.matrix or library.covers(rule, parameter.dtype) for rule, parameter in pairs):
            return "native"
    except library.WrongLevel as error:
        warnings.warn(f"{error}; kernels are compiled when they are first used", RuntimeWarning, stacklevel=5)
    except library.Unavailable:
        pass
    return "numba" if registry.why_not("numba") is None else "numpy"
