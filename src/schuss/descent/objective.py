"""A user's function and its derivative, called and checked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from schuss_kernels.storage.dtypes import storage_of


def point(x: Any, name: str) -> np.ndarray:
    """A new array of at least one axis: a float dtype that optimizers take stays, other numbers become float64.

    Raises
    ------
    TypeError, ValueError
        When these are no finite real numbers, or none at all.
    """
    try:
        array = np.array(x)
    except ValueError as error:
        raise ValueError(f"{name}: expected an array of numbers: {error}") from None
    if storage_of(array.dtype) is None:
        try:
            array = _real(array)
        except (TypeError, ValueError):
            raise TypeError(f"{name}: expected an array of real numbers, got {x!r}") from None
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one number, got shape {array.shape}")
    finite = np.isfinite(array)
    if not finite.all():
        place = np.unravel_index(int(finite.argmin()), array.shape)
        index = tuple(int(number) for number in place)
        raise ValueError(f"{name}: expected finite numbers, got {array[place]}{f' at index {index}' if index else ''}")
    return np.atleast_1d(array)


def quiet() -> np.errstate:
    """No warnings of what makes numbers that are not finite, for a caller that reports them.

    Where the user has set something else than NumPy's default, errors to be raised say, it stays.
    """
    kinds: Any = {kind: "ignore" for kind, what in np.geterr().items() if what == "warn" and kind != "under"}
    return np.errstate(**kinds)


class Objective:
    """``fun(x, *args)`` and its gradient, by ``jac(x, *args)`` or, where ``jac`` is True, ``fun`` itself.

    ``jac`` None: from differences. What overflows (OverflowError) counts as infinite. ``nfev`` and ``njev`` count.
    """

    def __init__(self, fun: Callable[..., Any], jac: Any, args: Any) -> None:
        if not callable(fun):
            raise TypeError(f"fun: expected a function, got {fun!r}")
        if not (callable(jac) or jac is None or isinstance(jac, bool)):
            raise TypeError(f"jac: expected a function, True where fun returns both, or None; got {jac!r}")
        self._fun, self._jac = fun, jac or None
        self._args = args if isinstance(args, tuple) else (args,)
        self.nfev = self.njev = 0

    def value(self, x: np.ndarray) -> float:
        """The function at a point. It gets a copy, which it may keep."""
        self.nfev += 1
        result = self._called(self._fun, x)
        return _number(self._both(result)[0] if self._jac is True else result)

    def at(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """The function and its gradient, of the shape and dtype of ``x``."""
        if self._jac is True:
            self.nfev += 1
            value, slopes = self._both(self._called(self._fun, x))
            value = _number(value)
        else:
            value = self.value(x)
            slopes = self._slopes(x)
        self.njev += 1
        return value, _gradient(slopes, x)

    def _slopes(self, x: np.ndarray) -> Any:
        if self._jac is not None:
            return self._called(self._jac, x)
        from .finite_differences import gradient

        return gradient(self.value, x)

    def _called(self, function: Callable[..., Any], x: np.ndarray) -> Any:
        try:
            return function(x.copy(), *self._args)
        except OverflowError:  # Python's floats raise where NumPy's are infinite
            return _Overflow

    def _both(self, result: Any) -> tuple[Any, Any]:
        if result is _Overflow:
            return result, result
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise TypeError(f"fun: expected a pair (value, gradient) from it, as jac=True says; got {result!r}")
        return result[0], result[1]


_Overflow: Any = object()


def _number(value: Any) -> float:
    if value is _Overflow:
        return np.inf
    array = _array("fun", "a number", value)
    if array.size != 1:
        raise ValueError(f"fun: expected a number, got an array of shape {array.shape}")
    return float(array.item())


def _gradient(slopes: Any, like: np.ndarray) -> np.ndarray:
    if slopes is _Overflow:
        return np.full(like.shape, np.inf, like.dtype)
    array = _array("jac", f"an array of shape {like.shape}", slopes)
    if array.size == like.size == 1:
        array = array.reshape(like.shape)
    if array.shape != like.shape:
        raise ValueError(f"jac: expected shape {like.shape}, that of x; got {array.shape}")
    with np.errstate(over="ignore"):
        return array.astype(like.dtype)


def _array(what: str, expected: str, value: Any) -> np.ndarray:
    try:
        return _real(np.asarray(value))
    except (TypeError, ValueError):
        raise TypeError(f"{what}: expected {expected}, got {value!r}") from None


def _real(array: np.ndarray) -> np.ndarray:
    """As float64; TypeError for what ``astype`` would take too: text, None, complex numbers, times."""
    if array.dtype.kind == "O":
        return np.array([float(value) for value in array.flat], np.float64).reshape(array.shape)
    if array.dtype.kind not in "biuf" and storage_of(array.dtype) is None:
        raise TypeError
    return array.astype(np.float64)
