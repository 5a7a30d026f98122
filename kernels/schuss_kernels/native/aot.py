"""Compile the kernels of the built-in rules ahead of time. The build (``kernels/CMakeLists.txt``) runs this command:

    python -m schuss_kernels.native.aot tables host --output FOLDER    columns.h and kernels.c; prints the levels
    python -m schuss_kernels.native.aot objects x86-64-v3 --shard 1/2 --output 'kernels-{level}-1.o'

A *level* is an instruction-set level, such as x86-64-v3. A kernel comes from the same functions that numba compiles at
run time, for a level's processor in place of the present one. Its object file holds nothing but machine code: it calls
no function outside itself.
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
from ..plan.spec import GradSquares, Spec, quantized_storages
from ..rules import COMPILED
from ..storage.dtypes import BF16, F16, F32, F64, STORAGES, Storage
from . import library as native_library

X86 = ("x86-64", "x86-64-v3", "x86-64-v4")
"""Levels of the x86-64 psABI, least demanding first. LLVM has processors of these names."""

_OPTIMISE_FOR = {"x86-64": "x86-64-v2"}
"""Level -> the processor whose instruction costs LLVM's optimiser uses, where it is not the level's own. For x86-64
these would be a Pentium III's: LLVM would compute a vector's square roots one by one. Instructions stay the level's."""

_FEATURES = {"x86-64-v4": "-prefer-256-bit"}
"""Level -> LLVM features. Vectors of 512 bits are up to 1.7 times as fast where the arrays lie in the caches (measured
with AdamW)."""

_NEEDS = {
    "x86-64-v3": ("avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"),
    "x86-64-v4": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
}
"""Level -> the processor features that it needs besides those of the levels below it."""


def levels(wanted: Sequence[str]) -> list[str]:
    """Return the levels that ``host``, ``all`` or names of levels stand for, least demanding first.

    Raises
    ------
    ValueError
        For a name that is no level of this machine's architecture.
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


COMMON_RULES = (
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
"""Names of the rules that most people use. They have more kernels than the others."""

PLAIN = (F32, F64)
"""Every rule has kernels for parameter, gradient and states of one of these storages, dense and strided."""

HALF = ((F32, F32, BF16), (BF16, BF16, F32), (BF16, BF16, BF16))
"""Storages of parameter, gradient and states: every rule has dense kernels for these too."""

MORE_HALF = ((F32, BF16, F32), (F16, F16, F32))
"""The same for COMMON_RULES."""

RIDERS: tuple[dict[str, Any], ...] = ({"zero": True}, {"ema": True})
"""Riders: every rule has dense float32 kernels with each of these."""

MORE_RIDERS: tuple[dict[str, Any], ...] = ({"zero": True, "ema": True, "copy": BF16},)
"""The same for COMMON_RULES."""

MORE_QUANTIZED = ((F32, F32, True), (BF16, BF16, False))
"""Storages of parameter and gradient, and whether rounding is stochastic: COMMON_RULES have dense kernels with
quantized states for these, besides the one for float32 that every rule has."""


def specs() -> list[tuple[Rule, Spec]]:
    """Return the rules and specs whose kernels are compiled: the usual storages for every rule, more for COMMON_RULES.

    Numba compiles other kernels when they are first used. Each kernel here adds a quarter of a second to the build.
    """
    made: dict[tuple[Rule, Spec], None] = {}
    for rule in COMPILED.values():
        for spec in (*_of_every_rule(rule), *(_of_a_common_rule(rule) if rule.name in COMMON_RULES else ())):
            made[rule, spec] = None
    return [*made, *dict.fromkeys((rule, spec.measure_spec()) for rule, spec in made if rule.measure is not None)]


def _of_every_rule(rule: Rule) -> Iterator[Spec]:
    for storage, strided in itertools.product(PLAIN, (False, True)):
        yield Spec(rule, storage, storage, _states(rule, storage), strided)
    for parameter, gradient, state in HALF:
        yield Spec(rule, parameter, gradient, _states(rule, state))
    yield Spec(rule, F32, F32, quantized_storages(rule))
    for riders in RIDERS:
        yield Spec(rule, F32, F32, _states(rule, F32), **riders)


def _of_a_common_rule(rule: Rule) -> Iterator[Spec]:
    for parameter, gradient, strided in itertools.product(PLAIN, PLAIN, (False, True)):
        yield Spec(rule, parameter, gradient, _states(rule, parameter), strided)
    for parameter, gradient, state in MORE_HALF:
        yield Spec(rule, parameter, gradient, _states(rule, state))
    for parameter, gradient, stochastic in MORE_QUANTIZED:
        yield Spec(
            rule, parameter, gradient, quantized_storages(rule), stochastic=stochastic and rule.State._fields != ()
        )
    for riders in MORE_RIDERS:
        yield Spec(rule, F32, F32, _states(rule, F32), **riders)
    for master in ("float32", "remainder"):
        yield Spec(rule, BF16, BF16, _states(rule, F32), master=master)
    yield Spec(rule, BF16, BF16, _states(rule, BF16), stochastic=True)


def _states(rule: Rule, storage: Storage) -> tuple[Storage, ...]:
    """Return the storage of each state: ``storage``, but float32 or float64 for states that are weights."""
    weight = storage if storage in PLAIN else F32
    return tuple(weight if field in rule.weights else storage for field in rule.State._fields)


def kernels_to_compile() -> list[tuple[str, Callable[[Any], Any]]]:
    """Return every kernel's key, and a function that compiles it when called with the module :mod:`.cpu.compile`."""
    made: dict[str, Callable[[Any], Any]] = {}
    for rule, spec in specs():
        made.setdefault(native_library.key(rule, spec), partial(_compile_step, rule, spec))
    for rule in COMPILED.values():
        if native_library.can_compile_finish(rule):
            made.setdefault(native_library.finish_key(rule), partial(_compile_finish, rule))
    for storage in STORAGES.values():
        for strided in (False, True):
            squares = GradSquares(storage, strided)
            made[native_library.grad_squares_key(squares)] = partial(_compile_grad_squares, squares)
    return list(made.items())


