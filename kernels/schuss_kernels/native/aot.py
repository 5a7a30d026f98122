"""Compiles the built-in rules ahead of time. Run by the build (``kernels/CMakeLists.txt``), never by a step.

    python -m schuss_kernels.native.aot tables host --output FOLDER    columns.h and kernels.c; prints the levels
    python -m schuss_kernels.native.aot objects x86-64-v3 --shard 1/2 --output 'kernels-{level}-1.o'

A kernel's object holds nothing but machine code: no call into Python, no allocation. It comes out of the same functions
that numba compiles at run time, for the processor of a level instead of the one at hand.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..lang import digest
from ..lang.rule import Rule
from ..plan import chunk_table, gradient_table, two_pass
from ..plan.spec import Spec, Squares, quantized_storages
from ..rules import COMPILED
from ..storage.dtypes import BF16, F16, F32, F64, STORAGES, Storage
from . import library as native_library

X86 = ("x86-64", "x86-64-v3", "x86-64-v4")
"""Levels of the x86-64 psABI, least demanding first; LLVM has processors of these names."""

_OPTIMISE_FOR = {"x86-64": "x86-64-v2"}
"""The processor whose costs LLVM's optimiser goes by, where it is not the level's own. For SSE2 alone these are a
Pentium III's, and would take vectors apart for their roots; the instructions stay those of the level."""

_FEATURES = {"x86-64-v4": "-prefer-256-bit"}
"""Vectors of 512 bits: up to 1.7 times as fast where the arrays lie in the processor's caches (measured, AdamW)."""

_NEEDS = {
    "x86-64-v3": ("avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"),
    "x86-64-v4": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
}


def levels(wanted: Sequence[str]) -> list[str]:
    """The levels that ``host``, ``all`` or names stand for, least demanding first.

    Raises
    ------
    ValueError
        For a name that this kind of processor does not have.
    """
    there = X86 if platform.machine().lower() in ("x86_64", "amd64") else ("generic",)
    if list(wanted) == ["all"]:
        return list(there)
    if list(wanted) == ["host"]:
        import llvmlite.binding as llvm

        features = llvm.get_host_cpu_features()
        best = there[0]
        for level in there[1:]:
            if not all(features.get(name) for name in _NEEDS[level]):
                break
            best = level
        return [best]
    for name in wanted:
        if name not in there:
            raise ValueError(f"SCHUSS_LEVELS: expected host, all, or some of {', '.join(there)}; got {name!r}")
    return [level for level in there if level in wanted]


CLASSIC = (
    "accumulate",
    "sgd",
    "sgd_momentum",
    "sgd_nesterov",
    "adagrad",
    "rmsprop",
    "rmsprop_momentum",
    "rmsprop_centered",
    "rmsprop_centered_momentum",
    "adam",
    "adam_amsgrad",
    "adamw",
    "adamw_amsgrad",
)
"""The rules that most people use: they are compiled for more than the others."""

PLAIN = (F32, F64)
"""Parameters, gradients and states of one of these are compiled for every rule, dense and strided."""

SIXTEEN = ((F32, F32, BF16), (BF16, BF16, F32), (BF16, BF16, BF16))
"""Parameter, gradient and states of the other dense kernels that every rule has."""

MORE_SIXTEEN = ((F32, BF16, F32), (F16, F16, F32))

RIDING: tuple[dict[str, Any], ...] = ({"zero": True}, {"ema": True})
"""What else dense float32 kernels do."""

MORE_RIDING: tuple[dict[str, Any], ...] = ({"zero": True, "ema": True, "copy": BF16},)

MORE_EIGHT = ((F32, F32, True), (BF16, BF16, False))
"""Parameter, gradient and rounding (at random or not) of dense kernels with states in 8 bits."""


def specs() -> list[tuple[Rule, Spec]]:
    """What is compiled: every rule for the storages that are most common, and those of :data:`CLASSIC` for more.

    Numba compiles the others when they come up. Every kernel takes a quarter of a second of the build.
    """
    made: dict[tuple[Rule, Spec], None] = {}
    for rule in COMPILED.values():
        for spec in (*_of_every_rule(rule), *(_of_a_classic(rule) if rule.name in CLASSIC else ())):
            made[rule, spec] = None
    return [*made, *dict.fromkeys((rule, spec.measuring()) for rule, spec in made if rule.measure is not None)]


def _of_every_rule(rule: Rule) -> Iterator[Spec]:
    for storage, strided in itertools.product(PLAIN, (False, True)):
        yield Spec(rule, storage, storage, _states(rule, storage), strided)
    for parameter, gradient, state in SIXTEEN:
        yield Spec(rule, parameter, gradient, _states(rule, state))
    yield Spec(rule, F32, F32, quantized_storages(rule))
    for riders in RIDING:
        yield Spec(rule, F32, F32, _states(rule, F32), **riders)


