"""Compiles the built-in rules ahead of time. Run by the build (``kernels/CMakeLists.txt``), never by a step.

    python -m schuss_kernels.ahead tables host --output FOLDER             columns.h and kernels.c; prints the levels
    python -m schuss_kernels.ahead objects x86-64-v3 --shard 1/2 --output FILE.o

A kernel's object holds nothing but machine code: no call into Python, no allocation. It comes out of the same functions
that numba compiles at run time, for the processor of a level instead of the one at hand.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import expected, native, plan
from .rule import Rule
from .rules import RULES
from .storage import STORAGES, Spec

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


def specs() -> Iterator[tuple[Rule, Spec]]:
    """What is compiled: every rule, for parameters and gradients of every storage, dense and strided."""
    for rule in RULES.values():
        for parameter in STORAGES.values():
            for gradient in STORAGES.values():
                for strided in (False, True):
                    states = (parameter,) * len(rule.State._fields)
                    yield rule, Spec(rule, parameter, gradient, states, strided)


def symbol(level: str, number: int) -> str:
    """The C name of kernel ``number`` of a level."""
    return f"schuss_{re.sub(r'[^a-z0-9]', '_', level)}_{number}"


def columns() -> str:
    """``columns.h``: the numbers of the tables' columns, so that they are written down once."""
    lines = [f"#define ROW_{name} {getattr(plan, name)}" for name in ("KERNEL", "GRAD")]
    names = ("DESCR", "FORMAT", "NDIM", "LAYOUT", "DATA", "FIRST", "LAST", "ADVANCE", "LOW", "HIGH", "COLUMNS")
    lines += [f"#define EXPECTED_{name} {getattr(expected, name)}" for name in names]
    return "\n".join(["/* From plan.py and expected.py, by ahead.py. */", *lines, ""])


def table(made: Sequence[str]) -> str:
    """``kernels.c``: where every kernel is."""
    keys = [native.key(rule, spec) for rule, spec in specs()]
    symbols = {(level, number): symbol(level, number) for level in made for number in range(len(keys))}
    return "\n".join(
        [
            "/* By ahead.py. */",
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


def compile_object(level: str, shard: int, shards: int) -> bytes:
    """The object file with every ``shards``-th kernel, from number ``shard`` on.

    Raises
    ------
    RuntimeError
        When a kernel needs more than machine code.
    """
    features = _FEATURES.get(level, "")
    os.environ["NUMBA_CPU_NAME"] = _OPTIMISE_FOR.get(level, level)
    os.environ["NUMBA_CPU_FEATURES"] = features
    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp()
    import llvmlite.binding as llvm

    from . import cpu

    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(cpu=level, features=features, opt=3, reloc="pic", codemodel="small")
    whole = llvm.parse_assembly("")
    for number, (rule, spec) in list(enumerate(specs()))[shard::shards]:
        dispatcher, _ = cpu.compiled(rule, spec)
        compiled = next(iter(dispatcher.overloads.values()))
        module = llvm.parse_assembly(compiled.library.get_llvm_str())
        kernel = compiled.fndesc.llvm_func_name
        _keep_to_itself(module, kernel)
        called = outside_calls(machine.emit_assembly(module))
        if called:
            raise RuntimeError(f"the kernel of {spec} calls {', '.join(called)} and cannot be compiled ahead of time")
        function = module.get_function(kernel)
        function.name, function.visibility = symbol(level, number), "hidden"
        if not whole.triple:
            whole.triple, whole.data_layout = module.triple, module.data_layout
        whole.link_in(module)
    made: bytes = machine.emit_object(whole)
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
    objects = commands.add_parser("objects", help="compile kernels into an object file")
    objects.add_argument("level")
    objects.add_argument("--shard", default="1/1", help="which part of the kernels: 1/4 to 4/4")
    objects.add_argument("--output", type=Path, required=True, help="file to write")
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
        given.output.write_bytes(compile_object(given.level, part - 1, parts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