def _compile_step(rule: Rule, spec: Spec, compile: Any) -> Any:
    return compile.compiled(rule, spec)


def _compile_grad_squares(squares: GradSquares, compile: Any) -> Any:
    return compile.compiled_grad_squares(squares)


def _compile_finish(rule: Rule, compile: Any) -> Any:
    return compile.compiled_finish(rule)


def symbol(level: str, number: int) -> str:
    """Return the C name of kernel ``number`` of a level."""
    return f"schuss_{re.sub(r'[^a-z0-9]', '_', level)}_{number}"


def columns() -> str:
    """Return the text of ``columns.h``: the column numbers of the tables, which are written down in Python alone."""
    lines = [f'#define SOURCES "{digest.sources()}" /* digest of the Python files that this goes with */']
    lines += [f"#define ROW_{name} {getattr(chunk_table, name)}" for name in ("KERNEL", "GRAD", "SQUARES", "MEASURE")]
    names = ("DESCR", "FORMAT", "NDIM", "SHAPE", "DATA", "FIRST", "LAST", "ADVANCE", "LOW", "HIGH", "COLUMNS")
    lines += [f"#define GRADIENT_{name} {getattr(gradient_table, name)}" for name in names]
    between = ("FINISH", "INTO", "AHEAD", "STEP", "BLOCKS", "SUMS", "MEASURED", "FOLDED", "COLUMNS")
    lines += [f"#define TWO_PASS_{name} {getattr(two_pass, name)}" for name in between]
    lines += [
        f"#define PORTION_{name} {number}" for number, name in enumerate((*two_pass.COLUMNS_OF_PORTIONS, "COLUMNS"))
    ]
    return "\n".join(["/* The build writes this file from the Python modules that make the tables. */", *lines, ""])


