"""The CUDA kernels as PTX and machine code: of every rule, and of some for four generations of GPUs. Needs no GPU."""

from __future__ import annotations

import contextlib
import functools
import re
import subprocess
import tempfile
from pathlib import Path

import pairs
import pytest
from cuda_forms import ALL_FORMS, looked_at, needs_compiler
from distinct import KERNELS

with contextlib.suppress(ImportError):  # needs_compiler tells
    import cuda_on_cpu

CAPABILITIES = [(7, 5), (8, 0), (9, 0), (12, 0)]
LOOKED_AT = {capability: [] for capability in CAPABILITIES}
"""Capability -> rules: all of them on one, those of which all forms are looked at on every one."""
for _rule in KERNELS.values():
    for _capability in CAPABILITIES if _rule.name in ALL_FORMS else [(9, 0)]:
        LOOKED_AT[_capability].append(_rule)


def architecture(capability):
    return f"sm_{capability[0]}{capability[1]}"


every_rule_and_architecture = pytest.mark.parametrize(
    ("rule", "capability"),
    [
        pytest.param(rule, capability, id=f"{rule.name}-{architecture(capability)}")
        for capability, rules in LOOKED_AT.items()
        for rule in rules
    ],
)


def tool(program):
    """A program of the CUDA toolchain wheels; those of the system may be too old to read our PTX."""
    import nvidia

    found = [path for folder in nvidia.__path__ for path in Path(folder).glob(f"cu*/bin/{program}")]
    if not found:
        pytest.skip(f"{program} is not installed: pip install nvidia-cuda-nvcc nvidia-cuda-nvdisasm")
    return str(found[0])


def run(*command):
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout + ran.stderr


@functools.cache
def ptx_of(rule, spec, capability):
    return cuda_on_cpu.library(rule, spec).get_asm_str(cc=capability)


@functools.cache
def assembled(capability):
    """Every kernel of every rule: entry -> what ptxas has to say of it, and its machine instructions.

    All in one file: starting the disassembler takes longer than its work.
    """
    texts = [
        ptx_of(rule, spec, capability)
        for rule in LOOKED_AT[capability]
        for spec in looked_at(rule, every=pairs.EVERY).values()
    ]
    head = re.compile(r"^\.(version|target|address_size).*$", re.MULTILINE)
    top = "\n".join(match.group() for match in head.finditer(texts[0]))
    with tempfile.TemporaryDirectory() as folder:
        source, cubin = Path(folder, "kernels.ptx"), Path(folder, "kernels.cubin")
        source.write_text(top + "\n" + "\n".join(head.sub("", text) for text in texts))
        log = run(tool("ptxas"), "-v", f"-arch=sm_{capability[0]}{capability[1]}", str(source), "-o", str(cubin))
        code = run(tool("nvdisasm"), "-c", str(cubin))
    logs = re.split(r"Compiling entry function '(\w+)'", log)[1:]
    codes = re.split(r"^\.text\.(\w+):", code, flags=re.MULTILINE)[1:]
    code_of = dict(zip(codes[::2], codes[1::2], strict=True))
    return {entry: (said, code_of[entry]) for entry, said in zip(logs[::2], logs[1::2], strict=True)}


@needs_compiler
@every_rule_and_architecture
def test_ptx(rule, capability):
    for form, spec in looked_at(rule, every=pairs.EVERY).items():
        check_ptx(ptx_of(rule, spec, capability), spec, form)


@needs_compiler
@every_rule_and_architecture
def test_machine_code(rule, capability):
    for form, spec in looked_at(rule, every=pairs.EVERY).items():
        ptx = ptx_of(rule, spec, capability)
        [entry] = re.findall(r"\.entry (\w+)", ptx)
        check_machine_code(*assembled(capability)[entry], ptx, spec, form)


def check_ptx(ptx, spec, form):
    sizes = [storage.itemsize for storage in (spec.parameter, spec.gradient, *spec.states)]
    lanes, written = 16 // max(sizes), len(sizes) - 1
    instructions = re.findall(r"^\s*(?:@!?%p\d+ )?([a-z]\w*(?:\.\w+)*)", ptx, re.MULTILINE)
    if spec.quantized_states:
        check_blocks(instructions, spec, form)
    elif not spec.strided:
        # Values that are passed on as they are may go in two words of 64 bits.
        wide = [i for i in instructions if f".global.v{lanes}." in i or ".global.v2.b64" in i]
        loads, stores = (sum(i.startswith(word) for i in wide) for word in ("ld", "st"))
        # More than once: the compiler took a choice that a scalar makes out of the loop, and so made two loops.
        assert len(sizes) <= loads <= 2 * len(sizes), form
        assert written <= stores <= 2 * written, form
    assert not [i for i in instructions if re.match(r"(fma|mad\w*\.f|\w+\.approx|\w+\.ftz)", i)], form
    assert not [i for i in instructions if ".ftz" in i or ".approx" in i or i.startswith("call")], form
    if max(sizes) <= 4:
        assert ".f64" not in ptx, form
    arithmetic = [i for i in instructions if re.match(r"(add|sub|mul|div|sqrt)\.\S*f(32|64)$", i)]
    assert arithmetic, form
    assert all(i.split(".")[1] == "rn" for i in arithmetic), (
        form,
        set(arithmetic),
    )  # a plain mul.f32 may be contracted
    assert not re.search(r"\b(ld|st)\.local", ptx), form


def check_blocks(instructions, spec, form):
    """A thread loads and stores 8 codes of a state; a warp agrees on the largest in five exchanges, and on nothing
    else; memory goes straight to registers."""
    loads, stores, exchanges = (
        [i for i in instructions if re.match(pattern, i)]
        for pattern in (r"ld\.global\.[sub]8", r"st\.global\.[ub]8", r"shfl\.sync\.bfly")
    )
    states = len(spec.quantized_states)
    assert (len(loads), len(stores), len(exchanges)) == (8 * states, 8 * states, 5 * states), form
    assert not [i for i in instructions if re.match(r"(bar|barrier|atom|red)\.|\w+\.shared", i)], form


def most_registers(spec):
    """128: two blocks of 256 threads a multiprocessor, at the very least. One block has to do where the new values of
    more than two states wait in registers for their block's scale, and may have to in float64."""
    if len(spec.quantized_states) > 2 or spec.compute.itemsize == 8:
        return 255  # a power in float64 takes 178
    return 144 if spec.quantized_states and spec.strided else 128


def check_machine_code(log, code, ptx, spec, form):
    assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in log, (form, log)
    [registers] = re.findall(r"Used (\d+) registers", log)
    assert int(registers) <= most_registers(spec), (form, log)
    words = set(re.findall(r"\b([A-Z][A-Z0-9]+(?:\.[A-Z0-9_]+)*)\b", code))
    if not spec.strided and not spec.quantized_states and spec.parameter is spec.gradient:
        assert [word for word in words if re.match(r"LDG\..*128", word)], form
        assert [word for word in words if re.match(r"STG\..*128", word)], form
    assert not [word for word in words if re.match(r"(LDL|STL)\b", word)], form
    if not re.search(r"\b(div|rcp|sqrt)\.rn\.f", ptx):  # correctly rounded division and roots are made of FFMA and DFMA
        assert not [word for word in words if re.match(r"[FD]FMA", word)], form
    if ".f64" not in ptx:
        assert not [word for word in words if re.match(r"D(FMA|ADD|MUL)\b|F2F", word)], form
