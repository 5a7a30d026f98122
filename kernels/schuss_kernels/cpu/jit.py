"""numba's ``njit`` with the options of this package: numpy's rules of division, and the disk cache."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from numba import njit

from ..lang import digest


def jit(**options: Any) -> Callable[[Any], Any]:
    """Return a decorator that compiles a function on first use, and keeps it in numba's disk cache where there is one.

    ``options``: further options of ``njit``.

    The function closes over :func:`.digest.sources`. Numba's cache compares a function's own file, its bytecode and
    what it closes over, but not the functions that it calls or the constants that it reads. With the digest, a cached
    function is used only with the source files that it was compiled from.
    """

    def wrap(function: Any) -> Any:
        function = _closing_over(function, digest.sources())
        try:
            return njit(cache=True, error_model="numpy", **options)(function)
        except RuntimeError:  # no folder can be written, neither beside this file nor in the user's cache
            return njit(error_model="numpy", **options)(function)

    return wrap


def _closing_over(function: Any, value: str) -> Any:
    """Return a copy of a function whose closure has one more value, which the function never reads."""
    code = function.__code__
    code = code.replace(co_freevars=(*code.co_freevars, "sources"))
    closure = (*(function.__closure__ or ()), types.CellType(value))
    made = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__, closure)
    made.__module__, made.__qualname__, made.__doc__ = function.__module__, function.__qualname__, function.__doc__
    return made
