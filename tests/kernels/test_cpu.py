"""The engine of numba itself: machine code, caches, and whose threads do the work."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import schuss_kernels
from cases import arrays
from distinct import KERNELS
from numba.core import caching, config
from processes import python
from schuss_kernels.cpu import compile, jit, launcher
from schuss_kernels.native.aot import COMMON_RULES
from schuss_kernels.plan.spec import Spec
from schuss_kernels.storage.dtypes import F32, F64

import schuss

X86 = "x86" in "".join(os.uname()[4:]) if hasattr(os, "uname") else False


def dispatcher(rule, storage=F32, strided=False):
    spec = Spec(rule, storage, storage, (storage,) * len(rule.State._fields), strided)
    return compile.compiled(rule, spec)[0]


@pytest.fixture
def assembly_of(monkeypatch, tmp_path):
    """The assembly of a rule's dense kernel."""
    import numba

    def made(rule, storage):
        kernel = dispatcher(rule, storage)
        if kernel.stats.cache_hits:  # what comes from the disk is machine code alone
            monkeypatch.setattr(compile, "_kernels", {})
            monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
            kernel = dispatcher(rule, storage)
        return next(iter(kernel.inspect_asm().values()))

    return made


@pytest.mark.skipif(not X86, reason="looks for x86 instructions")
@pytest.mark.parametrize("rule", KERNELS.values(), ids=KERNELS)
def test_float32_kernels_are_simd_and_hold_no_float64(rule, assembly_of):
    assembly = assembly_of(rule, F32)
    wide = re.findall(r"\b(cvtss2sd|cvtps2pd|sqrtsd|sqrtpd|mulsd|mulpd|divsd|addsd)\b", assembly.replace("\tv", "\t"))
    assert not wide
    assert not re.findall(r"\tv?fn?m(?:add|sub)\d*[sp][sd]\b", assembly), "multiply and add were contracted"
    registers = "zmm|ymm" if "avx2" in _cpu_flags() else "xmm"
    assert re.search(rf"\tv?mulps\t.*%(?:{registers})\d", assembly), "the loop is not vectorised"
    if "sqrt" in str(rule.update.__code__.co_names):
        assert re.search(rf"\tv?sqrtps\t.*%(?:{registers})\d", assembly), "the root is not vectorised"


@pytest.mark.skipif(not X86, reason="looks for x86 instructions")
@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(rule, marks=[] if name in COMMON_RULES else [pytest.mark.full], id=name)
        for name, rule in KERNELS.items()
    ],
)
def test_float64_kernels_are_simd(rule, assembly_of):
    assembly = assembly_of(rule, F64)
    assert re.search(r"\tv?mulpd\t", assembly)
    assert not re.findall(r"\tv?fn?m(?:add|sub)\d*[sp][sd]\b", assembly)


def _cpu_flags() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def test_hyper_parameters_and_sizes_never_recompile():
    optimizer = schuss.AdamW(arrays([100, 7], np.float32, 0), backend="numba")
    optimizer.step(arrays([100, 7], np.float32, 1))
    kernels = set(compile._kernels)
    for lr in (1e-3, 0.5, 2):
        options = {"lr": lr, "betas": (lr / 4, 0.5), "weight_decay": lr, "maximize": True}
        other = schuss.AdamW(arrays([1000], np.float32, 0), **options, backend="numba")
        other.step(arrays([1000], np.float32, 1))
        other.param_groups[0]["eps"] = 1e-3
        other.step(arrays([1000], np.float32, 2))
    assert set(compile._kernels) == kernels
    assert all(len(made.overloads) == 1 for made, _ in compile._kernels.values())
    assert len(launcher.run_alone.overloads) <= 1


STEP = """
import sys, time
import numpy as np
from schuss_kernels.cpu import compile, engine, launcher
engine.is_usable = lambda: False  # numba's launcher, as where there is no C compiler
import schuss
optimizer = schuss.AdamW([np.ones(300_000, np.float32)], threads=2, backend="numba")
optimizer.step([np.ones(300_000, np.float32)])
small = schuss.AdamW([np.ones(3, np.float32)], backend="numba")
small.step([np.ones(3, np.float32)])
(made, _), = compile._kernels.values()
functions = [made, launcher.run_alone, launcher._run_spans]
print(sum(f.stats.cache_hits.total() for f in functions), sum(f.stats.cache_misses.total() for f in functions))
"""


def test_the_disk_cache_hits_in_a_second_process(tmp_path):
    first = python(STEP, NUMBA_CACHE_DIR=str(tmp_path)).split()
    second = python(STEP, NUMBA_CACHE_DIR=str(tmp_path)).split()
    assert int(first[1]) > 0
    assert int(first[0]) == 0
    assert int(second[1]) == 0
    assert int(second[0]) == int(first[1])


def test_two_processes_filling_one_cache(tmp_path):
    code = STEP + "print('sum', optimizer._parameters.memories[0].array.sum())"
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    racing = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        for _ in range(3)
    ]
    said = [process.communicate(timeout=300) for process in racing]
    assert [process.returncode for process in racing] == [0, 0, 0], said
    assert len({out.split(b"sum")[1] for out, _ in said}) == 1
    assert int(python(STEP, NUMBA_CACHE_DIR=str(tmp_path)).split()[1]) == 0


def test_every_kernel_has_its_own_file_in_the_cache():
    """Two processes that compile different ones at once cannot write over each other's."""
    rules = [KERNELS["adamw"], KERNELS["sgd"]]
    made = [dispatcher(rule, storage) for rule in rules for storage in (F32, F64)]
    assert len({kernel._cache._cache_file._index_path for kernel in made}) == 4