def table(made: Sequence[str]) -> str:
    """Return the text of ``kernels.c``, the table of all kernels of these levels: level, key and function."""
    keys = [key for key, _ in kernels_to_compile()]
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
    """Compile every ``shards``-th kernel from number ``shard`` on. Return for each level the object file's content.

    Numba's part of the work, which is most of it, is done once for all levels, LLVM's part for each level.

    Raises
    ------
    RuntimeError
        When a kernel calls a function outside itself.
    """
    with tempfile.TemporaryDirectory() as cache:  # the user's cache must not get another processor's kernels
        os.environ["NUMBA_CPU_NAME"], os.environ["NUMBA_CPU_FEATURES"] = _processor(wanted_levels[-1])
        os.environ["NUMBA_CACHE_DIR"] = cache
        return _compiled(wanted_levels, shard, shards)


def _processor(level: str) -> tuple[str, str]:
    """Return the name of the processor that LLVM optimises a level's kernels for, and its features."""
    return _OPTIMISE_FOR.get(level, level), _FEATURES.get(level, "")


def _compiled(wanted_levels: Sequence[str], shard: int, shards: int) -> dict[str, bytes]:
    from ..cpu import compile

    made = [_Level(name) for name in wanted_levels]
    with _store_unoptimised():
        for number, (key, compile_) in list(enumerate(kernels_to_compile()))[shard::shards]:
            dispatcher, _ = compile_(compile)
            compiled = next(iter(dispatcher.overloads.values()))
            for level in made:
                level.add(compiled.library.linked, compiled.fndesc.llvm_func_name, number, key)
    return {level.name: level.object() for level in made}


@contextlib.contextmanager
def _store_unoptimised() -> Iterator[None]:
    """Have numba's code libraries store their LLVM code before it is optimised for a processor, as ``linked``."""
    from numba.core.codegen import CPUCodeLibrary

    optimise = CPUCodeLibrary._optimize_final_module

    def store_and_optimise(library: Any) -> None:
        library.linked = str(library._final_module)
        optimise(library)

    CPUCodeLibrary._optimize_final_module = store_and_optimise
    try:
        yield
    finally:
        CPUCodeLibrary._optimize_final_module = optimise


class _Level:
    """Collect the kernels of one level in one LLVM module."""

    def __init__(self, name: str) -> None:
        import llvmlite.binding as llvm
        from numba.core import codegen, config

        self.name = name
        config.CPU_NAME, config.CPU_FEATURES = _processor(name)
        self._codegen = codegen.JITCPUCodegen(f"schuss.{name}")
        self._machine = llvm.Target.from_default_triple().create_target_machine(
            cpu=name, features=_FEATURES.get(name, ""), opt=3, reloc="pic", codemodel="small"
        )
        self._module = llvm.parse_assembly("")

    def add(self, linked: str, kernel: str, number: int, key: str) -> None:
        """Optimise a kernel for this level, and add it to the module."""
        import llvmlite.binding as llvm

        library = self._codegen.create_library(f"{self.name}.{number}")
        library._final_module = module = llvm.parse_assembly(linked)
        library._optimize_final_module()
        _hide_all_but(module, kernel)
        called = outside_calls(self._machine.emit_assembly(module))
        if called:
            raise RuntimeError(f"the kernel {key} calls {', '.join(called)} and cannot be compiled ahead of time")
        function = module.get_function(kernel)
        function.name, function.visibility = symbol(self.name, number), "hidden"
        if not self._module.triple:
            self._module.triple, self._module.data_layout = module.triple, module.data_layout
        self._module.link_in(module)

    def object(self) -> bytes:
        """Return the object file's content."""
        content: bytes = self._machine.emit_object(self._module)
        return content


def _hide_all_but(module: Any, kernel: str) -> None:
    """Make all names of a module but the kernel's internal."""
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name != kernel:
            value.linkage = "internal"


def outside_calls(assembly: str) -> list[str]:
    """Return the names that assembly code calls or jumps to, other than its own labels."""
    targets = re.findall(r"^\s+(?:callq?|jmpq?|bl|b)\s+(\S+)", assembly, re.MULTILINE)
    return sorted({target for target in targets if not re.match(r"\.?L", target)})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Return its exit code."""
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
        for level, content in compile_objects(given.levels, part - 1, parts).items():
            Path(given.output.replace("{level}", level)).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
