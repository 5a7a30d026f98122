"""Functions of one number for updates to call: the same bits in numpy, on the CPU and on CUDA.

Roots and powers are made of plain arithmetic, as no two libraries round theirs alike. Both bring ``x`` into a short
interval by comparisons and multiplications, each of which halves the exponents that are left, and multiply the result
by the power of every factor: :func:`cube_root` a first guess, which a series then makes exact; :func:`power` a number
of :func:`power_table`. In float32 the cube root's first guess comes from the bits. There is no division, no root and no
branch.
"""

import functools
import math
from collections import namedtuple

from numpy import float32, int32

from .specialize import on_arrays, primitive

INFINITE = math.inf

GUESS_FACTOR, GUESS_FROM = -1.0 / 3.0, 1419967116.0
"""Slope and start of :func:`first_guess`, in the bits of a float32."""

WIDE = 1e-300
"""Zero in float32: what stands under ``if WIDE > 0.0`` is for float64 alone, and no instruction in float32."""


@primitive
def select(condition, a, b):
    """Return ``a`` where the condition is true, else ``b``; both are computed."""
    return a if condition else b


def product(coefficient, x):
    """Return ``coefficient * x``, and 0 where the coefficient is zero, which means off: of an infinite ``x`` too."""
    return select(coefficient == 0.0, 0.0, coefficient * x)


def difference(a, b):
    """Return ``a - b``, and 0 where they are equal: two infinities, too."""
    return select(a == b, 0.0, a - b)


def finite_part(x):
    """Return ``x``, and 0 where it is infinite: what masks an element counts in no norm."""
    return select(abs(x) == INFINITE, 0.0, x)


def decayed(g, weight_decay, p):
    """Return ``g + weight_decay * p``, and ``g`` where there is no decay: of an infinite ``p`` too, as torch does."""
    return select(weight_decay == 0.0, g, g + weight_decay * p)


def maximum(a, b):
    """Return the larger of two; NaN where either is, as ``numpy.maximum``."""
    return a if a >= b else (b if b == b and a == a else a + b)


def sign(x):
    """Return -1, 0 or 1; NaN where ``x`` is, as ``numpy.sign``."""
    return 1.0 if x > 0.0 else (-1.0 if x < 0.0 else x * 0.0 + 0.0)


def signed(size, x):
    """Return ``size * sign(x)`` of a finite size, in fewer instructions."""
    return size if x > 0.0 else (-size if x < 0.0 else x * 0.0 + 0.0)


def is_huge(x):
    """Return whether the square of a number comes near to overflowing."""
    return abs(x) * 2.0**-500 > 1.0 if WIDE > 0.0 else abs(x) > 2.0**60


def square(x):
    """Return ``x * x``, and 0 where that comes near to overflowing: :func:`huge_square` has it then."""
    x = select(is_huge(x), 0.0, x)
    return x * x


def huge_square(x):
    """Return what :func:`square` leaves out, in another unit: ``(x * 2**-80)**2``, in float64 ``-(x * 2**-540)**2``."""
    x = select(is_huge(x), x, 0.0)
    if WIDE > 0.0:
        x = x * 2.0**-540
        return -(x * x)
    x = x * 2.0**-80
    return x * x


def norm(squares, huge):
    """Return the root of a sum of squares, in float64, from the sums of :func:`square` and :func:`huge_square`.

    The sign of the second says which unit it has.
    """
    if huge == 0.0:
        return math.sqrt(squares)
    if huge < 0.0:
        return math.sqrt(squares * 2.0**-540 * 2.0**-540 - huge) * 2.0**540
    return math.sqrt(squares * 2.0**-160 + huge) * 2.0**80


@primitive
def first_guess(x):
    """One over the cube root of a float32, within 4 percent: its bits, taken as a whole number, are nearly a logarithm.

    Numba's ``view`` asks for a GPU: kernels have :func:`.lowering.primitives.first_guess` in its place.
    """
    return int32(float32(float32(x).view(int32)) * GUESS_FACTOR + GUESS_FROM).view(float32)


