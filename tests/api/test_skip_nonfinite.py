"""Steps that are skipped, of rules that measure: with groups, missing gradients and sums of gradients."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from bits import everything
from cases import CASES, arrays

import schuss

MEASURING = [case for case in CASES if case.rule.measure is not None]
ONE_TENSOR, ALL_TENSORS = (next(c for c in MEASURING if c.make is make) for make in (schuss.LAMB, schuss.Prodigy))
SIZES = [(6, 5), 7, 3]


def skipped_run(case, backend):
    one, two, three = params = arrays(SIZES, np.float32, 0)
    optimizer = case.make([{"params": [one, two]}, {"params": three}], **case.options, backend=backend)

    def gradients(seed, bad=None, value=None, missing=None):
        made = arrays(SIZES, np.float32, seed)
        if bad is not None:
            made[bad].flat[-1] = value
        found = [None if number == missing else g for number, g in enumerate(made)]
        return [found[:2], found[2]]

    for seed in range(1, 4):
        missing = None if seed == 1 else seed % 2  # the first step makes all states
        assert not optimizer.step(gradients(seed, missing=missing), skip_nonfinite=True, clip_norm=1.0).skipped
        before = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(everything(optimizer))
        for bad, value in enumerate((np.inf, np.nan, -np.inf)):
            assert optimizer.step(gradients(9, bad, value), skip_nonfinite=True, grad_scale=0.5).skipped
            optimizer.accumulate(gradients(8))
            optimizer.accumulate(gradients(9, bad, value))
            assert optimizer.step(skip_nonfinite=True).skipped
        after = optimizer.state_dict(), everything(optimizer)
        np.testing.assert_equal(after, before)
    assert all(np.isfinite(p).all() for p in params)


@pytest.mark.parametrize("case", MEASURING, ids=str)
def test_skipped_steps_leave_all_as_it_was(case):
    skipped_run(case, "numpy")


@pytest.mark.parametrize("case", [ONE_TENSOR, ALL_TENSORS], ids=str)
def test_the_same_on_every_backend(case, backend):
    skipped_run(case, "auto" if backend == "native" else backend)
