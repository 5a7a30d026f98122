"""The bits of all that an optimizer moves, in any dtype."""

from __future__ import annotations

import numpy as np
import pytest

BFLOAT16 = pytest.importorskip("ml_dtypes").bfloat16


def everything(optimizer):
    """The bits of all that an optimizer moves; None for a state that is not there before its first gradient."""
    memories = [m for t in optimizer._stepper.engine.tensors for m in (t.parameter, *t.stored_arrays(), *t.scales())]
    return [None if memory.array is None else raw(memory.array) for memory in memories]


def raw(array):
    """Bits; every NaN is the same."""
    dense = np.ascontiguousarray(array)
    bits = dense.view(f"u{dense.dtype.itemsize}")
    if dense.dtype.kind in "iu":
        return bits
    return np.where(np.isnan(dense.astype(np.float64)), bits.dtype.type(0xFFFF), bits)


def assert_same_everything(one, other):
    for ours, expected in zip(everything(one), everything(other), strict=True):
        np.testing.assert_array_equal(ours, expected)
