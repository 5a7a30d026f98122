"""Moving averages and copies of tensors that have no gradient."""

from __future__ import annotations

import numpy as np
import pytest
from bits import BFLOAT16, assert_same_everything
from cases import arrays

import schuss

PATTERNS = [(True, True, True), (False, True, True), (False, True, True), (True, False, True), (True, True, False)]
"""Which of three tensors have a gradient, in the steps of a run."""


def stepped(backend, dtype, make=schuss.SGD, patterns=PATTERNS, **options):
    """An optimizer after a run with missing gradients; the averages that it should have, in float64; the bits of it."""
    params = [p.astype(dtype) for p in arrays([(5, 3), 7, 0], np.float32, 0)]
    optimizer = make(params, lr=0.1, ema=0.75, backend=backend, **options)
    exact = [p.astype(np.float64) for p in params]
    for seed, pattern in enumerate(patterns):
        gradients = arrays([(5, 3), 7, 0], np.float32, 1 + seed)
        optimizer.step([g if there else None for g, there in zip(gradients, pattern, strict=True)])
        weights = [optimizer._stepper.exact(number).astype(np.float64) for number in range(3)]
        exact = [0.75 * average + 0.25 * weight for average, weight in zip(exact, weights, strict=True)]
    return optimizer, exact


@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (np.float32, {}),
        (np.float64, {}),
        (np.float16, {}),
        (np.float16, {"master": "float32"}),
        (BFLOAT16, {"master": "remainder"}),
    ],
    ids=["float32", "float64", "float16", "master", "remainder"],
)
def test_the_average_is_of_all_parameters_after_every_step(dtype, options):
    optimizer, exact = stepped("numpy", dtype, **options)
    for average, wanted in zip(optimizer.ema_params, exact, strict=True):
        rounded = dtype is np.float16 and not options  # the average is of what is computed, not of what is kept
        np.testing.assert_allclose(average, wanted, rtol=1e-3 if rounded else 1e-5, atol=1e-3 if rounded else 1e-7)


@pytest.mark.parametrize(
    ("make", "dtype"), [(schuss.SGD, np.float32), (schuss.SGD, np.float64), (schuss.Muon, np.float32)]
)
def test_all_backends_have_the_same_bits(make, dtype, backend):
    ours = stepped("auto" if backend == "native" else backend, dtype, make)[0]
    assert_same_everything(ours, stepped("numpy", dtype, make)[0])


def test_a_step_that_moves_nothing_moves_no_average():
    w, other = np.ones(3, np.float32), np.ones(3, np.float32)
    optimizer = schuss.SGD([w, other], lr=0.5, ema=0.5, backend="numpy")
    optimizer.step([np.ones(3, np.float32), None])
    other[:] = 3.0
    before = [average.copy() for average in optimizer.ema_params]
    optimizer.step([None, None])
    assert optimizer.step([np.full(3, np.nan, np.float32), None], skip_nonfinite=True).skipped
    for average, wanted in zip(optimizer.ema_params, before, strict=True):
        np.testing.assert_array_equal(average, wanted)
    optimizer.step([np.ones(3, np.float32), None])
    assert (optimizer.ema_params[1] == 2.0).all()


def test_a_run_that_is_resumed_while_a_tensor_is_idle():
    straight, resumed = (stepped("numpy", np.float32)[0] for _ in range(2))
    again = schuss.SGD([p.copy() for p in resumed.params], lr=0.1, ema=0.75, backend="numpy")
    again.load_state_dict(resumed.state_dict())
    for optimizer in (straight, again):
        for seed in (8, 9):
            optimizer.step([*arrays([(5, 3), 7], np.float32, seed), None])
    assert_same_everything(again, straight)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, BFLOAT16], ids=lambda dtype: np.dtype(dtype).name)
def test_copies_are_filled_at_once_and_after_loading(dtype):
    weights = np.array([1.0, 1.0 + 2.0**-20, -3.0, 1e-3])
    optimizer, served = None, [np.full(4, 9.0, dtype), np.full(4, 9.0, dtype)]
    params = [weights.copy(), weights.copy()]
    optimizer = schuss.SGD(params, lr=0.5, copy_to=served, backend="numpy")
    expected = weights.astype(np.float32).astype(dtype)  # as in a step: to 16 bits by way of float32
    assert all(copy.tobytes() == expected.tobytes() for copy in served)
    saved = optimizer.state_dict()
    optimizer.step([np.ones(4), None])
    assert served[1].tobytes() == expected.tobytes()
    assert served[0][0] == 0.5
    params[0][:] = weights
    optimizer.load_state_dict(saved)
    assert served[0].tobytes() == expected.tobytes()


def test_a_copy_of_a_remainder_has_the_exact_weight():
    w, served = np.ones(3, BFLOAT16), np.zeros(3, np.float32)
    optimizer = schuss.SGD([w], lr=2.0**-12, master="remainder", copy_to=[served], backend="numpy")
    optimizer.step([np.ones(3, np.float32)])
    saved, served[:] = optimizer.state_dict(), 0.0
    optimizer.load_state_dict(saved)
    assert (served == 1.0 - 2.0**-12).all()
