"""States in 8 bits: a code an element, one float32 scale for every 256 elements.

Neighbours in memory share a scale, so that one large value costs only its block the resolution (Dettmers et al. 2022,
"8-bit Optimizers via Block-wise Quantization", section 2.1). What a code stands for is a power of it::

    value = scale * power(code / levels)         levels = 128: first moments and other signed states, about the square
                                                 levels = 256: what is never negative, about the fourth power

``power`` multiplies the exponent and the mantissa of a float32, taken as one number, by 2 or 4: a straight line within
every half (quarter) octave, and close to the power itself. Codes lie dense where values are small: the smallest that
is told from zero is 2**-14 of the largest in its block for a signed state and 2**-32 for a second moment (whose root,
which is what an optimizer divides by, then reaches down to 2**-16 of the largest). Both ways take a few integer
operations, no table and no root, and rounding at random is right on average, as lines meet only at codes. A second
moment above zero never becomes zero.

A block with an infinity or a NaN has the scale NaN: all of it is NaN from then on.

This is the numpy form of both directions, which the kernels have to equal bit for bit.
"""

from __future__ import annotations

import numpy as np

SIZE = 256
"""Elements that share a scale: neighbours in the order of the walk."""

ONE = 0x3F800000
"""The bits of 1.0."""

TOP = 0x3F7C0000
"""The bits of 63/64: the power of the largest code, 127 of 128 or 255 of 256. It stands for a block's largest value."""

UP = np.float32(64.0) / np.float32(63.0)
LEAST, MOST = np.finfo(np.float32).smallest_normal, np.finfo(np.float32).max
"""What a scale may be."""

INFINITE = 0x7F800000
MAGNITUDE = 0x7FFFFFFF


def shift(signed: bool) -> int:
    """How often the exponent is doubled."""
    return 1 if signed else 2


def octaves(signed: bool) -> int:
    """The levels are two to the power of this."""
    return 7 if signed else 8


def count(size: int) -> int:
    """Scales of so many elements."""
    return -(-size // SIZE)


def encode(values: np.ndarray, signed: bool, draw: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Float32 values in one row as codes (int8 where ``signed``, else uint8) and the scales of their blocks.

    ``draw``: 16 random bits for each; without them codes are rounded to the nearest. What is not ``signed`` and below
    zero becomes zero.
    """
    with np.errstate(all="ignore"):
        blocks = np.zeros((count(values.size), SIZE), np.float32)
        blocks.reshape(-1)[: values.size] = values
        raw = blocks.view(np.int32)
        peaks = (raw & MAGNITUDE).max(axis=1, initial=0)
        odd = peaks >= INFINITE
        scales = np.minimum(np.maximum(peaks.view(np.float32) * UP, LEAST), MOST)
        scales[odd] = LEAST
        inverse = np.float32(1.0) / scales
        scales[odd] = np.nan
        limits = np.where(odd, np.int32(0), np.int32(TOP))

        size = (raw & MAGNITUDE) if signed else raw
        shares = (size.view(np.float32) * inverse[:, None]).view(np.int32)
        shares = np.minimum(shares, limits[:, None])
        if not signed:
            shares = np.maximum(shares, 0)
        bits = shift(signed)
        levels = ((shares >> bits) + np.int32(ONE - (ONE >> bits) + (octaves(signed) << 23))).view(np.float32)
        more = np.full(blocks.shape, 0.5, np.float32)
        if draw is not None:
            more.reshape(-1)[: values.size] = draw.astype(np.float32) * np.float32(2.0**-16)
        codes = (levels + more).astype(np.int32)
        codes = np.where(raw < 0, -codes, codes) if signed else np.maximum(codes, np.minimum(shares, 1))
    return codes.reshape(-1)[: values.size].astype(np.int8 if signed else np.uint8), scales


def decode(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The float32 values of codes in one row."""
    signed = codes.dtype == np.int8
    wide = codes.astype(np.int32)
    raw = np.abs(wide).astype(np.float32).view(np.uint32) << np.uint32(shift(signed))
    raw += np.uint32(offset(signed))
    raw = np.where(wide == 0, np.uint32(0), raw) | (wide.view(np.uint32) & np.uint32(1 << 31))
    return raw.view(np.float32) * np.repeat(scales, SIZE)[: codes.size]


def offset(signed: bool) -> int:
    """What is added to the bits of a code, as a number and shifted, to have its power; modulo 2**32."""
    return (ONE - ((ONE + (octaves(signed) << 23)) << shift(signed))) % (1 << 32)