def cube_root(x):
    """Return the cube root of ``x >= 0``, to about an ulp; infinite and NaN where ``x`` is."""
    if WIDE > 0.0:  # float64: from exponents -1074 to 1023 to -26 to 106
        low = x < 2.0**-26
        m, r = x / select(low, 2.0**-1020, 1.0) * select(low, 2.0**30, 1.0), 1.0 / select(low, 2.0**-350, 1.0)
        big = m * 2.0**-500 >= 1.0
        m, r = m * select(big, 2.0**-525, 1.0), r * select(big, 2.0**-175, 1.0)
        big = m * 2.0**-239 >= 1.0
        m, r = m * select(big, 2.0**-264, 1.0), r * select(big, 2.0**-88, 1.0)
        big = m >= 2.0**107
        m, r = m * select(big, 2.0**-132, 1.0), r * select(big, 2.0**-44, 1.0)
        big = m >= 2.0**52
        m, r = m * select(big, 2.0**-78, 1.0), r * select(big, 2.0**-26, 1.0)
        big = m >= 2.0**13
        m, r = m * select(big, 2.0**-39, 1.0), r * select(big, 2.0**-13, 1.0)
        low = m < 2.0**-6.5
        m, r = m * select(low, 2.0**19.5, 1.0), r * select(low, 2.0**6.5, 1.0)
        big = m >= 2.0**3.25
        m, r = m * select(big, 2.0**-9.75, 1.0), r * select(big, 2.0**-3.25, 1.0)
        low = m < 2.0**-1.625
        m, r = m * select(low, 2.0**4.875, 1.0), r * select(low, 2.0**1.625, 1.0)
        big = m >= 2.0**0.8125
        m, r = m * select(big, 2.0**-2.4375, 1.0), r * select(big, 2.0**-0.8125, 1.0)
        # One over the root of what is left, within 0.8 percent: the best cubic on [2**-1.625, 2**0.8125].
        r = r * (1.913763 + m * (-1.787941 + m * (1.133865 - m * 0.267436)))
        # With e = 1 - x * r**3, the root is x * r**2 * (1 - e)**(-2/3), and one over it r * (1 - e)**(-1/3).
        e = 1.0 - x * r * r * r
        r = r + r * (e * (1.0 / 3.0 + e * (2.0 / 9.0 + e * (14.0 / 81.0 + e * (35.0 / 243.0)))))
        y = x * r * r
        e = 1.0 - y * r
        y = y + y * (e * (2.0 / 3.0 + e * (5.0 / 9.0 + e * (40.0 / 81.0 + e * (110.0 / 243.0)))))
        return select(x < INFINITE, y, x)
    # float32: a step of the series above makes the guess good to 0.03 percent, the next exact.
    low = x < 2.0**-100
    m = x * select(low, 2.0**63, 1.0)
    r = first_guess(abs(m))
    e = 1.0 - m * r * r * r
    r = r + r * (e * (1.0 / 3.0 + e * (2.0 / 9.0)))
    y = m * r * r
    e = 1.0 - y * r
    y = (y + y * (e * (2.0 / 3.0 + e * (5.0 / 9.0)))) * select(low, 2.0**-21, 1.0)
    return select(x < INFINITE, y, x)


_SHIFTS = {
    "up_525": -525,  # this and the next two in float64 only; divided by, as downwards they overflow float32
    "up_264": -264,
    "up_132": -132,
    "up_126": -126,  # float32 only
    "down_78": 78,
    "down_39": 39,
    "up_20": -20,
    "down_10": 10,
    "up_5": -5,
    "down_5_2": 2.5,
    "up_5_4": -1.25,
    "up_5_8": -0.625,
    "down_5_16": 0.3125,
}
"""Field of the table -> base-2 logarithm of the factor of ``x`` that it is a power of; see :func:`power`."""

_TERMS = tuple(f"term_{k}" for k in range(14))
_CENTRE = (2.0**-0.125 + 2.0**0.1875) / 2.0

POWER = (*_SHIFTS, *_TERMS)
"""The fields of :func:`power_table`: a rule that takes powers has them among its Scalars."""

_Table = namedtuple("_Table", POWER)  # type: ignore[misc]


@functools.cache
def power_table(y):
    """Return the numbers that :func:`power` needs for an exponent: powers of its factors, then terms of a series."""
    from fractions import Fraction  # here: few rules take powers

    terms, binomial = [], 1.0
    for k in range(len(_TERMS)):
        terms.append(binomial * _CENTRE ** (y - k))
        binomial *= (y - k) / (k + 1)
    return tuple(_two_to(Fraction(shift) * Fraction(y)) for shift in _SHIFTS.values()) + tuple(terms)


def _two_to(exponent):
    """Return two to the power of a fraction: a float's 53 bits would be too few for a large one."""
    whole = round(exponent)
    return math.ldexp(2.0 ** float(exponent - whole), whole)


