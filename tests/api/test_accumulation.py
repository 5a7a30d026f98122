"""Sums of gradients that no step has taken yet: dropped, saved and loaded."""

from __future__ import annotations

import numpy as np
import pytest
from bits import assert_same_everything
from cases import arrays

import schuss

SIZES = [(4, 3), 5, 2]


def built(**options):
    return schuss.Adam(arrays(SIZES, np.float32, 0), lr=0.1, backend="numpy", **options)


def batch(seed, dtype=np.float32, missing=None):
    return [None if n == missing else g.astype(dtype) for n, g in enumerate(arrays(SIZES, np.float32, seed))]


def test_a_state_dict_in_the_middle_carries_them():
    straight, resumed = built(), built()
    for optimizer in (straight, resumed):
        optimizer.step(batch(1))
        optimizer.accumulate(batch(2, np.float16, missing=2))
    again = schuss.Adam([p.copy() for p in resumed.params], lr=0.1, backend="numpy")
    again.load_state_dict(resumed.state_dict())
    assert list(again.state_dict()["accumulated"]) == ["0", "1"]
    for optimizer in (straight, again):
        optimizer.accumulate(batch(3, missing=2))
        optimizer.step(grad_scale=0.5)
    assert_same_everything(again, straight)
    assert "accumulated" not in again.state_dict()
    assert again.state_dict()["state"]["2"]["step"] == 1


def test_loading_drops_what_was_there():
    optimizer = built()
    saved = optimizer.state_dict()
    optimizer.accumulate(batch(1))
    optimizer.load_state_dict(saved)
    optimizer.accumulate(batch(2))
    optimizer.step()
    other = built()
    other.step(batch(2))
    assert_same_everything(optimizer, other)


def test_discarding():
    optimizer, other = built(), built()
    optimizer.discard_accumulated()  # nothing yet
    optimizer.accumulate(batch(1))
    optimizer.discard_accumulated()
    with pytest.raises(ValueError, match="no gradients were given, and none were accumulated"):
        optimizer.step()
    optimizer.accumulate(batch(2))
    optimizer.step()
    other.step(batch(2))
    assert_same_everything(optimizer, other)


@pytest.mark.parametrize(
    ("sums", "message"),
    [
        ([], r"state_dict\['accumulated'\]: expected a dict, got list"),
        ({"w": np.zeros(5, np.float32)}, r"state_dict\['accumulated'\]: 'w' is no parameter"),
        ({"1": np.zeros(4, np.float32)}, r"\['accumulated'\]\['1'\]: expected shape \(5,\), got \(4,\)"),
        ({"1": np.zeros(5)}, r"\['accumulated'\]\['1'\]: expected dtype float32, got float64"),
    ],
)
def test_sums_that_do_not_fit(sums, message):
    optimizer = built()
    optimizer.step(batch(1))
    optimizer.accumulate(batch(2))
    saved = optimizer.state_dict()
    other = built()
    other.accumulate(batch(3))
    before = other.state_dict()
    with pytest.raises((TypeError, ValueError), match=message):
        other.load_state_dict({**saved, "accumulated": sums})
    after = other.state_dict()
    assert after["steps"] == 0
    for name, total in before["accumulated"].items():
        np.testing.assert_array_equal(after["accumulated"][name], total)
