"""Compiling ahead of time: what is compiled, for which processors, and that it is nothing but machine code."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from schuss_kernels.native import aot
from schuss_kernels.plan import chunk_table, gradient_table, two_pass
from schuss_kernels.rules import COMPILED

NATIVE = aot.levels(["host"])[0]


@pytest.fixture
def machine(monkeypatch):
    """Sets the kind of processor that Python tells of."""
    return lambda kind: monkeypatch.setattr(platform, "machine", lambda: kind)


@pytest.mark.parametrize(
    ("kind", "wanted", "made"),
    [
        ("x86_64", ["all"], ["x86-64", "x86-64-v3", "x86-64-v4"]),
        ("AMD64", ["all"], ["x86-64", "x86-64-v3", "x86-64-v4"]),
        ("x86_64", ["x86-64-v3"], ["x86-64-v3"]),
        ("x86_64", ["x86-64-v4", "x86-64"], ["x86-64", "x86-64-v4"]),
        ("arm64", ["all"], ["generic"]),
        ("arm64", ["host"], ["generic"]),
        ("aarch64", ["generic"], ["generic"]),
    ],
)
def test_levels(kind, wanted, made, machine):
    machine(kind)
    assert aot.levels(wanted) == made


@pytest.mark.parametrize(
    ("kind", "wanted", "message"),
    [
        ("x86_64", ["x86-64-v9"], "expected host, all, or some of x86-64, x86-64-v3, x86-64-v4; got 'x86-64-v9'"),
        ("x86_64", ["x86-64", "generic"], "got 'generic'"),
        ("x86_64", ["all", "x86-64"], "got 'all'"),
        ("arm64", ["x86-64"], "expected host, all, or some of generic; got 'x86-64'"),
    ],
)
def test_levels_that_there_are_not(kind, wanted, message, machine):
    machine(kind)
    with pytest.raises(ValueError, match=re.escape(message)):
        aot.levels(wanted)


@pytest.mark.parametrize(
    ("lacks", "best"), [(None, "x86-64-v4"), ("avx512vl", "x86-64-v3"), ("fma", "x86-64"), ("avx2", "x86-64")]
)
def test_the_best_level_of_a_processor(lacks, best, machine, monkeypatch):
    """All that a level asks for must be there, and all that the levels below it ask for."""
    import llvmlite.binding as llvm

    features = {name: name != lacks for needs in aot._NEEDS.values() for name in needs}
    monkeypatch.setattr(llvm, "get_host_cpu_features", lambda: features)
    machine("x86_64")
    assert aot.levels(["host"]) == [best]


def test_columns():
    """Every column that the C sources name has the number it has in Python."""
    defined = dict(re.findall(r"^#define (\w+) (\d+)$", aot.columns(), re.MULTILINE))
    python = {f"GRADIENT_{name}": str(value) for name, value in vars(gradient_table).items() if name.isupper()}
    assert {name: number for name, number in defined.items() if name.startswith("GRADIENT_")} == python
    assert defined["ROW_KERNEL"] == str(chunk_table.KERNEL)
    assert defined["ROW_GRAD"] == str(chunk_table.GRAD)
    assert sorted(map(int, python.values())) == list(range(gradient_table.COLUMNS + 1))
    for name, number in defined.items():
        if name.startswith("TWO_PASS_"):
            assert number == str(getattr(two_pass, name.removeprefix("TWO_PASS_")))
    portion = {f"PORTION_{name}": str(number) for number, name in enumerate(two_pass.COLUMNS_OF_PORTIONS)}
    assert {**portion, "PORTION_COLUMNS": str(len(portion))}.items() <= defined.items()


def test_every_rule_is_compiled_for_what_is_common():
    specs = list(aot.specs())
    assert {rule.name for rule, _ in specs} == set(COMPILED)
    assert set(aot.COMMON_RULES) <= set(COMPILED)
    for rule in COMPILED.values():
        own = [spec for made, spec in specs if made is rule]
        met = {(s.parameter.code, s.gradient.code, s.strided) for s in own}
        assert {(p, p, form) for p in ("f32", "f64") for form in (False, True)} | {("bf16", "bf16", False)} <= met
        assert any(s.zero for s in own)
        assert any(s.ema for s in own)
        assert any(s.quantized_states for s in own) == (set(rule.State._fields) > set(rule.weights))
        assert any(s.measure for s in own) == (rule.measure is not None)
        if rule.name in aot.COMMON_RULES:
            assert {(p, g, form) for p in ("f32", "f64") for g in ("f32", "f64") for form in (False, True)} <= met
            assert {("f32", "bf16", False), ("f16", "f16", False)} <= met
    assert len(set(specs)) == len(specs)


def test_the_table_names_every_kernel_once():
    text, keys = aot.table(["x86-64", "x86-64-v3"]), [key for key, _ in aot.kernels_to_compile()]
    entries = re.findall(r'^    \{"(.+)", "(.+)", (\w+)\},$', text, re.MULTILINE)
    assert [entry[:2] for entry in entries] == [(level, key) for level in ("x86-64", "x86-64-v3") for key in keys]
    assert entries[1][2] == aot.symbol("x86-64", 1) == "schuss_x86_64_1"
    assert entries[-1][2] == aot.symbol("x86-64-v3", len(keys) - 1)
    assert len({symbol for *_, symbol in entries}) == len(entries)
    assert f"KERNEL_COUNT = {len(entries)};" in text


SOURCES = Path(__file__).parents[2] / "kernels" / "native"
COMPILER = (sysconfig.get_config_var("CC") or "cc").split()[0]


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"there is no C compiler {COMPILER!r}")
def test_the_tables_compile(tmp_path):
    assert aot.main(["tables", *aot.levels(["all"]), "--output", str(tmp_path)]) == 0
    (tmp_path / "both.c").write_text('#include "columns.h"\n#include "kernels.c"\nint column = GRADIENT_COLUMNS;\n')
    command = [COMPILER, "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{SOURCES}", "-c", "both.c", "-o", "both.o"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("assembly", "called"),
    [
        ("\tcallq\tsqrtf@PLT\n", ["sqrtf@PLT"]),
        ("\tcall\tmemcpy\n\tjmp\tlog\n\tjmpq\tlog\n", ["log", "memcpy"]),
        ("\tcallq\t*%rax\n", ["*%rax"]),
        ("\tbl\tsqrt\n\tb\texp\n", ["exp", "sqrt"]),
        ("\tjmp\t.LBB0_3\n\tjmp\tLBB0_3\n\tb\t.LBB1_2\n", []),
        ("\tjne\t.LBB0_1\n\tmovss\t%xmm0, callq(%rip)\n\tret\n# callq sqrtf\ncall:\n", []),
    ],
)
def test_outside_calls(assembly, called):
    assert aot.outside_calls(assembly) == called


@pytest.mark.skipif(shutil.which("nm") is None, reason="there is no nm to list an object's symbols")
def test_objects_hold_kernels_and_nothing_else(tmp_path):
    """No other name is seen from outside, and none is asked for; an object for each level."""
    levels, shards = aot.levels(["all"]), 120
    command = [sys.executable, "-m", "schuss_kernels.native.aot", "objects", *levels]
    command += ["--shard", f"2/{shards}", "--output", str(tmp_path / "kernels-{level}.o")]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    expected = sorted(f"kernels-{level}.o" for level in levels)
    assert sorted(file.name for file in tmp_path.iterdir()) == expected, "it leaves nothing behind"
    numbers, contents = range(1, len(aot.kernels_to_compile()), shards), set()
    for level in levels:
        path = tmp_path / f"kernels-{level}.o"
        listed = subprocess.run(["nm", str(path)], capture_output=True, text=True, check=True).stdout
        symbols = [line.split()[-2:] for line in listed.splitlines()]
        outside = {(kind, name.lstrip("_")) for kind, name in symbols if kind.isupper()}
        assert outside == {("T", aot.symbol(level, number)) for number in numbers}
        contents.add(path.stat().st_size)
    assert len(contents) == len(levels), "each is for another processor"


def test_a_kernel_that_calls_others_is_refused(tmp_path):
    """In a process of its own: numba reads what to compile for when it is imported."""
    code = """