def power(x, h):
    """Return ``x**y`` for ``x >= 0`` and 0 < y <= 1; ``h`` has the fields of ``power_table(y)``.

    To a few ulps, 5e-7 in float32 and 2e-15 in float64. A result within a factor of 2**27 of the largest number
    (in float64 2**100 of that or the smallest) may overflow or lose bits on the way.
    """
    if WIDE > 0.0:  # as in the cube root; the power of 2**1050 in two factors, none of which is subnormal
        low = x < 2.0**-26
        m, half = x / select(low, 2.0**-1020, 1.0) * select(low, 2.0**30, 1.0), select(low, h.up_525, 1.0)
        big = m * 2.0**-499 >= 1.0
        m, r = m * select(big, 2.0**-525, 1.0), half / select(big, h.up_525, 1.0)
        big = m * 2.0**-238 >= 1.0
        m, q = m * select(big, 2.0**-264, 1.0), select(big, h.up_264, 1.0)
        big = m >= 2.0**106
        m, r = m * select(big, 2.0**-132, 1.0), r * (half / (q * select(big, h.up_132, 1.0)))
    else:
        low = x < 1.0
        m, r = x * select(low, 2.0**126, 1.0), select(low, h.up_126, 1.0)
    big = m >= 2.0**52
    m, r = m * select(big, 2.0**-78, 1.0), r * select(big, h.down_78, 1.0)
    big = m >= 2.0**13
    m, r = m * select(big, 2.0**-39, 1.0), r * select(big, h.down_39, 1.0)
    low = m < 2.0**-7
    m, r = m * select(low, 2.0**20, 1.0), r * select(low, h.up_20, 1.0)
    big = m >= 2.0**3
    m, r = m * select(big, 2.0**-10, 1.0), r * select(big, h.down_10, 1.0)
    low = m < 2.0**-2
    m, r = m * select(low, 2.0**5, 1.0), r * select(low, h.up_5, 1.0)
    big = m >= 2.0**0.5
    m, r = m * select(big, 2.0**-2.5, 1.0), r * select(big, h.down_5_2, 1.0)
    low = m < 2.0**-0.75
    m, r = m * select(low, 2.0**1.25, 1.0), r * select(low, h.up_5_4, 1.0)
    low = m < 2.0**-0.125
    m, r = m * select(low, 2.0**0.625, 1.0), r * select(low, h.up_5_8, 1.0)
    big = m >= 2.0**0.1875
    m, r = m * select(big, 2.0**-0.3125, 1.0), r * select(big, h.down_5_16, 1.0)
    u = m - (2.0**-0.125 + 2.0**0.1875) / 2.0  # at most 0.111: the binomial series about the middle
    if WIDE > 0.0:
        tail = h.term_10 + u * (h.term_11 + u * (h.term_12 + u * h.term_13))
        tail = h.term_6 + u * (h.term_7 + u * (h.term_8 + u * (h.term_9 + u * tail)))
        last = h.term_5 + u * tail
    else:
        last = h.term_5
    y = r * (h.term_0 + u * (h.term_1 + u * (h.term_2 + u * (h.term_3 + u * (h.term_4 + u * last)))))
    return select(x > 0.0, select(x < INFINITE, y, x), x)


def power_of(x, y):
    """Return ``x**y`` of an array, the same bits as :func:`power`."""
    scalar_type = x.dtype.type
    return on_arrays(power, scalar_type)(x, _Table(*map(scalar_type, power_table(y))))


def product_of(coefficient, x):
    """:func:`product` of an array."""
    scalar_type = x.dtype.type
    return on_arrays(product, scalar_type)(scalar_type(coefficient), x)


def square_of(x):
    """:func:`square` of an array."""
    return on_arrays(square, x.dtype.type)(x)


def huge_square_of(x):
    """:func:`huge_square` of an array."""
    return on_arrays(huge_square, x.dtype.type)(x)


def difference_of(a, b):
    """:func:`difference` of arrays."""
    return on_arrays(difference, a.dtype.type)(a, b)


def finite_part_of(x):
    """:func:`finite_part` of an array."""
    return on_arrays(finite_part, x.dtype.type)(x)


def decayed_by(g, weight_decay, p):
    """:func:`decayed` of arrays."""
    scalar_type = p.dtype.type
    return on_arrays(decayed, scalar_type)(g, scalar_type(weight_decay), p)
