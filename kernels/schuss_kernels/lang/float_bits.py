"""The bits of floating-point numbers: exponents and signs, for functions that are made of plain arithmetic.

In kernels each is one or two integer instructions (:mod:`..lowering.primitives`), which vectorise on every processor.
The Python functions take NumPy's numbers and arrays, of float32 or float64.
"""

import numpy as np

from .specialize import ByType, primitive

ROUND = ByType(1.5 * 2.0**23, 1.5 * 2.0**52)
"""``(x + ROUND) - ROUND`` is the whole number next to ``x``, halves to even, while ``abs(x) <= ROUND / 3``."""

TWO_TO = ByType(1.5 * 2.0**23 + 127.0, 1.5 * 2.0**52 + 1023.0)
"""What :func:`two_to` wants to be added."""

FORMS = {4: (np.int32, 23, 0x3F800000, 0x3F3504F3), 8: (np.int64, 52, 0x3FF0000000000000, 0x3FE6A09E667F3BCD)}
"""Bytes of a float -> the integer type of its bits, the number of bits behind the exponent, and the bits of 1 and of
the root of a half."""


@primitive
def two_to(n):
    """Return two to the power of a whole number ``n`` given as ``n + TWO_TO``, in the range of normal numbers."""
    integer, after, _, _ = FORMS[n.dtype.itemsize]
    return (n.view(integer) << after).view(n.dtype)


@primitive
def exponent(x):
    """Return the whole number ``k`` for which ``x`` is ``fraction(x) * 2**k``, as a float. It is positive, normal."""
    integer, after, one, half = FORMS[x.dtype.itemsize]
    shifted = (x.view(integer) + integer(one - half)) >> after
    return shifted.astype(x.dtype) - x.dtype.type(one >> after)


@primitive
def fraction(x):
    """Return ``x`` times a power of two, at least the root of a half and below the root of 2; ``x`` as above."""
    integer, after, one, half = FORMS[x.dtype.itemsize]
    return (((x.view(integer) + integer(one - half)) & integer((1 << after) - 1)) + integer(half)).view(x.dtype)


@primitive
def copysign(size, x):
    """Return ``size`` with the sign of ``x``, that of a zero too."""
    return np.copysign(size, x)