from schuss_kernels import rules
from schuss_kernels.native import aot
from schuss_kernels.rules import sgd
from schuss_kernels.lang.rule import Rule

def update(p, g, s, h):
    return p - g % h.lr, s

rules.COMPILED.clear()
rules.COMPILED["curved"] = Rule("curved", sgd.State, sgd.Scalars, sgd.scalars, update)
try:
    aot.compile_objects(aot.levels(["all"])[:1], 0, 1)
except RuntimeError as error:
    print(error)
"""
    path = tmp_path / "curved.py"
    path.write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=True)
    assert re.search(r"the kernel __main__\.update@.* calls .*fmod.* and cannot be compiled ahead of time", done.stdout)


def test_the_command(tmp_path, capsys):
    assert aot.main(["tables", "host", "--output", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{NATIVE}\n"
    assert (tmp_path / "columns.h").read_text() == aot.columns()
    assert (tmp_path / "kernels.c").read_text() == aot.table([NATIVE])


def test_the_command_with_a_level_that_there_is_not(tmp_path, capsys):
    assert aot.main(["tables", NATIVE, "x86-64-v9", "--output", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"SCHUSS_LEVELS: expected host, all, or some of .*; got 'x86-64-v9'\n", err)
    assert not list(tmp_path.iterdir())