def test_no_place_for_a_cache(tmp_path):
    """Neither beside the package nor in the home folder: it works, it only compiles again."""
    code = """
import sys, numba.core.caching as caching
from numba.core.caching import CacheImpl
for cls in CacheImpl._locator_classes:
    cls.from_function = classmethod(lambda *_: None)
""" + STEP.replace("print(", "assert not any(f.stats.cache_path for f in functions); print('fine', ")
    assert "fine" in python(code)


def test_a_cache_that_is_broken_is_no_error(tmp_path, monkeypatch):
    """Files cut off, empty, garbage, not to be written: all is compiled anew, with one warning in a process."""

    def compiled(function):
        made = jit.jit()(function)
        made(1)
        return made.stats.cache_hits.total()

    def one_more(x):
        return x + 1

    def damage(what, name):
        (path,) = tmp_path.rglob(f"*one_more*.{name}")
        path.write_bytes(what(path.read_bytes()))

    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    assert [compiled(one_more) for _ in range(2)] == [0, 1]
    half, nothing, garbage = (lambda b: b[: len(b) // 2]), (lambda b: b""), (lambda b: b"x" * len(b))
    for what, name in itertools.product((half, nothing, garbage), ("nbi", "nbc")):
        damage(what, name)
        monkeypatch.setattr(jit, "_warned", False)
        with pytest.warns(
            RuntimeWarning, match=r"disk cache in .* cannot be read \(.*\): kernels are compiled anew"
        ) as told:
            assert compiled(one_more) == 0
        assert len(told) == 1
        assert compiled(one_more) == 1, "the next process finds it again"

    def no_room(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "_open_for_write", no_room)
    monkeypatch.setattr(jit, "_warned", False)
    with pytest.warns(RuntimeWarning, match=r"cannot be written \(OSError: \[Errno 28\] No space") as told:
        assert [compiled(lambda x: x + 2.0) for _ in range(2)] == [0, 0]
    assert len(told) == 1


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_what_the_machine_does_not_give_is_no_mistake_of_a_rule(error, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(compile, "_address", fail)
    monkeypatch.setattr(compile, "_kernels", {})
    rule = KERNELS["sgd"]
    with pytest.raises(type(error)):
        compile.kernel(rule, Spec(rule, F32, F32, (), lookahead=True, zero=True))


MOVED_COLUMN = (
    """
from pathlib import Path
import numpy as np
import schuss_kernels
assert Path(schuss_kernels.__file__).is_relative_to({folder!r})
"""
    + STEP
    + """
assert (optimizer._parameters.memories[0].array == small._parameters.memories[0].array[0]).all()
print("moved", small._parameters.memories[0].array[0])
"""
)


def test_a_moved_column_recompiles_whatever_is_cached(tmp_path):
    """Column numbers are frozen into kernels and launcher: an older cache would read and write wrong addresses."""
    for package in (schuss, schuss_kernels):
        folder = Path(package.__file__).parent
        shutil.copytree(folder, tmp_path / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    code = MOVED_COLUMN.format(folder=str(tmp_path))
    environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    first, again = (python(code, **environment).split() for _ in range(2))
    assert (int(first[0]), int(again[1])) == (0, 0)
    table = tmp_path / "schuss_kernels" / "plan" / "chunk_table.py"
    columns = "KERNEL, SCALARS, COUNT, LAYOUT, START, TENSOR, PARAM, GRAD,"
    assert columns in table.read_text()
    moved = table.read_text().replace(columns, "GRAD, SCALARS, COUNT, PARAM, LAYOUT, TENSOR, START, KERNEL,")
    table.write_text(moved)
    after = python(code, **environment).split()
    assert int(after[0]) == 0, "something was taken from the cache"
    assert int(after[1]) == int(first[1])
    assert after[-1] == first[-1]


OTHER_TEAM = """
import numpy as np, numba
from numba import njit, prange
import schuss
from schuss_kernels.cpu import engine
from schuss_kernels.engine import extension, thread_count

thread_count.at_most_cores = lambda threads: threads

@njit(parallel=True)
def start(x):
    for i in prange(x.size):
        x[i] += 1.0

start(np.zeros(10))  # an OpenMP team is at work in this process now
assert extension.has_openmp_team() or numba.threading_layer() != 'omp'
rng = np.random.default_rng(0)
start, g = (rng.standard_normal(400_000).astype(np.float32) for _ in range(2))
results = []
for threads in (1, 2, 7, 9, 2, 9):
    engine.is_usable = lambda: len(results) < 4 and extension.is_usable()
    w = start.copy()
    optimizer = schuss.AdamW([w], threads=threads, backend="numba")
    for _ in range(5):
        optimizer.step([g])
    results.append(w.tobytes())
reference = start.copy()
optimizer = schuss.AdamW([reference], backend="numpy")
for _ in range(5):
    optimizer.step([g])
assert set(results) == {reference.tobytes()}
print("same", numba.threading_layer(), numba.get_num_threads())
"""


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_sharing_an_openmp_team(layer):
    said = python(OTHER_TEAM, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="7").split()
    assert said == ["same", layer, "7"]


FORK_WITH_TEAM = (
    OTHER_TEAM
    + """
import os, signal
optimizer = schuss.AdamW([start.copy()], threads=2, backend="numba")
optimizer.step([g])
child = os.fork()
if child == 0:
    signal.alarm(60)
    optimizer.step([g])
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
print("forked")
"""
)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_steps_where_the_parent_used_openmp():
    assert "forked" in python(FORK_WITH_TEAM, NUMBA_NUM_THREADS="2", PYTHONWARNINGS="ignore")
