"""Digests of what compiled code depends on: the source files of the package, and the functions of a rule."""

from __future__ import annotations

import enum
import functools
import os
import types
import zlib
from typing import Any

import numpy as np

from .specialize import LIBRARIES, ByType, attributes_of, closure_of, globals_of, is_own, names_of, python_function

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


class Undigestible(Exception):
    """Something that a function reads, of which another process cannot tell whether it is the same."""


_PASSING = "only-now-"


def of(*functions: Any, fields: Any = ()) -> str:
    """Return the digest of what a rule's functions do: the same in every process, another one once they do otherwise.

    ``fields``: names that belong to it, in tuples.

    Where a function reads something that is :class:`Undigestible`, no other process gets the same digest, and
    :func:`is_lasting` is False of a key with it.
    """
    import hashlib  # here: it is slow to import, and a step on kernels that are there needs no digest

    made = hashlib.sha256(repr(fields).encode())
    try:
        for function in functions:
            _feed(made, function, (), {})
    except Undigestible:
        return f"{_PASSING}{os.urandom(8).hex()}"
    return made.hexdigest()[:16]


def is_lasting(key: str) -> bool:
    """Return whether code may be kept for other processes under a key that has a digest, or none."""
    return f"@{_PASSING}" not in key


def _feed(made: Any, value: Any, names: tuple[str, ...], seen: dict[int, Any]) -> None:
    """Hash what decides a function's behaviour: its code and the values it reads, without addresses.

    ``names``: the attributes that the function around it reads. ``seen``: functions and modules by address, so that
    each is hashed once.
    """

    def text(*parts: Any) -> None:
        made.update(repr(parts).encode())

    def feed(*values: Any) -> None:
        for item in values:
            _feed(made, item, names, seen)

    function = python_function(value)
    if function is not None or isinstance(value, types.ModuleType):
        if id(function or value) in seen:
            return
        seen[id(function or value)] = value
    if function is not None and is_own(function):
        text(function.__module__, function.__qualname__)  # sources() says the rest
    elif function is not None:
        _feed_function(made, function, seen)
    elif isinstance(value, types.CodeType):
        text(value.co_code, value.co_names, value.co_varnames, value.co_freevars)
        feed(*value.co_consts)
    elif isinstance(value, types.ModuleType):
        text("module", value.__name__)
        if value.__name__ not in LIBRARIES:
            for name, item in sorted(attributes_of(value, names).items()):
                text(name)
                feed(item)
    elif isinstance(value, ByType):
        feed(value.single, value.double)
    elif isinstance(value, enum.Enum):
        text(type(value).__qualname__, value.name)
        feed(value.value)
    elif isinstance(value, tuple):
        text(type(value).__name__, getattr(value, "_fields", ()), len(value))
        feed(*value)
    elif isinstance(value, frozenset):
        feed(*sorted(value, key=repr))
    elif isinstance(value, type):
        _feed_type(made, value, feed)
    elif isinstance(value, (types.BuiltinFunctionType, np.ufunc)):
        text("function", getattr(value, "__module__", ""), value.__name__)
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        text(value.dtype.str, value.shape)
        made.update(value.tobytes())
    elif isinstance(value, _PLAIN) or type(value).__module__.startswith("numba.core.types"):
        text(type(value).__name__, value)
    else:
        raise Undigestible(repr(value))


_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...), slice, np.generic, np.dtype)
"""Types of values that their ``repr`` says everything about."""


def _feed_function(made: Any, function: types.FunctionType, seen: dict[int, Any]) -> None:
    names = names_of(function.__code__)[1]
    for value in (function.__code__, function.__defaults__, *sorted((function.__kwdefaults__ or {}).items())):
        _feed(made, value, names, seen)
    for name, value in sorted(globals_of(function).items()):
        made.update(name.encode())
        _feed(made, value, names, seen)
    for value in closure_of(function):
        _feed(made, value, names, seen)


def _feed_type(made: Any, value: type, feed: Any) -> None:
    made.update(repr((value.__qualname__, getattr(value, "_fields", ()))).encode())
    if issubclass(value, enum.Enum):
        feed(*value)
    elif hasattr(value, "_fields"):
        feed(*sorted(value._field_defaults.items()))  # type: ignore[attr-defined]
    elif value.__module__ not in ("builtins", "numpy"):
        raise Undigestible(repr(value))
