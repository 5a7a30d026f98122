"""numba's ``njit`` with the options of this package: numpy's rules of division, and the disk cache."""

from __future__ import annotations

import contextlib
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from numba import config, njit

from ..lang import digest


def jit(keep: bool = True, **options: Any) -> Callable[[Any], Any]:
    """Return a decorator that compiles a function on first use, and keeps it in numba's disk cache where there is one.

    ``keep``: whether it may be kept. ``options``: further options of ``njit``.

    The function closes over :func:`.digest.sources`. Numba's cache compares a function's own file, its bytecode and
    what it closes over, but not the functions that it calls or the constants that it reads. With the digest, a cached
    function is used only with the source files that it was compiled from.

    A cache that is damaged, full or not to be written is no error: the function is compiled, and the first time in a
    process a RuntimeWarning says so.
    """

    def wrap(function: Any) -> Any:
        function = _closing_over(function, digest.sources())
        made = njit(error_model="numpy", **options)(function)
        if keep and not config.DISABLE_JIT:  # else numba has returned the Python function
            try:
                made.enable_caching()
            except RuntimeError:  # no folder can be written, neither beside this file nor in the user's cache
                return made
            _survive_errors(made._cache)
        return made

    return wrap


def _survive_errors(cache: Any) -> None:
    """Have one of numba's caches warn where it would raise: in place of what it cannot read it gives nothing."""
    load, save = cache.load_overload, cache.save_overload

    def load_overload(signature: Any, context: Any) -> Any:
        with _one_warning(cache, "read"):
            return load(signature, context)
        with contextlib.suppress(Exception):
            cache.flush()  # else the index would be read again when the function is saved, with the same error
        return None

    def save_overload(signature: Any, compiled: Any) -> None:
        with _one_warning(cache, "written"):
            save(signature, compiled)

    cache.load_overload, cache.save_overload = load_overload, save_overload


_warned = False


@contextlib.contextmanager
def _one_warning(cache: Any, done: str) -> Iterator[None]:
    """Turn an error into a warning, if it is the first one in this process."""
    global _warned
    try:
        yield
    except Exception as error:  # whatever unpickling a damaged file comes to
        if not _warned:
            _warned = True
            warnings.warn(
                f"numba's disk cache in {cache.cache_path} cannot be {done} ({type(error).__name__}: {error}): kernels "
                "are compiled anew in this process",
                RuntimeWarning,
                stacklevel=2,
            )


def _closing_over(function: Any, value: str) -> Any:
    """Return a copy of a function whose closure has one more value, which the function never reads."""
    code = function.__code__
    code = code.replace(co_freevars=(*code.co_freevars, "sources"))
    closure = (*(function.__closure__ or ()), types.CellType(value))
    made = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__, closure)
    made.__module__, made.__qualname__, made.__doc__ = function.__module__, function.__qualname__, function.__doc__
    return made
