"""A function with its constants in one float type."""

from __future__ import annotations

import dis
import functools
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

LIBRARIES = ("math", "cmath", "numpy", "operator", "builtins", "numba")
"""Modules that numba knows: their attributes are what they are everywhere, and are not looked into."""


@dataclass(frozen=True)
class ByType:
    """A constant or a helper that is another one in float32 than in float64."""

    single: Any
    double: Any

    def of(self, scalar_type: type) -> Any:
        """Return the one for a float type."""
        return self.single if scalar_type is np.float32 else self.double


class Elementary:
    """A function of numbers that gives the same bits in a rule, on every backend, and on numbers and arrays in Python.

    Parameters
    ----------
    scalar
        The function of one element: plain arithmetic, helpers, :class:`ByType` and primitives (:func:`primitive`).
        Kernels are compiled from it.

    Called with numbers or arrays of float32 or float64, it returns what NumPy's functions would return: an array, or a
    number of the same type. Python's own numbers are float64, beside an array they take its type.
    """

    def __init__(self, scalar: Callable[..., Any]) -> None:
        self.scalar = scalar
        functools.update_wrapper(self, scalar)
        self.__signature__ = inspect.signature(scalar)

    def __repr__(self) -> str:
        return f"<function {self.__name__}>"  # type: ignore[attr-defined]

    def __call__(self, *numbers: Any) -> Any:
        dtype = np.result_type(*numbers) if any(hasattr(number, "dtype") for number in numbers) else np.dtype(float)
        if dtype not in (np.float32, np.float64):
            name = self.__name__  # type: ignore[attr-defined]
            raise TypeError(f"{name}() takes numbers and arrays of float32 or float64; got {dtype}")
        scalar_type: Any = dtype.type
        function = on_arrays(self.scalar, scalar_type)
        with np.errstate(all="ignore"):
            made = function(*(np.asarray(number, dtype) for number in numbers))
        if made.ndim:
            return made
        return made[()] if any(hasattr(number, "dtype") for number in numbers) else float(made)


def primitive(function: Any) -> Any:
    """Mark a function that compilers have LLVM instructions for in place of its Python code, known by its name."""
    function.primitive = function.__name__
    return function


def specialize(function: Callable[..., Any], scalar_type: type, wrap: Callable[..., Any]) -> Any:
    """Copy a function and its helpers, each passed through ``wrap``, with all float constants as ``scalar_type``.

    Python's ``0.5`` is weak in numpy (``float32 * 0.5`` is float32) and a float64 to numba. This makes the compiled
    rule follow numpy: literals, and what globals, closures, tuples and attributes of modules hold of type float, become
    ``scalar_type``. The functions of this package are copied, and so compiled, once.
    """

    return (_specialize_once if is_own(function) else _specialize)(function, scalar_type, wrap)


def _specialize(function: Any, scalar_type: type, wrap: Callable[..., Any]) -> Any:
    def convert(value: Any, names: tuple[str, ...]) -> Any:
        if type(value) is float:
            return scalar_type(value)
        if isinstance(value, tuple):
            made = [convert(item, names) for item in value]
            return type(value)(*made) if hasattr(value, "_fields") else tuple(made)
        if isinstance(value, ByType):
            return convert(value.of(scalar_type), names)
        if isinstance(value, types.ModuleType) and value.__name__ not in LIBRARIES:
            if value not in modules:  # one may hold itself
                modules[value] = types.ModuleType(value.__name__)
                items = {name: convert(item, names) for name, item in attributes_of(value, names).items()}
                vars(modules[value]).update(items)
            return modules[value]
        function = python_function(value)
        return value if function is None else specialize(function, scalar_type, wrap)

    def in_type(code: types.CodeType) -> types.CodeType:
        constants = [in_type(c) if isinstance(c, types.CodeType) else convert(c, ()) for c in code.co_consts]
        return code.replace(co_consts=tuple(constants))

    modules: dict[types.ModuleType, types.ModuleType] = {}
    names = names_of(function.__code__)[1]
    scope = {name: convert(value, names) for name, value in globals_of(function).items()}
    scope["__builtins__"] = function.__globals__.get("__builtins__", __builtins__)
    scope["__name__"] = function.__globals__.get("__name__", "__main__")
    cells = tuple(types.CellType(convert(value, names)) for value in closure_of(function))
    made = types.FunctionType(in_type(function.__code__), scope, function.__name__, function.__defaults__, cells)
    made.__module__ = __name__  # numba's cache has to import it again; a rule's own module may not be importable
    made.__qualname__, made.__kwdefaults__ = function.__qualname__, function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    return wrap(made)


_specialize_once = functools.cache(_specialize)


@functools.cache
def on_arrays(function: Callable[..., Any], scalar_type: type) -> Callable[..., Any]:
    """Return a function of numbers for arrays of a numpy type: the same operations, on whole arrays."""

    made: Callable[..., Any] = specialize(function, scalar_type, _where_for_select)
    return made


def _where_for_select(made: Any) -> Any:
    return np.where if getattr(made, "primitive", "") == "select" else made


def python_function(value: Any) -> types.FunctionType | None:
    """Return the Python function that a helper is made of: its own, or what was decorated with ``njit``.

    None for what is no such function.
    """
    if isinstance(value, Elementary):
        value = value.scalar
    elif not isinstance(value, types.FunctionType | type):
        value = getattr(value, "py_func", None)
    return value if isinstance(value, types.FunctionType) else None


def is_own(function: Callable[..., Any]) -> bool:
    """Return whether a function is a named one of this package: the same wherever the files are the same."""
    return str(function.__module__).startswith(f"{__package__}.") and "<" not in function.__qualname__


@functools.lru_cache(1024)
def names_of(code: types.CodeType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the globals and of the attributes that a function and the functions within it read."""
    scope: dict[str, None] = {}
    attributes: dict[str, None] = {}
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            scope[instruction.argval] = None
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            attributes[instruction.argval] = None
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            more = names_of(inner)
            scope.update(dict.fromkeys(more[0]))
            attributes.update(dict.fromkeys(more[1]))
    return tuple(scope), tuple(attributes)


def globals_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the global variables that a function reads, and their values."""
    scope = function.__globals__
    return {name: scope[name] for name in names_of(function.__code__)[0] if name in scope}


def closure_of(function: Any) -> list[Any]:
    """Return the values that a function closes over."""
    return [cell.cell_contents for cell in function.__closure__ or ()]


def attributes_of(module: types.ModuleType, names: tuple[str, ...]) -> dict[str, Any]:
    """Return what a module has of the names of attributes in a function, which may be those of something else."""
    return {name: getattr(module, name) for name in names if hasattr(module, name)}
