"""The native engine: kernels compiled ahead of time, launched by a C extension. No numba, no compiler, no wait.

``ahead.py`` compiles the kernels when the package is built, from the same rules; ``native/`` holds the C sources.
"""

from __future__ import annotations

import functools
import os
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import rules
from ..engine.host import HostEngine
from ..engine.plan_engine import RIDERS, Floats, Origin, Tensor
from ..lang.rule import Rule
from ..plan import chunk_table, two_pass
from ..plan.two_pass import Turns
from ..storage.dtypes import BY_NAME, Spec, Squares, storage_of

LEVEL = "SCHUSS_LEVEL"
"""Environment variable: the instruction-set level to run, in place of the best that this processor can."""

_MADE_FROM = (
    "lang/rule.py",
    "lang/scalar_math.py",
    "storage/dtypes.py",
    "storage/quantization.py",
    "plan/chunk_table.py",
    "plan/two_pass.py",
    "engine/plan_engine.py",
    "lowering/conversions.py",
    "storage/stochastic_rounding.py",
    "lowering/element.py",
    "cpu/intrinsics.py",
    "cpu/finish.py",
    "cpu/compile.py",
)


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
    """Tells kernels from those of an older source tree, as an editable installation may have them."""
    family = sys.modules[rule.update.__module__].__file__
    return f"{_checksum(str(family)):08x}{_engine_checksum():08x}"


@functools.cache
def _checksum(path: str) -> int:
    with open(path, "rb") as file:
        return zlib.crc32(file.read())


@functools.cache
def _engine_checksum() -> int:
    folder = os.path.dirname(os.path.dirname(__file__))
    return zlib.crc32(b"".join(b"%08x" % _checksum(os.path.join(folder, name)) for name in _MADE_FROM))


def finish_key(rule: Rule) -> str:
    """The same for what a rule does between two passes."""
    assert rule.finish is not None
    family = f"{rule.finish.__module__.rpartition('.')[2]}.{rule.finish.__name__}"
    return f"{family}@{_sources(rule)}|finish|{','.join((*rule.Scalars._fields, *rule.Sums._fields))}"


def squares_key(wanted: Squares) -> str:
    """The same for a kernel that adds up squares."""
    return f"@{_engine_checksum():08x}|{wanted.form}"


def kernel(rule: Rule, spec: Spec) -> int | None:
    """The address of a kernel, None where it was not compiled ahead of time."""
    if not rules.is_built_in(rule):
        return None
    return library().kernels.get(key(rule, spec))


def finishes_alone(rule: Rule) -> bool:
    """Whether what is between a rule's passes can be compiled: its ``scalars`` wait for no running numbers."""
    return rule.measure is not None and rule.hands_on


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


def _why_not(rule: Rule, spec: Spec) -> str:
    if not rules.is_built_in(rule):
        return f"rule {rule.name!r} is your own, and only the built-in ones are compiled ahead of time"
    if rule.name in outdated():
        return f"the kernels of rule {rule.name!r} were compiled from other source files; install schuss again"
    return (
        f"rule {rule.name!r} was not compiled ahead of time for {spec.parameter.dtype} parameters and "
        f"{spec.gradient.dtype} gradients"
    )