def _of_a_classic(rule: Rule) -> Iterator[Spec]:
    for parameter, gradient, strided in itertools.product(PLAIN, PLAIN, (False, True)):
        yield Spec(rule, parameter, gradient, _states(rule, parameter), strided)
    for parameter, gradient, state in MORE_SIXTEEN:
        yield Spec(rule, parameter, gradient, _states(rule, state))
    for parameter, gradient, stochastic in MORE_EIGHT:
        yield Spec(
            rule, parameter, gradient, quantized_storages(rule), stochastic=stochastic and rule.State._fields != ()
        )
    for riders in MORE_RIDING:
        yield Spec(rule, F32, F32, _states(rule, F32), **riders)
    for master in ("float32", "remainder"):
        yield Spec(rule, BF16, BF16, _states(rule, F32), master=master)
    yield Spec(rule, BF16, BF16, _states(rule, BF16), stochastic=True)


def _states(rule: Rule, storage: Storage) -> tuple[Storage, ...]:
    """States in a storage; those that are weights are kept as computed."""
    kept = storage if storage in PLAIN else F32
    return tuple(kept if field in rule.weights else storage for field in rule.State._fields)


def wanted() -> list[tuple[str, Callable[[Any], Any]]]:
    """Every kernel's key, and what compiles it when it is given the module :mod:`.cpu.compile`."""
    made: dict[str, Callable[[Any], Any]] = {}
    for rule, spec in specs():
        made.setdefault(native_library.key(rule, spec), partial(_compile_step, rule, spec))
    for rule in COMPILED.values():
        if native_library.finishes_alone(rule):
            made.setdefault(native_library.finish_key(rule), partial(_compile_finish, rule))
    for storage in STORAGES.values():
        for strided in (False, True):
            squares = Squares(storage, strided)
            made[native_library.squares_key(squares)] = partial(_compile_squares, squares)
    return list(made.items())


def _compile_step(rule: Rule, spec: Spec, compile: Any) -> Any:
    return compile.compiled(rule, spec)


def _compile_squares(squares: Squares, compile: Any) -> Any:
    return compile.compiled_squares(squares)


def _compile_finish(rule: Rule, compile: Any) -> Any:
    return compile.compiled_finish(rule)


def symbol(level: str, number: int) -> str:
    """The C name of kernel ``number`` of a level."""
    return f"schuss_{re.sub(r'[^a-z0-9]', '_', level)}_{number}"


def columns() -> str:
    """``columns.h``: the numbers of the tables' columns, so that they are written down once."""
    lines = [f'#define SOURCES "{digest.sources()}" /* of the Python files that this one goes with */']
    lines += [f"#define ROW_{name} {getattr(chunk_table, name)}" for name in ("KERNEL", "GRAD", "SQUARES", "MEASURE")]
    names = ("DESCR", "FORMAT", "NDIM", "LAYOUT", "DATA", "FIRST", "LAST", "ADVANCE", "LOW", "HIGH", "COLUMNS")
    lines += [f"#define EXPECTED_{name} {getattr(gradient_table, name)}" for name in names]
    between = ("FINISH", "INTO", "AHEAD", "STEP", "BLOCKS", "SUMS", "MEASURED", "FOLDED", "COLUMNS")
    lines += [f"#define TWO_PASS_{name} {getattr(two_pass, name)}" for name in between]
    lines += [
        f"#define PORTION_{name} {number}" for number, name in enumerate((*two_pass.COLUMNS_OF_PORTIONS, "COLUMNS"))
    ]
    return "\n".join(["/* The build writes this file from the Python modules that make the tables. */", *lines, ""])


def table(made: Sequence[str]) -> str:
    """``kernels.c``: where every kernel is."""
    keys = [key for key, _ in wanted()]
    symbols = {(level, number): symbol(level, number) for level in made for number in range(len(keys))}
    return "\n".join(
        [
            "/* The build writes this file. */",
            '#include "kernels.h"',
            "#include <stddef.h>",
            *(f"int {name}(void *, void **, int64_t);" for name in symbols.values()),
            f"const char *const LEVELS[] = {{{', '.join(_quoted(level) for level in made)}, NULL}};",
            "const schuss_entry KERNELS[] = {",
            *(f"    {{{_quoted(level)}, {_quoted(keys[n])}, {name}}}," for (level, n), name in symbols.items()),
            "};",
            f"const int KERNEL_COUNT = {len(symbols)};",
            "",
        ]
    )


def _quoted(text: str) -> str:
    assert not set(text) & set('"\\\n'), text
    return f'"{text}"'


