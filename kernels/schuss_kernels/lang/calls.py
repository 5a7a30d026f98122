"""What the functions of a rule may call: only what gives the same bits on every backend."""

from __future__ import annotations

import dis
import math
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .specialize import Elementary, closure_of, is_own, python_function

PUBLIC = "schuss.elementary"
"""The module with the functions that rules may call beside those of Python."""

_EXACT: tuple[Any, ...] = (math.sqrt, math.fabs, math.isnan, math.isinf, math.isfinite)
_EXACT += (np.sqrt, np.absolute, np.fabs, np.isnan, np.isinf, np.isfinite)
_ALLOWED = {id(function) for function in (*_EXACT, abs, min, max, len)}

ALLOWED = (
    "It may use + - * /, comparisons, conditional expressions, abs, min, max, math.sqrt, the functions of "
    f"{PUBLIC}, and functions of your own that are made of these"
)

_SAME = ("exp", "log", "log1p", "tanh", "sin", "cos", "atan2", "copysign", "power")
_INSTEAD = {
    **{name: f"{PUBLIC}.{name}" for name in _SAME},
    "arctan2": f"{PUBLIC}.atan2",
    "pow": f"{PUBLIC}.power(x, y), or x * x for a square",
    "float_power": f"{PUBLIC}.power",
    "square": "x * x",
    "expit": f"{PUBLIC}.sigmoid",
    "cbrt": f"{PUBLIC}.cube_root, which takes numbers that are not below zero",
    "exp2": f"{PUBLIC}.power(2.0, x)",
    "log2": f"{PUBLIC}.log(x) times a constant",
    "log10": f"{PUBLIC}.log(x) times a constant",
    "atan": f"{PUBLIC}.atan2(x, 1.0)",
    "arctan": f"{PUBLIC}.atan2(x, 1.0)",
    "tan": f"{PUBLIC}.sin(x) / {PUBLIC}.cos(x)",
    "hypot": "math.sqrt(x * x + y * y)",
    **dict.fromkeys(("maximum", "fmax"), "max(x, y) or a conditional expression"),
    **dict.fromkeys(("minimum", "fmin"), "min(x, y) or a conditional expression"),
    **dict.fromkeys(("where", "clip", "sign", "heaviside"), "a conditional expression"),
}
"""Name of a function -> what to use instead."""


def complaint(function: Callable[..., Any]) -> str | None:
    """Return what is wrong with the calls of a rule's function and its helpers, as the rest of a sentence; or None."""
    return next(_complaints(function, "", set()), None)


def _complaints(function: Any, within: str, seen: set[types.CodeType]) -> Iterator[str]:
    scope = {**function.__globals__, **dict(zip(function.__code__.co_freevars, closure_of(function), strict=True))}
    for code in _codes(function.__code__):
        if code in seen:
            continue
        seen.add(code)
        for name, value in _read(code, scope):
            if name == "**":
                yield f"has the operator **{within}, which is rounded in many ways: use {_INSTEAD['pow']}. {ALLOWED}"
                continue
            helper = python_function(value)
            if isinstance(value, Elementary) or (helper is not None and is_own(helper)):
                continue
            if helper is not None:
                yield from _complaints(helper, f" in {helper.__name__}()", seen)
            elif callable(value) and not isinstance(value, type) and id(value) not in _ALLOWED:
                instead = _INSTEAD.get(getattr(value, "__name__", name))
                hint = f": use {instead}" if instead else ""
                yield f"calls {name}{within}, which does not give the same bits on every backend{hint}. {ALLOWED}"


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Yield the code of a function and of the functions within it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _codes(inner)


def _read(code: types.CodeType, scope: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names and values that code reads, attributes of modules by their whole name; and ``**``."""
    builtins = scope.get("__builtins__", {})
    known = {**(builtins if isinstance(builtins, dict) else vars(builtins)), **scope}
    name, value = "", None
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(value, types.ModuleType):
            name, value = f"{name}.{instruction.argval}", getattr(value, instruction.argval, None)
        elif instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF"):
            name, value = instruction.argval, known.get(instruction.argval)
        else:
            name, value = "", None
            if instruction.opname == "BINARY_OP" and instruction.argrepr.startswith("**"):
                yield "**", None
            continue
        if not isinstance(value, types.ModuleType):
            yield name, value
