"""Stochastic rounding to 16 bits in numpy: what the kernels have to equal, and the constants they share.

A value between two neighbours that can be stored becomes the upper one with a probability that grows with its distance
from the lower, so that the mean is right where a step is too small to be stored. The random bits come from a counter,
not from a state: tensor, element, step and seed, hashed with lowbias32 (Chris Wellons, "Prospecting for Hash
Functions", 2018).
"""

from __future__ import annotations

import numpy as np

MIX_FIRST, MIX_SECOND = 0x7FEB352D, 0x846CA68B
KEY_FACTORS = (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35)
MIX_NEXT = 0x9E3779B1
"""Constants of the hash."""

_KEY_BITS = 24  # of half a key: a float32 holds them exactly


def key(seed: int, step: int) -> tuple[int, int]:
    """Return the key of a step's random bits: two integers below 2**24."""
    word = _mixed_word(seed ^ 0xA511E9B3)
    high = _mixed_word(word + step * KEY_FACTORS[0])
    low = _mixed_word(high ^ (seed >> 32) ^ (step >> 32))
    return high >> (32 - _KEY_BITS), low >> (32 - _KEY_BITS)


def _mixed_word(word: int) -> int:
    word &= 0xFFFFFFFF
    word = (word ^ word >> 16) * MIX_FIRST & 0xFFFFFFFF
    word = (word ^ word >> 15) * MIX_SECOND & 0xFFFFFFFF
    return word ^ word >> 16


def _mixed(word: np.ndarray) -> np.ndarray:
    word = word ^ (word >> np.uint32(16))
    word = word * np.uint32(MIX_FIRST)
    word = word ^ (word >> np.uint32(15))
    word = word * np.uint32(MIX_SECOND)
    return word ^ (word >> np.uint32(16))


def draws(halves: tuple[int, int], tensor: int, size: int, streams: int) -> list[np.ndarray]:
    """Return for each of ``streams`` arrays 16 random bits an element, in 32. ``halves``: the step's key."""
    words = np.array([*halves, tensor], np.uint32) * np.array(KEY_FACTORS, np.uint32)
    start = _mixed(np.array([words.sum(dtype=np.uint32)], np.uint32))
    word = _mixed(np.arange(size, dtype=np.uint64).astype(np.uint32) + start)
    made: list[np.ndarray] = []
    while len(made) < streams:
        made += [word & np.uint32(0xFFFF), word >> np.uint32(16)]
        word = (word + np.uint32(MIX_NEXT)) * np.uint32(MIX_FIRST)
        word = word ^ (word >> np.uint32(15))
    return made[:streams]


def rounded(values: np.ndarray, dtype: np.dtype, draw: np.ndarray) -> np.ndarray:
    """Round float32 values stochastically to float16 or bfloat16. ``draw``: 16 random bits for each, in 32."""
    raw = np.asarray(values, np.float32).view(np.uint32)
    nearest = values.astype(np.float32).astype(dtype)
    if dtype.name == "bfloat16":
        made = ((raw + draw) >> np.uint32(16)).astype(np.uint16).view(dtype)
        return np.where(np.isnan(values), nearest, made)
    sign, size = raw & np.uint32(0x80000000), raw & np.uint32(0x7FFFFFFF)
    positive = size.view(np.float32)
    normal = (size - np.uint32(112 << 23) + (draw >> np.uint32(3))) >> np.uint32(13)
    with np.errstate(all="ignore"):
        times = positive * np.float32(2.0**24) + draw.astype(np.float32) * np.float32(2.0**-16)
        denormal = np.where(positive < np.float32(2.0**-14), times, np.float32(0.0)).astype(np.int32).view(np.uint32)
    whole = np.where(positive < np.float32(2.0**-14), denormal, normal) | (sign >> np.uint32(16))
    made = whole.astype(np.uint16).view(dtype)
    return np.where(positive < np.float32(65536.0), made, nearest)


def split(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split float32 values into bits of a bfloat16 (to nearest, ties away from zero) and the 16 bits missing in it."""
    raw = np.asarray(values, np.float32).view(np.uint32)
    nan = np.isnan(values)
    high = np.where(
        nan, (raw >> np.uint32(16)) & np.uint32(0x8000) | np.uint32(0x7FC0), (raw + np.uint32(0x8000)) >> np.uint32(16)
    )
    low = np.where(nan, np.uint32(0), raw & np.uint32(0xFFFF))
    return high.astype(np.uint16), low.astype(np.uint16)


def joined(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Join the float32 values that :func:`split` took apart."""
    wide, rest = high.astype(np.uint32), low.astype(np.uint32)
    return ((wide - (rest >> np.uint32(15)) << np.uint32(16)) | rest).view(np.float32)
