"""The kernels that were compiled ahead of time: how they are found, and for which instruction-set levels they exist."""

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
from ..plan.spec import GradSquares, Spec
from ..storage.dtypes import BY_NAME, storage_of

LEVEL = "SCHUSS_LEVEL"
"""Environment variable that names the instruction-set level to run. Default: the best that the processor runs."""


class Unavailable(RuntimeError):
    """The native engine cannot be used. The message says why, and what to do about it."""


class WrongLevel(Unavailable):
    """SCHUSS_LEVEL names a level that was not built or does not run here."""


@dataclass(frozen=True)
class Library:
    """The kernels in the C extension.

    ``levels``: the levels that were built, least demanding first, and whether each runs on this processor. ``level``:
    the level in use. ``kernels``: key -> address of each of its kernels.
    """

    levels: tuple[tuple[str, bool], ...]
    level: str
    kernels: Mapping[str, int]


@functools.cache
def library() -> Library:
    """Load the C extension and return what it holds.

    Raises
    ------
    Unavailable
        When the extension was not built, or for no level that runs here.
    WrongLevel
        When SCHUSS_LEVEL names a level that was not built or does not run here.
    """
    try:
        from .. import _native
    except ImportError as error:
        raise Unavailable(_why_missing(error)) from None
    levels = tuple(_native.levels())
    run = [name for name, runs in levels if runs]
    wanted = os.environ.get(LEVEL)
    if wanted and wanted not in run:
        raise WrongLevel(f"{LEVEL}={wanted!r}: expected one of {', '.join(run) or 'none'}, the levels that run here")
    if not run:
        built = ", ".join(name for name, _ in levels)
        raise Unavailable(f"the native extension was built for {built}, which this processor does not run: {_BUILD}")
    level = wanted or run[-1]
    return Library(levels, level, _native.kernels(level))


_BUILD = "to have it, install schuss again from its source where there are a C compiler and the headers of Python"


def _why_missing(error: ImportError) -> str:
    """Return the sentence that says why the C extension is missing."""
    try:
        from .. import _native_missing
    except ImportError:
        return f"the native extension is missing ({error}): {_BUILD}"
    return f"the native extension is missing: {_native_missing.REASON}; {_BUILD}"


def available() -> str | None:
    """Return None where the native engine can run, else a sentence that says why not, and what to do about it."""
    try:
        library()
    except Unavailable as error:
        return str(error)
    return None


def key(rule: Rule, spec: Spec) -> str:
    """Return a kernel's key: the rule's function, the digest of the source files, and the form of the spec.

    Rules that have the same function share its kernels.
    """
    return f"{function_name(rule, spec.measure)}@{_sources(rule)}|{spec.form}"


def function_name(rule: Rule, measure: bool = False) -> str:
    """Return the name of the function that a rule's kernels compute, with its module: its update, or its measure."""
    function = rule.measure if measure and rule.measure is not None else rule.update
    return f"{function.__module__.rpartition('.')[2]}.{function.__name__}"


def _sources(rule: Rule) -> str:
    """Return the digest of a rule's file and the package's sources: they may have changed since the build."""
    family = sys.modules[rule.update.__module__].__file__
    return f"{digest.file(str(family))}{digest.sources()}"


def finish_key(rule: Rule) -> str:
    """Return the key of the kernel that calls a rule's ``finish``."""
    assert rule.finish is not None
    family = f"{rule.finish.__module__.rpartition('.')[2]}.{rule.finish.__name__}"
    return f"{family}@{_sources(rule)}|finish|{','.join((*rule.Scalars._fields, *rule.Sums._fields))}"


def grad_squares_key(wanted: GradSquares) -> str:
    """Return the key of a kernel that adds up the squares of a gradient."""
    return f"@{digest.sources()}|{wanted.form}"


def kernel(rule: Rule, spec: Spec) -> int | None:
    """Return the address of the kernel of a spec; None where it was not compiled ahead of time."""
    if not rules.is_built_in(rule):
        return None
    return library().kernels.get(key(rule, spec))


def can_compile_finish(rule: Rule) -> bool:
    """Return whether a rule's ``finish`` can run without Python: its ``scalars`` need no running numbers."""
    return rule.measure is not None and rule.keeps_running


def finish(rule: Rule) -> int | None:
    """Return the address of a rule's compiled ``finish``; None where there is none."""
    if not can_compile_finish(rule) or not rules.is_built_in(rule):
        return None
    return library().kernels.get(finish_key(rule))


def covers(rule: Rule, dtype: np.dtype) -> bool:
    """Return whether a rule has a kernel for parameters and gradients of ``dtype``, its states in the compute dtype."""
    storage = storage_of(dtype)
    assert storage is not None, dtype
    state = BY_NAME[storage.compute.name]
    return kernel(rule, Spec(rule, storage, storage, (state,) * len(rule.State._fields))) is not None


def outdated() -> list[str]:
    """Return the names of the rules whose kernels were compiled from other source files than the present ones."""
    return [name for name, rule in rules.COMPILED.items() if _is_outdated(rule)]


def _is_outdated(rule: Rule) -> bool:
    start = f"{function_name(rule)}@{_sources(rule)}|"
    return not any(key.startswith(start) for key in library().kernels)


def missing_kernel_reason(rule: Rule, spec: Spec) -> str:
    """Return why the kernel of a spec was not compiled ahead of time, as a part of an error message."""
    if not rules.is_built_in(rule):
        return f"rule {rule.name!r} is your own, and only the built-in ones are compiled ahead of time"
    if _is_outdated(rule):
        return f"the kernels of rule {rule.name!r} were compiled from other source files; install schuss again"
    return f"rule {rule.name!r} was not compiled ahead of time for {_combination(spec)}"


def _combination(spec: Spec) -> str:
    """Return what a kernel is for, in the words of the options."""
    states = {"8-bit" if storage.is_quantized else f"{storage.dtype}" for storage in spec.states}
    arrays = [f"{spec.parameter.dtype} parameters", f"{spec.gradient.dtype} gradients"]
    arrays += [f"{' and '.join(sorted(states))} states"] if states else []
    asked = {
        "parameters or gradients with gaps or in another order": spec.strided,
        f"master={spec.master!r}": spec.master,
        "stochastic rounding": spec.stochastic,
        "clip_value": spec.clip,
        "zero_grad": spec.zero,
        "ema": spec.ema,
        f"copy_to {spec.copy.dtype}" if spec.copy else "": spec.copy,
        "Lookahead": spec.lookahead,
    }
    riders = [name for name, there in asked.items() if there]
    return _listed(arrays) + (f", with {_listed(riders)}" if riders else "")


def _listed(words: list[str]) -> str:
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