class NativeEngine(HostEngine):
    """Kernels compiled ahead of time, and the launcher in C.

    ``strict``: a kernel that was not compiled ahead of time is an error; else numba compiles it.
    """

    name = "native"

    def __init__(
        self,
        tensors: Sequence[Tensor],
        clock: np.ndarray | None = None,
        threads: int | None = None,
        strict: bool = False,
    ) -> None:
        self._strict = strict
        super().__init__(tensors, clock, threads)

    def portions(self) -> list[int]:
        measured = [tensor.rule for tensor in self.tensors if tensor.rule.measure is not None]
        found = {rule: finish(rule) for rule in measured}
        self._finishers = {rule: address for rule, address in found.items() if address is not None}
        if not found or len(self._finishers) < len(found):
            return []
        whole = any(rule.over == "all" for rule in measured)
        sizes = [tensor.held() for tensor in self.tensors]
        return [0, len(sizes)] if whole else two_pass.portions(sizes)

    def kernel(self, rule: Rule, spec: Spec) -> int:
        address = kernel(rule, spec)
        if address is not None:
            return address
        if self._strict:
            raise Unavailable(f"backend='native': {_why_not(rule, spec)}; use backend='auto' or 'numba'")
        from ..cpu import compile

        return compile.kernel(rule, spec)

    def ready(self) -> None:
        from .. import _native

        self.turns, portions = self._turns()
        self._plan = _native.Plan(
            rows=self.plan.rows,
            spans=self.plan.spans,
            expected=self.expected.table,
            layouts=self.expected.layouts,
            intervals=self.expected.intervals,
            numbers32=self.scalars.arrays[np.dtype(np.float32)],
            numbers64=self.scalars.arrays[np.dtype(np.float64)],
            clock=self.clock,
            turns=self.turns.rows if self.turns else np.zeros((0, two_pass.COLUMNS), np.int64),
            portions=portions,
            elements=self.plan.elements,
            threads=self.workers,
            fixed=self.zero,
            array_type=np.ndarray,
            memmap_type=np.memmap,
        )

    def prepare(
        self, slots: list[int], kinds: Sequence[np.dtype], riders: Floats, scalars: Floats, origin: Origin
    ) -> None:
        self._plan.scalars(slots, riders, scalars)

    def _turns(self) -> tuple[Turns | None, np.ndarray]:
        """What is between two passes, and the portions they are made in."""
        firsts, stops = self.first_of_portion, self.stops
        if not firsts:
            return None, np.zeros((0, len(two_pass.COLUMNS_OF_PORTIONS)), np.int64)
        slots, (single, double) = range(len(self.tensors)), (np.dtype(np.float32), np.dtype(np.float64))
        rules_ = [tensor.rule for tensor in self.tensors]
        made = Turns(
            [self._finishers.get(rule, 0) for rule in rules_],
            [rule.measure is not None and rule.over == "all" for rule in rules_],
            max(self.plan.sum_counts),
            max(len(getattr(rule.running, "_fields", ())) for rule in rules_),
        )
        tensors = made.rows[: len(slots)]
        tensors[:, two_pass.BLOCKS] = [-(-tensor.parameter.size // chunk_table.BLOCK) for tensor in self.tensors]
        tensors[:, two_pass.SUMS] = self.plan.sum_counts
        tensors[:, two_pass.MEASURED] = int(self.plan.measured.ctypes.data) + self.plan.first_sum[:-1] * 8
        tensors[:, two_pass.SCALARS] = [self.scalars_address(slot, double) + RIDERS * 8 for slot in slots]
        tensors[:, two_pass.SINGLES] = [self.scalars_address(slot, single) + RIDERS * 4 for slot in slots]
        elements = np.concatenate(([0], np.cumsum([tensor.parameter.size for tensor in self.tensors])))[firsts]
        threads = [self.workers if size >= self.serial_below else 1 for size in np.diff(elements)]
        return made, np.column_stack([stops[:-1], stops[1:], firsts[:-1], firsts[1:], threads]).astype(np.int64)

    def turn(self) -> None:
        self._plan.turn(self.workers > 1 and _team_at_work())

    def try_step(self, gradients: list[Any]) -> bool:
        return self._plan.step(gradients, self.workers > 1 and _team_at_work())

    def try_place(self, gradients: list[Any]) -> bool:
        return self._plan.place(tuple(gradients))

    def launch(self) -> None:
        self._plan.run(self.workers > 1 and _team_at_work())

    def add_squares(self) -> None:
        self._plan.look(self.workers > 1 and _team_at_work())

    def add_measures(self) -> None:
        self._plan.measure(self.workers > 1 and _team_at_work())

    def fold(self) -> list[tuple[float, ...]]:
        from .. import _native

        return _native.folded(self.plan.measured, self.plan.first_sum, self.plan.sum_counts)

    def squares_kernel(self, wanted: Squares) -> int:
        address = library().kernels.get(squares_key(wanted))
        if address is not None:
            return address
        from ..cpu import compile

        return compile.squares_kernel(wanted)


def _team_at_work() -> bool:
    """Whether another library has an OpenMP team in this process whose threads should do the work."""
    return "torch" in sys.modules or "numba.np.ufunc.omppool" in sys.modules