def compile_objects(wanted_levels: Sequence[str], shard: int, shards: int) -> dict[str, bytes]:
    """For each level the object file with every ``shards``-th kernel, from number ``shard`` on.

    Numba's part of the work, most of it, is done once for all levels; LLVM's is done for each.

    Raises
    ------
    RuntimeError
        When a kernel needs more than machine code.
    """
    with tempfile.TemporaryDirectory() as cache:  # numba's own would be filled with another processor's kernels
        os.environ["NUMBA_CPU_NAME"], os.environ["NUMBA_CPU_FEATURES"] = _processor(wanted_levels[-1])
        os.environ["NUMBA_CACHE_DIR"] = cache
        return _compiled(wanted_levels, shard, shards)


def _processor(level: str) -> tuple[str, str]:
    """The processor that numba's LLVM optimises for, and its features."""
    return _OPTIMISE_FOR.get(level, level), _FEATURES.get(level, "")


def _compiled(wanted_levels: Sequence[str], shard: int, shards: int) -> dict[str, bytes]:
    from ..cpu import compile

    made = [_Level(name) for name in wanted_levels]
    with _kept_as_linked():
        for number, (key, compile_) in list(enumerate(wanted()))[shard::shards]:
            dispatcher, _ = compile_(compile)
            compiled = next(iter(dispatcher.overloads.values()))
            for level in made:
                level.add(compiled.library.linked, compiled.fndesc.llvm_func_name, number, key)
    return {level.name: level.object() for level in made}


@contextlib.contextmanager
def _kept_as_linked() -> Iterator[None]:
    """Have numba's libraries keep their LLVM code as it is before it is optimised for one processor: ``linked``."""
    from numba.core.codegen import CPUCodeLibrary

    optimise = CPUCodeLibrary._optimize_final_module

    def kept(library: Any) -> None:
        library.linked = str(library._final_module)
        optimise(library)

    CPUCodeLibrary._optimize_final_module = kept
    try:
        yield
    finally:
        CPUCodeLibrary._optimize_final_module = optimise


class _Level:
    """The kernels of one level, and what makes them."""

    def __init__(self, name: str) -> None:
        import llvmlite.binding as llvm
        from numba.core import codegen, config

        self.name = name
        config.CPU_NAME, config.CPU_FEATURES = _processor(name)
        self._codegen = codegen.JITCPUCodegen(f"schuss.{name}")
        self._machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=name, features=_FEATURES.get(name, ""), opt=3, reloc="pic", codemodel="small"
        )
        self._whole = llvm.parse_assembly("")

    def add(self, linked: str, kernel: str, number: int, key: str) -> None:
        """Optimise a kernel for this level, and put it beside the others."""
        import llvmlite.binding as llvm

        library = self._codegen.create_library(f"{self.name}.{number}")
        library._final_module = module = llvm.parse_assembly(linked)
        library._optimize_final_module()
        _keep_to_itself(module, kernel)
        called = outside_calls(self._machine.emit_assembly(module))
        if called:
            raise RuntimeError(f"the kernel {key} calls {', '.join(called)} and cannot be compiled ahead of time")
        function = module.get_function(kernel)
        function.name, function.visibility = symbol(self.name, number), "hidden"
        if not self._whole.triple:
            self._whole.triple, self._whole.data_layout = module.triple, module.data_layout
        self._whole.link_in(module)

    def object(self) -> bytes:
        """The object file."""
        made: bytes = self._machine.emit_object(self._whole)
        return made


def _keep_to_itself(module: Any, kernel: str) -> None:
    """Let no name but the kernel's be seen from outside."""
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != kernel:
            value.linkage = "internal"


def outside_calls(assembly: str) -> list[str]:
    """What machine code calls or jumps to, beside its own labels."""
    targets = re.findall(r"^\s+(?:callq?|jmpq?|bl|b)\s+(\S+)", assembly, re.MULTILINE)
    return sorted({target for target in targets if not re.match(r"\.?L", target)})


def main(argv: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    tables = commands.add_parser("tables", help="write columns.h and kernels.c")
    tables.add_argument("levels", nargs="+", help="host, all, or names of levels")
    tables.add_argument("--output", type=Path, required=True, help="folder to write to")
    objects = commands.add_parser("objects", help="compile kernels into object files, one a level")
    objects.add_argument("levels", nargs="+", help="names of levels, as the other command prints them")
    objects.add_argument("--shard", default="1/1", help="which part of the kernels: 1/4 to 4/4")
    objects.add_argument("--output", required=True, help="files to write, {level} in place of the level")
    given = parser.parse_args(argv)
    if given.command == "tables":
        try:
            made = levels(given.levels)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        (given.output / "columns.h").write_text(columns(), encoding="utf-8")
        (given.output / "kernels.c").write_text(table(made), encoding="utf-8")
        print(";".join(made))
    else:
        part, parts = map(int, given.shard.split("/"))
        for level, made_of_it in compile_objects(given.levels, part - 1, parts).items():
            Path(given.output.replace("{level}", level)).write_bytes(made_of_it)
    return 0


if __name__ == "__main__":
    sys.exit(main())
