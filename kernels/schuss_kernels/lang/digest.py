"""A digest of what decides how a function behaves."""

from __future__ import annotations

import types
from typing import Any

import numpy as np

from .specialize import globals_of


def feed(digest: Any, value: Any, seen: set[int]) -> None:
    """Hash what decides a function's behaviour: its code and the values it reaches, without addresses."""
    if isinstance(value, types.FunctionType):
        if id(value) in seen:
            return
        seen.add(id(value))
        feed(digest, value.__code__, seen)
        feed(digest, value.__defaults__, seen)
        for name, item in sorted(globals_of(value).items()):
            digest.update(name.encode())
            feed(digest, item, seen)
        for cell in value.__closure__ or ():
            feed(digest, cell.cell_contents, seen)
    elif isinstance(value, types.CodeType):
        digest.update(value.co_code)
        digest.update(repr((value.co_names, value.co_varnames, value.co_freevars)).encode())
        for item in value.co_consts:
            feed(digest, item, seen)
    elif isinstance(value, tuple) and type(value) is tuple:
        for item in value:
            feed(digest, item, seen)
    elif isinstance(value, type):
        digest.update(f"{value.__qualname__}{getattr(value, '_fields', '')}".encode())
    elif isinstance(value, (types.ModuleType, types.BuiltinFunctionType)):
        digest.update(value.__name__.encode())
    elif hasattr(value, "py_func"):
        feed(digest, value.py_func, seen)
    elif isinstance(value, (bool, int, float, str, bytes, type(None), np.generic)):
        digest.update(f"{type(value).__name__}{value!r}".encode())
    elif isinstance(value, np.ndarray):
        digest.update(f"{value.dtype.str}{value.shape}".encode())
        digest.update(value.tobytes())
    else:
        digest.update(type(value).__qualname__.encode())
