"""Quantized states: a code of 8 bits an element, a float32 scale for every 256 elements.

Neighbours in memory share a scale, so that one large value costs only its block the resolution (Dettmers et al. 2022,
"8-bit Optimizers via Block-wise Quantization", section 2.1). What a code stands for is a power of it::

    value = scale * power(code / levels)         levels = 128: first moments and other signed states, about the square
                                                 levels = 256: what is never negative, about the fourth power

``power`` multiplies the exponent and the mantissa of a float32, taken as one number, by 2 or 4: a straight line within
every half (quarter) octave, and close to the power itself. Codes lie dense where values are small: the smallest that
is told from zero is 2**-14 of the largest in its block for a signed state and 2**-32 for a second moment (whose root,
which is what an optimizer divides by, then reaches down to 2**-16 of the largest). Both ways take a few integer
operations, no table and no root, and stochastic rounding is right on average, as lines meet only at codes. A second
moment above zero never becomes zero.

A block with an infinity or a NaN has the scale NaN: all of it is NaN from then on.

This is the numpy form of both directions, which the kernels have to equal bit for bit.
"""

from __future__ import annotations

import numpy as np

QUANT_BLOCK = 256
"""Elements that share a scale: neighbours in the parameter's memory order."""

ONE_BITS = 0x3F800000
"""The bits of 1.0."""

TOP_BITS = 0x3F7C0000
"""The bits of 63/64: the power of the largest code, 127 of 128 or 255 of 256. It stands for a block's largest value."""

PEAK_TO_SCALE = np.float32(64.0) / np.float32(63.0)
"""A block's largest magnitude times this is its scale, so that the largest code stands for it."""

MIN_SCALE, MAX_SCALE = np.finfo(np.float32).smallest_normal, np.finfo(np.float32).max
"""What a scale may be."""

INFINITY_BITS = 0x7F800000
MAGNITUDE_MASK = 0x7FFFFFFF
"""All bits of a float32 but its sign."""


def power_bits(signed: bool) -> int:
    """How often ``power`` doubles the exponent."""
    return 1 if signed else 2


def level_bits(signed: bool) -> int:
    """The base-2 logarithm of the number of levels."""
    return 7 if signed else 8


def scale_count(size: int) -> int:
    """The number of scales for so many elements."""
    return -(-size // QUANT_BLOCK)


def encode(values: np.ndarray, signed: bool, draw: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Quantize a row of float32 values: codes (int8 where ``signed``, else uint8), and the scales of their blocks.

    ``draw``: 16 random bits for each value; without them codes are rounded to the nearest. Where not ``signed``, values
    below zero become zero.
    """
    with np.errstate(all="ignore"):
        blocks = np.zeros((scale_count(values.size), QUANT_BLOCK), np.float32)
        blocks.reshape(-1)[: values.size] = values
        raw = blocks.view(np.int32)
        peaks = (raw & MAGNITUDE_MASK).max(axis=1, initial=0)
        nonfinite = peaks >= INFINITY_BITS
        scales = np.minimum(np.maximum(peaks.view(np.float32) * PEAK_TO_SCALE, MIN_SCALE), MAX_SCALE)
        scales[nonfinite] = MIN_SCALE
        inverse = np.float32(1.0) / scales
        scales[nonfinite] = np.nan
        limits = np.where(nonfinite, np.int32(0), np.int32(TOP_BITS))

        size = (raw & MAGNITUDE_MASK) if signed else raw
        shares = (size.view(np.float32) * inverse[:, None]).view(np.int32)
        shares = np.minimum(shares, limits[:, None])
        if not signed:
            shares = np.maximum(shares, 0)
        bits = power_bits(signed)
        levels = (shares >> bits) + np.int32(ONE_BITS - (ONE_BITS >> bits) + (level_bits(signed) << 23))
        added = np.full(blocks.shape, 0.5, np.float32)
        if draw is not None:
            added.reshape(-1)[: values.size] = draw.astype(np.float32) * np.float32(2.0**-16)
        codes = (levels.view(np.float32) + added).astype(np.int32)
        codes = np.where(raw < 0, -codes, codes) if signed else np.maximum(codes, np.minimum(shares, 1))
    return codes.reshape(-1)[: values.size].astype(np.int8 if signed else np.uint8), scales


def decode(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return the float32 values of a row of codes (int8 or uint8) and the scales of their blocks."""
    signed = codes.dtype == np.int8
    wide = codes.astype(np.int32)
    raw = np.abs(wide).astype(np.float32).view(np.uint32) << np.uint32(power_bits(signed))
    raw += np.uint32(decode_offset(signed))
    raw = np.where(wide == 0, np.uint32(0), raw) | (wide.view(np.uint32) & np.uint32(1 << 31))
    return raw.view(np.float32) * np.repeat(scales, QUANT_BLOCK)[: codes.size]


def decode_offset(signed: bool) -> int:
    """What added to the shifted bits of a code, as a float32, makes its power; modulo 2**32."""
    return (ONE_BITS - ((ONE_BITS + (level_bits(signed) << 23)) << power_bits(signed))) % (1 << 32)
