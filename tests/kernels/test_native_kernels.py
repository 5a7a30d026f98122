"""Every kernel that was compiled ahead of time, at every instruction-set level: the bits of the numpy reference."""

from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_everything
from cases import NATIVE_LEVELS, arrays, needs_native, one_a_kernel
from layouts import every_second
from schuss_kernels.native import aot, library
from schuss_kernels.plan import chunk_table

SHAPES = [(0,), (1,), (7,), (33,), (256,), (3, 5, 67), (4001,)]


def specs_of(rule):
    """What the kernels of a rule are compiled for."""
    specs = [spec for made, spec in aot.specs() if (made.update, made.measure) == (rule.update, rule.measure)]
    return list({spec.form: spec for spec in specs if not spec.measure}.values())


def options_of(rule, spec):
    """The options of an optimizer that make its tensors need such a kernel."""
    options = {"rounding": "stochastic", "seed": 3} if spec.stochastic else {}
    if spec.master:
        options["master"] = spec.master
    if spec.ema:
        options["ema"] = 0.9
    kept = [state for name, state in zip(rule.State._fields, spec.states, strict=True) if name not in rule.weights]
    if spec.quantized_states:
        options |= {"state_dtype": "8bit", "min_8bit_size": 0}
    elif kept and kept[0].dtype != spec.compute:
        options["state_dtype"] = kept[0].dtype
    return options


def stepped(case, spec, backend):
    """An optimizer that needs the kernel, after three steps."""
    layout = every_second if spec.strided else np.copy
    params, options = [layout(p) for p in arrays(SHAPES, spec.parameter.dtype, 0)], options_of(case.rule, spec)
    if spec.copy:
        options["copy_to"] = [np.zeros(p.shape, spec.copy.dtype) for p in params]
    optimizer = case.make(params, **case.options, **options, backend=backend)
    for step in range(3):
        gradients = [layout(g) for g in arrays(SHAPES, spec.gradient.dtype, 1 + step)]
        optimizer.step(gradients, zero_grad=spec.zero)
    if backend == "auto":
        kernels = set(optimizer._stepper.engine.plan.rows[:, chunk_table.KERNEL].tolist())
        assert kernels <= set(library.library().kernels.values()), f"not compiled ahead of time: {spec.form}"
    return optimizer


@needs_native
@pytest.mark.parametrize("case", [case for case in one_a_kernel() if not case.rule.matrix], ids=str)
def test_every_kernel_that_was_compiled(case, monkeypatch):
    assert specs_of(case.rule)
    for spec in specs_of(case.rule):
        reference = stepped(case, spec, "numpy")
        for level in NATIVE_LEVELS:
            monkeypatch.setenv(library.LEVEL, level.removeprefix("native "))
            library.library.cache_clear()
            assert_same_everything(stepped(case, spec, "auto"), reference)
    library.library.cache_clear()
