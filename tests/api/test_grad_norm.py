"""What a step measures before it moves anything: norms beyond the squares' range, and what is finite once scaled."""

from __future__ import annotations

import numpy as np
import pytest
from cases import assert_same_bits

import schuss

ZEROS = np.zeros(2, np.float32)


def stepped(gradients, dtype=None, backend="numpy", **options):
    """Where SGD with lr=1 goes from zeros, and what the step returns."""
    w = [np.zeros(g.shape, dtype or g.dtype) for g in gradients]
    return w, schuss.SGD(w, lr=1.0, backend=backend).step(gradients, **options)


@pytest.mark.parametrize("scale", [1e160, 1e300, 2.5e307])
def test_a_norm_whose_squares_overflow(scale, backend):
    """The last one's norm is beyond float64 itself."""
    rng = np.random.default_rng(0)
    gradients = [rng.uniform(-1, 1, size) * scale * 7 for size in [(1500,), (3, 5), ()]]
    gradients = [np.asarray(g) for g in gradients]
    engine = "auto" if backend == "native" else backend
    w, info = stepped(gradients, backend=engine, clip_norm=0.5, skip_nonfinite=True)
    flat = np.concatenate([g.ravel() for g in gradients])
    norm = np.linalg.norm(flat / scale)
    np.testing.assert_allclose(-np.concatenate([p.ravel() for p in w]), flat / scale / norm * 0.5, rtol=1e-12)
    assert not info.skipped
    assert info.grad_norm == pytest.approx(norm * scale, rel=1e-12)
    for one, reference in zip(w, stepped(gradients, clip_norm=0.5)[0], strict=True):
        assert_same_bits(one, reference)


def test_the_norm_is_measured_where_the_limit_is_infinite():
    w, info = stepped([np.array([3.0, 4.0], np.float32)], clip_norm=np.inf)
    assert info == (5.0, False)
    np.testing.assert_array_equal(w[0], [-3.0, -4.0])


def test_finiteness_is_judged_after_scaling():
    huge = [np.array([1.0, 1e30], np.float32)]
    for riders in ({"grad_scale": 1e10}, {"grad_scale": -1e10}, {"grad_scale": 1e10, "clip_norm": np.inf}):
        w, info = stepped(huge, skip_nonfinite=True, **riders)
        assert info.skipped
        assert info.grad_norm == pytest.approx(1e40, rel=1e-6)
        np.testing.assert_array_equal(w[0], ZEROS)
    w, info = stepped(huge, skip_nonfinite=True, grad_scale=1e10, clip_norm=1.0)  # clipped, they are finite
    assert not info.skipped
    np.testing.assert_allclose(w[0], [-1e-30, -1.0], rtol=1e-6)
    w, info = stepped(huge, np.float64, skip_nonfinite=True, grad_scale=1e10)  # and in float64 they always were
    assert not info.skipped
    assert w[0][1] == -float(huge[0][1]) * 1e10
    many = [np.full(1000, 3e38, np.float32)]  # their norm is beyond float32, none of them is
    assert not stepped(many, skip_nonfinite=True)[1].skipped


def test_a_sum_that_overflows_when_scaled_is_skipped():
    w = [np.ones(2, np.float32)]
    optimizer = schuss.SGD(w, lr=1.0, backend="numpy")
    optimizer.accumulate([np.array([1.0, 3e38], np.float32)])
    assert optimizer.step(grad_scale=10.0, skip_nonfinite=True).skipped
    np.testing.assert_array_equal(w[0], 1.0)


@pytest.mark.parametrize("scale", [1e39, -1e39, 1e-46])
def test_a_scale_that_float32_does_not_have(scale):
    with pytest.raises(ValueError, match=r"grad_scale: expected a number that float32 has, of 1\.4e-45 to 3\.4e\+38"):
        stepped([ZEROS], grad_scale=scale)
    w, _ = stepped([np.array([1e-30])], grad_scale=scale)
    np.testing.assert_allclose(w[0], -1e-30 * scale)


@pytest.mark.parametrize("name", ["grad_scale", "clip_norm", "clip_value"])
def test_numpys_numbers_are_numbers(name):
    gradients = [np.array([0.5, 4.0], np.float32)]
    expected = stepped(gradients, **{name: 0.5})
    for number in (np.float32(0.5), np.float64(0.5), np.array(0.5), np.array(0.5, np.float32)):
        w, info = stepped(gradients, **{name: number})
        assert_same_bits(w, expected[0])
        assert info == expected[1]
    assert stepped(gradients, skip_nonfinite=np.array(True), zero_grad=np.bool_(False))[1].grad_norm is not None
