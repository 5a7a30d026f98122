"""Digests of what compiled code depends on: the source files of the package, and the functions of a rule."""

from __future__ import annotations

import functools
import os
import types
import zlib
from typing import Any

import numpy as np

from .specialize import globals_of

COMPILED_FROM = ("lang", "storage", "plan", "lowering", "cpu")
"""The folders whose source files decide what a CPU kernel, the launcher and the tables they read look like."""


@functools.cache
def sources() -> str:
    """Return the digest of all source files that code for the CPU is compiled from, 16 hexadecimal digits.

    Everything that is compiled and kept beyond this process (numba's disk cache, the native extension) is known by it,
    so that no code runs on tables laid out by other sources. Whole folders: a list of files would be forgotten.
    """
    root = os.path.dirname(os.path.dirname(__file__))
    paths = (
        os.path.join(root, folder, name)
        for folder in COMPILED_FROM
        for name in sorted(os.listdir(os.path.join(root, folder)))
        if name.endswith(".py")
    )
    one, other = 0, 1
    for path in paths:  # two checksums that come with Python and take microseconds; hashlib takes longer to import
        text = source(path)
        one, other = zlib.crc32(text, one), zlib.adler32(text, other)
    return f"{one:08x}{other:08x}"


def source(path: str) -> bytes:
    """Return the content of a source file, after its name."""
    with open(path, "rb") as file:
        return os.path.basename(path).encode() + file.read()


@functools.cache
def file(path: str) -> str:
    """Return the digest of one source file, 8 hexadecimal digits."""
    return f"{zlib.crc32(source(path)):08x}"


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
