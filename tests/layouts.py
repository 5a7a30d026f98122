"""Arrays of every layout: slices, transposes, reversed and unaligned ones."""

from __future__ import annotations

import numpy as np


def like(array):
    """A copy with the same strides, whatever they are."""
    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    memory = np.frombuffer(bytearray(base.tobytes("A")), np.uint8)
    offset = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return np.ndarray(array.shape, array.dtype, memory, offset, array.strides)


def strided(seed):
    draw = np.random.default_rng(seed)
    yield draw.standard_normal((6, 50, 4))
    yield np.asfortranarray(draw.standard_normal((30, 70)))
    yield draw.standard_normal((40, 60))[::2, 1:59:3]
    yield draw.standard_normal(3000)[::-1]
    yield draw.standard_normal(())


def strided_arrays(dtype, seed):
    """Parameters of every layout; each stands alone in its memory."""
    rng = np.random.default_rng(seed)

    def new(*shape):
        return np.asarray(rng.standard_normal(shape), dtype)

    raw = np.frombuffer(bytearray(new(101).tobytes() + b"\0" * 16), np.uint8)
    return {
        "C": new(6, 5, 4),
        "F": np.asfortranarray(new(6, 5, 4)),
        "transposed": new(6, 5, 4).transpose(2, 0, 1),
        "sliced": new(20, 30)[::2, 1:29:3],
        "every third": new(300)[::3],
        "reversed": new(100)[::-1],
        "reversed rows": new(9, 11)[::-1],
        "reversed both": new(9, 11)[::-1, ::-1],
        "0-d": np.array(2.5, dtype),
        "0-d view": new(5)[2:3].reshape(()),
        "empty": new(0),
        "empty 2-d": new(3, 0, 2),
        "unaligned": np.ndarray((101,), dtype, raw, 1),
        "one element": new(1, 1, 1),
        "thin": new(1, 50, 1),
        "column": new(70, 3)[:, 1:2],
        "deep": new(2, 3, 2, 3, 2, 3)[:, ::-1, :, ::2].transpose(5, 1, 3, 0, 4, 2),
    }


GRADIENT_LAYOUTS = {
    "same": like,
    "C": lambda p: np.ascontiguousarray(p).reshape(p.shape),
    "F": lambda p: np.asarray(p, order="F").copy(order="F"),
    "every second": lambda p: np.stack([p, p], -1)[..., 0],
    "reversed": lambda p: np.flip(np.flip(p).copy()),
    "one number": lambda p: np.broadcast_to(p.dtype.type(0.5), p.shape),
    "read-only": lambda p: _read_only(p.copy()),
}


def _read_only(array):
    array.flags.writeable = False
    return array


def every_second(array):
    """The same numbers in every second place of another array's last axis."""
    return np.repeat(array, 2, -1)[..., ::2] if array.ndim and array.size else array
