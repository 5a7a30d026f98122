"""Kernel == numpy reference, to the last bit: every engine, optimizer, size, layout, thread count and chunking."""

from __future__ import annotations

import numpy as np
import pytest
from cases import BUILT, CASES, DTYPES, SIZES, arrays, assert_same_bits, assert_same_optimizers, engines, one_a_kernel
from layouts import GRADIENT_LAYOUTS, like, strided_arrays
from pairs import pairwise
from schuss_kernels.engine.host import HostEngine
from schuss_kernels.native import aot

import schuss


def pair(case, params, backend, **options):
    """The same optimizer twice, compiled and reference, on copies of the same memory layout."""
    copies = [like(p) for p in params]
    ours = case.make(params, **case.options, **options, backend=backend)
    return ours, case.make(copies, **case.options, backend="numpy")


@pairwise(case=CASES, dtype=DTYPES, backend=BUILT)
def test_every_size(case, dtype, backend):
    assert_every_size_is_the_same(case, dtype, backend)


@pairwise(case=one_a_kernel(), backend=list(engines("numba")))
def test_every_size_with_numba(case, backend):
    assert_every_size_is_the_same(case, np.float32, backend)


def assert_every_size_is_the_same(case, dtype, backend):
    ours, reference = pair(case, arrays(SIZES, dtype, 0), backend)
    for step in range(5):
        gradients = arrays(SIZES, dtype, 1 + step)
        ours.step(gradients)
        reference.step(gradients)
    assert_same_optimizers(ours, reference)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_one_tensor_alone_with_guards(size, dtype, backend):
    """Nothing before or behind the tensor is written."""
    guard = 17
    memory = np.full(size + 2 * guard, np.nan, dtype)
    memory[guard : guard + size] = arrays([size], dtype, 3)[0]
    p = memory[guard : guard + size]
    q = p.copy()
    ours, reference = schuss.AdamW([p], backend=backend), schuss.AdamW([q], backend="numpy")
    for step in range(3):
        g = arrays([size], dtype, step)
        ours.step(g)
        reference.step(g)
    assert_same_bits(p, q)
    assert np.isnan(memory[:guard]).all()
    assert np.isnan(memory[guard + size :]).all()


@pairwise(
    case=[CASES[0], CASES[3], CASES[13], CASES[19]],
    threads=[1, 2, 7],
    chunk=[1024, 3072, 4096],
    backend=list(engines()),
)
def test_threads_and_chunks(case, threads, chunk, backend, monkeypatch):
    """The bits do not depend on who runs which chunk."""
    monkeypatch.setattr(HostEngine, "chunk_and_span_sizes", lambda self, elements: (chunk, 2 * chunk))
    monkeypatch.setattr(HostEngine, "serial_below", 0)
    sizes = [65_537, 3, 0, 1000, 33, 50_000]
    ours, reference = pair(case, arrays(sizes, np.float32, 0), backend, threads=threads)
    assert ours._stepper.engine.workers == threads
    for step in range(3):
        gradients = arrays(sizes, np.float32, 1 + step)
        ours.step(gradients)
        reference.step(gradients)
    assert_same_optimizers(ours, reference)


@pairwise(layout=list(GRADIENT_LAYOUTS), backend=list(engines()), dtype=DTYPES, case=[CASES[0], CASES[19]])
def test_layouts(case, dtype, layout, backend):
    params = strided_arrays(dtype, 0)
    ours = case.make(params, **case.options, backend=backend)
    copies = {name: like(p) for name, p in params.items()}
    reference = case.make(copies, **case.options, backend="numpy")
    for step in range(3):
        gradients = {name: GRADIENT_LAYOUTS[layout](g) for name, g in strided_arrays(dtype, 1 + step).items()}
        ours.step(gradients)
        reference.step(gradients)
    assert_same_optimizers(ours, reference)


def test_gaps_of_a_sliced_parameter_stay(backend):
    memory = np.arange(40, dtype=np.float32).reshape(8, 5)
    before = memory.copy()
    schuss.SGD([memory[::2, 1:4]], lr=1.0, backend=backend).step([np.ones((4, 3), np.float32)])
    before[::2, 1:4] -= 1.0
    np.testing.assert_array_equal(memory, before)


def test_layout_changes_between_steps(backend):
    ours, reference = pair(CASES[17], arrays([(30, 20), (50,)], np.float32, 0), backend)
    for step in range(6):
        one, two = arrays([(30, 20), (50,)], np.float32, step + 1)
        shapes = [one, np.asfortranarray(one), one.astype(np.float64), np.repeat(one, 2, 0)[::2]]
        gradients = [shapes[step % 4], two[::-1].copy()[::-1] if step % 2 else two]
        ours.step(gradients)
        reference.step(gradients)
    assert_same_optimizers(ours, reference)


@pairwise(case=[case for case in one_a_kernel() if case.rule.name in aot.COMMON_RULES], backend=list(engines()))
def test_mixed_dtypes_in_one_optimizer(case, backend):
    """Float32 and float64 parameters together, each with gradients of the other dtype: computed in the parameter's."""
    params = arrays([100, 33], np.float32, 0) + arrays([100, 33], np.float64, 1)
    ours, reference = pair(case, params, backend)
    for step in range(3):
        gradients = (
            arrays([100], np.float32, step) + arrays([33, 100], np.float64, step) + arrays([33], np.float32, step)
        )
        ours.step(gradients)
        reference.step(gradients)
    assert_same_optimizers(ours, reference)


@pairwise(case=one_a_kernel(), dtype=DTYPES, backend=BUILT)
def test_nan_infinity_denormals_and_zero(case, dtype, backend):
    tiny = np.finfo(dtype).smallest_subnormal
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, tiny, -tiny, np.finfo(dtype).max, 1.0, -1.0], dtype)
    grid = [axis.ravel().copy() for axis in np.meshgrid(special, special)]
    ours, reference = pair(case, [grid[0], np.ones(100, dtype)], backend)
    for step in range(3):
        gradients = [np.roll(grid[1], step), grid[1 - step % 2].copy()]
        ours.step(gradients)
        reference.step(gradients)
    assert_same_optimizers(ours, reference)


def test_memmap(tmp_path, backend):
    path = tmp_path / "weights.bin"
    start = arrays([1000], np.float32, 0)[0]
    start.tofile(path)
    mapped = np.memmap(path, np.float32, "r+")
    ours, reference = schuss.AdamW([mapped], backend=backend), schuss.AdamW([start], backend="numpy")
    for step in range(3):
        g = arrays([1000], np.float32, step)
        g[0].tofile(tmp_path / "g.bin")
        ours.step([np.memmap(tmp_path / "g.bin", np.float32, "r")])
        reference.step(g)
    mapped.flush()
    assert_same_bits(np.fromfile(path, np.float32), start)


def test_scratch_is_never_read(backend):
    """States start from their initial values, not from what the memory held."""
    for _ in range(20):
        np.full(10_000, np.nan, np.float32)
    w = np.ones(10_000, np.float32)
    schuss.AdamW([w], backend=backend).step([np.ones(10_000, np.float32)])
    assert np.isfinite(w).all()
