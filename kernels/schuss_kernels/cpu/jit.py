"""``njit`` as all CPU code of the package is compiled: numpy's division, and the disk cache."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

from numba import njit

from ..lang import digest


def jit(**options: Any) -> Callable[[Any], Any]:
    """Compile a function on first use; keep it in numba's disk cache where there is a place for one.

    The function closes over :func:`.digest.sources`. Numba's cache looks at a function's own file, its bytecode and
    what it closes over, not at what it calls or at the constants it reads: so a cached function is found again by the
    same sources and by no others.
    """

    def wrap(function: Any) -> Any:
        function = _closing_over(function, digest.sources())
        try:
            return njit(cache=True, error_model="numpy", **options)(function)
        except RuntimeError:  # no folder can be written: neither beside this file nor in the user's cache
            return njit(error_model="numpy", **options)(function)

    return wrap


def _closing_over(function: Any, value: str) -> Any:
    """Return a copy of a function whose closure holds one more value, which it never reads."""
    code = function.__code__
    code = code.replace(co_freevars=(*code.co_freevars, "sources"))
    closure = (*(function.__closure__ or ()), types.CellType(value))
    made = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__, closure)
    made.__module__, made.__qualname__, made.__doc__ = function.__module__, function.__qualname__, function.__doc__
    return made
