"""A function with its constants in one float type."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any


def specialize(function: Callable[..., Any], scalar_type: type, wrap: Callable[..., Any]) -> Any:
    """Copy a function and its helpers, each passed through ``wrap``, with all float constants as ``scalar_type``.

    Python's ``0.5`` is weak in numpy (``float32 * 0.5`` is float32) and a float64 to numba. This makes the compiled
    rule follow numpy: literals, globals and closure values of type float become ``scalar_type``.
    """

    def convert(value: Any) -> Any:
        if type(value) is float:
            return scalar_type(value)
        return specialize(value, scalar_type, wrap) if isinstance(value, types.FunctionType) else value

    code = function.__code__
    code = code.replace(co_consts=tuple(scalar_type(c) if type(c) is float else c for c in code.co_consts))
    scope = {name: convert(value) for name, value in globals_of(function).items()}
    scope["__builtins__"] = function.__globals__.get("__builtins__", __builtins__)
    scope["__name__"] = function.__globals__.get("__name__", "__main__")
    cells = tuple(types.CellType(convert(cell.cell_contents)) for cell in function.__closure__ or ())
    made = types.FunctionType(code, scope, function.__name__, function.__defaults__, cells)
    made.__module__ = __name__  # numba's cache has to import it again; a rule's own module may not be importable
    made.__qualname__ = function.__qualname__
    return wrap(made)


def globals_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the global variables that a function names, and their values."""
    scope, names = function.__globals__, function.__code__.co_names
    return {name: scope[name] for name in names if name in scope}
