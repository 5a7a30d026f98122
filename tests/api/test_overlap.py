"""Arrays that share memory are found, and only those; views that lie between one another are told apart in no time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from schuss_kernels.storage.memory import Memory

from schuss.core import overlap
from schuss.core.overlap import overlapping


def some_view(rng, base):
    view = base
    for _ in range(rng.integers(1, 4)):
        index = []
        for size in view.shape:
            first, last = sorted(rng.integers(0, size + 1, 2).tolist())
            choices = [
                slice(None),
                slice(first, last),
                slice(None, None, int(rng.integers(1, 4))),
                slice(last, None, -2),
            ]
            index.append(choices[rng.integers(0, 4)] if rng.random() < 0.9 else slice(first, first + 1))
        view = view[tuple(index)]
    return view.T if rng.random() < 0.3 else view


@pytest.mark.parametrize("seed", range(4))
def test_views_of_one_array_as_numpy_finds_them(seed):
    rng, outcomes = np.random.default_rng(seed), []
    for _ in range(60):
        base = np.zeros(rng.integers(1, 9, rng.integers(1, 4)), rng.choice([np.float32, np.float64]))
        views = [some_view(rng, base) for _ in range(rng.integers(2, 7))]
        memories, first = [Memory.of(view) for view in views], int(rng.integers(1, len(views)))
        pairs = {
            (a, b) for a, b in itertools.combinations(range(len(views)), 2) if np.shares_memory(views[a], views[b])
        }
        across = {(a, b) for a, b in pairs if a < first <= b}
        for clash, expected in ((overlapping(memories), pairs), (overlapping(memories, first), across)):
            assert clash in expected if expected else clash is None
        outcomes.append(bool(pairs))
    assert {True, False} == set(outcomes)


def columns(count):
    matrix = np.zeros((30, count), np.float32)
    return [matrix[:, number] for number in range(count)]


def blocks(count):
    matrix = np.zeros((30, 2 * count), np.float32)
    pairs = [matrix[:, 2 * number : 2 * number + 2] for number in range(1, count)]
    return [half for pair in pairs for half in (pair[:9], pair[9:])] + [matrix[3:, :2], matrix[:3, :2]]


def fibres(count):
    cube = np.zeros((6, 5, count), np.float32)
    return [cube[:, :4, number] for number in range(count)]


def every_other_row(count):
    matrix = np.zeros((30, count), np.float32)
    return [matrix[first::2, number] for number in range(count) for first in (0, 1)]


@pytest.mark.parametrize("make", [columns, blocks, fibres, every_other_row])
def test_no_two_of_many_interleaved_views_are_compared(make, monkeypatch):
    compared = []
    monkeypatch.setattr(overlap, "overlap", lambda *pair: compared.append(pair))
    memories = [Memory.of(view) for view in make(100)]
    assert overlapping(memories) is None
    assert overlapping(memories, 50) is None
    assert not compared
    monkeypatch.undo()
    assert overlapping([*memories, memories[7]]) == (7, len(memories))
    assert overlapping([*memories, memories[7]], len(memories)) == (7, len(memories))
