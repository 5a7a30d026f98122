"""Errors about rules that do not compile, or compute in float64: said in terms of the rule, not of numba."""

from __future__ import annotations

import contextlib
import linecache
import re
from collections.abc import Iterator
from typing import Any

from numba import types

from ..lang import calls
from ..lang.rule import Rule, RuleError
from ..plan.spec import Spec
from .rule_types import compiled_measure, compiled_update, number_type, tuple_type

_LITERALS = (
    "Integer literals do it (`2 * g`: write `2.0 * g`), and so do numpy.float64 constants, float() and int(). Numbers "
    "that depend on the hyper-parameters belong in Scalars."
)


@contextlib.contextmanager
def explain_compile_errors(rule: Rule, spec: Spec) -> Iterator[None]:
    """Turn numba's error about a kernel into one about the rule's update.

    What the machine does not give (memory, files) is no mistake of a rule: such errors stay what they are.
    """
    try:
        yield
    except (RuleError, OSError, MemoryError):
        raise
    except Exception as error:  # numba wraps what goes wrong inside a rule in errors of many kinds
        update_compiles(rule, spec)
        if spec.measure:
            measure_compiles(rule, spec)
        raise RuleError(f"rule {rule.name!r}: numba cannot compile its kernel: {_reason(error)}") from error


def _compile_alone(function: Any, part: str, rule: Rule, spec: Spec) -> Any:
    """Compile a rule's ``update`` or ``measure`` by itself, for one element; return what numba made of it.

    Raises
    ------
    RuleError
        When it does not compile. ``part`` names the function.
    """
    number = number_type(spec)
    signature = (number, number, tuple_type(rule.State, spec), tuple_type(rule.Scalars, spec))
    try:
        function.compile(signature)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise RuleError(f"rule {rule.name!r}: numba cannot compile {part}(): {_reason(error)}") from error
    return function.overloads[signature]


def update_compiles(rule: Rule, spec: Spec) -> None:
    """Raise a :class:`RuleError` where the update alone does not compile or returns something else than it should."""
    number = number_type(spec)
    compiled = _compile_alone(compiled_update(spec, rule), "update", rule, spec)
    result = compiled.signature.return_type
    states = rule.State._fields
    expected = f"(p, {rule.State.__name__}({', '.join(states)}))"
    if not isinstance(result, types.BaseTuple) or len(result) != 2:
        raise RuleError(f"rule {rule.name!r}: update() must return {expected}; it returns {_described(result)}")
    parameter, state = tuple(result)
    if not isinstance(state, types.BaseTuple) or len(state) != len(states):
        raise RuleError(
            f"rule {rule.name!r}: update() must return {expected}, {len(states)} state value(s); it returns "
            f"{_described(state)} as the state"
        )
    named = {"p": parameter, **dict(zip(states, state, strict=True))}
    wrong = {name: type_ for name, type_ in named.items() if type_ != number}
    if types.float64 in wrong.values():
        where = _first_float64(compiled)
        raise RuleError(
            f"rule {rule.name!r}: update() slips into float64: for {number} parameters it returns "
            f"{', '.join(name for name in wrong)} as float64{where}. {_LITERALS}"
        )
    if wrong:
        raise RuleError(
            f"rule {rule.name!r}: update() must return numbers of type {number}; it returns {_by_name(wrong)}"
        )


def measure_compiles(rule: Rule, spec: Spec) -> None:
    """Raise a :class:`RuleError` where the measure does not compile or returns something else than it should."""
    number = number_type(spec)
    result = _compile_alone(compiled_measure(spec, rule), "measure", rule, spec).signature.return_type
    sums = rule.Sums._fields
    if not isinstance(result, types.BaseTuple) or len(result) != len(sums):
        expected = f"{rule.Sums.__name__}({', '.join(sums)})"
        raise RuleError(f"rule {rule.name!r}: measure() must return {expected}; it returns {_described(result)}")
    wrong = {name: type_ for name, type_ in zip(sums, result, strict=True) if type_ != number}
    if wrong:
        raise RuleError(
            f"rule {rule.name!r}: measure() must return numbers of type {number}; it returns {_by_name(wrong)}. "
            f"{_LITERALS}"
        )


def kernel_is_plain(rule: Rule, spec: Spec, library: Any) -> None:
    """Raise a :class:`RuleError` where a kernel calls Python, allocates, or computes in float64 though all it stores is
    float32 or less."""
    update_compiles(rule, spec)
    if spec.measure:
        measure_compiles(rule, spec)
    code = library.get_llvm_str()
    if re.search(r"^declare .*@(?:NRT_|Py|numba_)", code, re.MULTILINE):
        raise RuleError(f"rule {rule.name!r}: update() needs memory or objects of its own. {calls.ALLOWED}")
    if only_float32(spec) and re.search(r"\bdouble\b", code):
        raise float64_error(rule, spec)


def only_float32(spec: Spec) -> bool:
    """Return whether a kernel must not compute in float64: it stores nothing wider than float32, and sums nothing."""
    return not spec.measure and max(stream.storage.itemsize for stream in spec.streams) <= 4


def float64_error(rule: Rule, spec: Spec) -> RuleError:
    """Make the error for an update that returns the right types, but computes in float64 on the way."""
    update_compiles(rule, spec)
    result = next(iter(compiled_update(spec, rule).overloads.values()))
    return RuleError(f"rule {rule.name!r}: update() slips into float64 on the way{_first_float64(result)}. {_LITERALS}")


def _first_float64(result: Any) -> str:
    """Where in the source the first float64 value comes up, as far as numba tells."""
    annotation = result.type_annotation
    for _, block in sorted(annotation.blocks.items()):
        for statement in block.body:
            target = getattr(statement, "target", None)
            if target is not None and annotation.typemap.get(target.name) == types.float64:
                line = linecache.getline(statement.loc.filename, statement.loc.line).strip()
                said = f": `{line}`" if line else ""
                return f", first in line {statement.loc.line} of {statement.loc.filename}{said}"
    return ""


def _reason(error: BaseException) -> str:
    """The part of a numba error that a person needs: its last complaint and the line it is about."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    place = re.findall(r'File "([^"]+)", line (\d+)', text)
    lines = [line.strip() for line in text.splitlines()]
    noise = ("Failed in", "During:", "File ", "Rejected as", "raised from", "There are", "- ", "<source", "def ", "^")
    useful = [line for line in lines if line and not line.startswith(noise)]
    reason = useful[0] if useful else type(error).__name__
    if reason.endswith(":") and len(useful) > 1:  # as in "found for signature:"
        reason = f"{reason} {useful[1].lstrip('> ')}"
    return f"{reason} (line {place[-1][1]} of {place[-1][0]})" if place else reason


def _by_name(types_by_name: dict[str, Any]) -> str:
    return ", ".join(f"{name} as {_described(type_)}" for name, type_ in types_by_name.items())


def _described(type_: Any) -> str:
    if isinstance(type_, types.BaseTuple):
        return f"a tuple of {len(type_)}"
    return "None" if type_ == types.none else str(type_)
