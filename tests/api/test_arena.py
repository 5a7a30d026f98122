"""Where states lie: at the start of cache lines, small ones together, and none over another."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from cases import initial_states
from schuss_kernels.storage.memory import Memory, dense_strides

import schuss
from schuss.core.arena import HUGE_PAGE_BYTES, LINE_BYTES, MAX_PIECE_BYTES, Arena

SHAPES = [(), (0,), (3,), (0, 4), (7, 5), (1000,), (513, 257), (1 << 18,), (2, 3, 4, 5)] * 3


def like(shape, order="C"):
    array = np.ones(shape, np.float32, order=order)
    return Memory.of(array)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8, np.uint16, "bfloat16"])
def test_arrays_are_apart_and_lined_up(dtype, order):
    arena, dtype = Arena(), np.dtype(pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype)
    made = [arena.array(like(shape, order), dtype, number) for number, shape in enumerate(SHAPES)]
    for number, (memory, shape) in enumerate(zip(made, SHAPES, strict=True)):
        array = memory.array
        assert array.shape == memory.shape == shape
        assert array.dtype == memory.dtype == dtype
        assert array.strides == memory.strides
        assert array.flags.writeable
        assert array.flags[f"{order}_CONTIGUOUS"]
        assert array.__array_interface__["data"][0] == memory.address
        assert memory.address % LINE_BYTES == 0
        np.testing.assert_array_equal(array, np.full(shape, number, dtype))  # none was written over
    for one, other in itertools.combinations(made, 2):
        assert not np.shares_memory(one.array, other.array)


def test_axes_in_the_order_of_the_parameter():
    array = np.ones((3, 4, 5), np.float32).transpose(1, 2, 0)
    memory = Memory.of(array)
    made = Arena().array(memory, np.dtype(np.float32), 0.0)
    assert made.strides == array.strides == dense_strides((4, 5, 3), [2, 0, 1], 4)


def pieces(arrays):
    return {id(array.base): array.base for array in arrays}


def test_small_arrays_share_pieces():
    arena, small = Arena(), like((1000,))
    made = [arena.array(small, np.dtype(np.float32), 0.0).array for _ in range(20_000)]
    held = pieces(made)
    assert (
        sum(piece.nbytes - LINE_BYTES for piece in held.values())
        <= 2 * sum(array.nbytes for array in made) * 4032 / 4000
    )
    assert all(piece.nbytes <= MAX_PIECE_BYTES + LINE_BYTES for piece in held.values())
    assert sum(piece.nbytes >= HUGE_PAGE_BYTES for piece in held.values()) >= 4
    assert len(held) < 20
    large = arena.array(like((HUGE_PAGE_BYTES // 4,)), np.dtype(np.float32), 0.0).array
    assert large.base.nbytes == HUGE_PAGE_BYTES + LINE_BYTES
    assert id(large.base) not in held


def test_one_small_optimizer_takes_what_it_needs():
    optimizer = schuss.AdamW([np.ones(1000, np.float32)])
    assert initial_states(optimizer)
    held = pieces([memory.array for states in optimizer._stepper.stored.states for memory in states.values()])
    assert sum(piece.nbytes for piece in held.values()) <= 2 * (4032 + LINE_BYTES)


def test_states_masters_and_averages_lie_there():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    parameters = [np.ones(5000, bfloat16), np.ones((30, 40), bfloat16)]
    optimizer = schuss.AdamW(parameters, master="float32", ema=0.9, state_dtype="8bit", backend="numba")
    assert initial_states(optimizer)
    for tensor in optimizer._stepper.engine.tensors:
        scales = tensor.scales()
        assert len(scales) == (2 if tensor.parameter.size >= 4096 else 0)
        for memory in (*tensor.stored_arrays(), *scales):
            assert memory.address % LINE_BYTES == 0
