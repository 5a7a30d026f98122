"""States in 8 bits on CUDA: compiled IR on the CPU. More of them is in test_cuda and test_cuda_machine_code."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from cuda_forms import needs_warps, same_bits_as_the_reference
from cuda_models import EIGHT_LARGE, Array, Host, Model, dense
from schuss_kernels.engine.reference import ReferenceEngine
from schuss_kernels.rules import RULES
from schuss_kernels.storage import quantization

with contextlib.suppress(ImportError):  # needs_warps tells
    import cuda_on_cpu


@needs_warps
@pytest.mark.parametrize("stochastic", [False, True], ids=["nearest", "stochastic"])
def test_many_rows_and_slices(stochastic):
    """And tensors whose states are float32 beside others."""
    options = {"state": "8bit", "least": 100, "stochastic": stochastic}
    same_bits_as_the_reference(RULES["adamw"], (np.float32, np.float32), EIGHT_LARGE, **options)


@needs_warps
@pytest.mark.parametrize("rule", ["adamw", "sgd_momentum"])
def test_numbers_at_the_edge(rule):
    """Blocks of zeros, with an infinity, a NaN, or nothing but the smallest and the largest numbers."""
    tiny, huge = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
    odd = [[], [np.nan], [np.inf, 1.0], [-np.inf, np.nan], [tiny, -tiny], [huge, -huge, tiny], [1e-30, 1.0, -0.0]]
    g = np.zeros(len(odd) * quantization.QUANT_BLOCK - 9, np.float32)
    for number, values in enumerate(odd):
        g[number * quantization.QUANT_BLOCK + 100 :][: len(values)] = values
    results = []
    for make in (cuda_on_cpu.Engine, ReferenceEngine):
        model = Model(RULES[rule], np.float32, np.float32, [dense(g.size)], Host(), state="8bit")
        [tensor], gradient = model.tensors, model.place(Array(g.shape), model.dtype)
        gradient.array[:] = g
        engine = make(model.tensors)
        for step in (1, 2):
            model.step(engine, step, [gradient])
        results.append([memory.array for memory in (tensor.parameter, *tensor.states, *tensor.scales())])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.isnan(results[0][-1]).tolist() == [False, True, True, True, False, rule == "adamw", False]
