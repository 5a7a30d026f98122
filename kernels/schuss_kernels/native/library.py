"""What was compiled ahead of time: levels, kernels and their keys."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .. import rules
from ..lang import digest
from ..lang.rule import Rule
from ..plan.spec import Spec, Squares
from ..storage.dtypes import BY_NAME, storage_of

LEVEL = "SCHUSS_LEVEL"
"""Environment variable: the instruction-set level to run, in place of the best that this processor can."""


class Unavailable(RuntimeError):
    """There is no native engine here; the message says why and what to do about it."""


@dataclass(frozen=True)
class Library:
    """What was built: levels (and whether they run here), the one in use, and its kernels' addresses."""

    levels: tuple[tuple[str, bool], ...]
    level: str
    kernels: Mapping[str, int]


@functools.cache
def library() -> Library:
    """What the extension holds.

    Raises
    ------
    Unavailable
        When it was not built, or not for this processor.
    """
    try:
        from .. import _native
    except ImportError as error:
        raise Unavailable(_why_missing(error)) from None
    levels = tuple(_native.levels())
    run = [name for name, runs in levels if runs]
    wanted = os.environ.get(LEVEL)
    if wanted and wanted not in run:
        raise Unavailable(f"{LEVEL}={wanted!r}: expected one of {', '.join(run) or 'none'}, the levels that run here")
    if not run:
        built = ", ".join(name for name, _ in levels)
        raise Unavailable(f"the native extension was built for {built}, which this processor does not run: {_BUILD}")
    level = wanted or run[-1]
    return Library(levels, level, _native.kernels(level))


_BUILD = "to have it, install schuss again from its source where there are a C compiler and the headers of Python"


def _why_missing(error: ImportError) -> str:
    try:
        from .. import _native_missing
    except ImportError:
        return f"the native extension is missing ({error}): {_BUILD}"
    return f"the native extension is missing: {_native_missing.REASON}; {_BUILD}"


def available() -> str | None:
    """None where the native engine can run; else a sentence that says why not, and what to do about it."""
    try:
        library()
    except Unavailable as error:
        return str(error)
    return None


def key(rule: Rule, spec: Spec) -> str:
    """What a kernel is known by: the update, the source files it was compiled from, and how the values are stored.

    Rules that differ in their numbers alone share their update, and its kernels.
    """
    return f"{_name(rule, spec.measure)}@{_sources(rule)}|{spec.form}"


def _name(rule: Rule, measure: bool = False) -> str:
    """The function that the kernels of a rule run: its update, or its measure."""
    function = rule.measure if measure and rule.measure is not None else rule.update
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def _sources(rule: Rule) -> str:
    """Return the digest of the sources of a rule's kernels: an editable installation may have others by now."""
    family = sys.modules[rule.update.__module__].__file__
    return f"{digest.file(str(family))}{digest.sources()}"


def finish_key(rule: Rule) -> str:
    """The same for what a rule does between two passes."""
    assert rule.finish is not None
    family = f"{rule.finish.__module__.rpartition('.')[2]}.{rule.finish.__name__}"
    return f"{family}@{_sources(rule)}|finish|{','.join((*rule.Scalars._fields, *rule.Sums._fields))}"


def squares_key(wanted: Squares) -> str:
    """The same for a kernel that adds up squares."""
    return f"@{digest.sources()}|{wanted.form}"


def kernel(rule: Rule, spec: Spec) -> int | None:
    """The address of a kernel, None where it was not compiled ahead of time."""
    if not rules.is_built_in(rule):
        return None
    return library().kernels.get(key(rule, spec))


def finishes_alone(rule: Rule) -> bool:
    """Whether what is between a rule's passes can be compiled: its ``scalars`` wait for no running numbers."""
    return rule.measure is not None and rule.keeps_running


def finish(rule: Rule) -> int | None:
    """The address of a rule's compiled ``finish``, None where there is none."""
    if not finishes_alone(rule) or not rules.is_built_in(rule):
        return None
    return library().kernels.get(finish_key(rule))


def covers(rule: Rule, dtype: np.dtype) -> bool:
    """Whether there is a kernel for parameters, gradients and states of one dtype."""
    storage = storage_of(dtype)
    assert storage is not None, dtype
    state = BY_NAME[storage.compute.name]
    return kernel(rule, Spec(rule, storage, storage, (state,) * len(rule.State._fields))) is not None


def outdated() -> list[str]:
    """The rules whose kernels were compiled from other source files than those that are here now."""
    there = library().kernels
    return [
        name
        for name, rule in rules.COMPILED.items()
        if not any(known.startswith(f"{_name(rule)}@{_sources(rule)}|") for known in there)
    ]


def why_not(rule: Rule, spec: Spec) -> str:
    if not rules.is_built_in(rule):
        return f"rule {rule.name!r} is your own, and only the built-in ones are compiled ahead of time"
    if rule.name in outdated():
        return f"the kernels of rule {rule.name!r} were compiled from other source files; install schuss again"
    return (
        f"rule {rule.name!r} was not compiled ahead of time for {spec.parameter.dtype} parameters and "
        f"{spec.gradient.dtype} gradients"
    )
