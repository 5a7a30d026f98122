"""Sine, cosine and arctangent for rules, made as :mod:`.elementary` describes.

:func:`sin` and :func:`cos` are precise while ``abs(x)`` is at most 2**20 in float32, 2**49 in float64. Beyond, where
neighbouring numbers are an eighth and more apart, they return NaN.
"""

import math

from .float_bits import ROUND, copysign
from .scalar_math import select
from .specialize import ByType, Elementary

INFINITE, NAN = math.inf, math.nan

FARTHEST = ByType(2.0**20, 2.0**49)
TWO_OVER_PI = 0.6366197723675814
COARSE, FINE = ByType(2.0**10, 2.0**24), ByType(2.0**-10, 2.0**-24)

# Half of pi in parts of 14 bits (28 in float64) and what is left: products with half of a number's bits are exact.
PART_1 = ByType(1.5706787109375, 1.570796325802803)
PART_2 = ByType(0.00011761486530303955, 9.920935739593517e-10)
PART_3 = ByType(9.918039722833782e-10, 5.721188709663575e-18)
PART_4 = ByType(2.896016759734721e-13, 1.6446256892965207e-26)
PART_5 = ByType(5.721188916458728e-18, 4.3359050650618903e-35)


def _sin_tail_single(z):
    return -0.16666667 + z * (0.008333329 + z * (-0.00019839048 + z * 2.7136387e-06))


def _sin_tail_double(z):
    tail = -2.5052102835192457e-08 + z * (1.605808128214726e-10 + z * -7.564313655548158e-13)
    tail = -0.00019841269841246664 + z * (2.75573192075513e-06 + z * tail)
    return -0.16666666666666666 + z * (0.008333333333333321 + z * tail)


def _cos_tail_single(z):
    return 0.041666668 + z * (-0.0013888886 + z * (2.4799734e-05 + z * -2.7206167e-07))


def _cos_tail_double(z):
    tail = 2.087675390199127e-09 + z * (-1.1470210472129203e-11 + z * 4.733425327343236e-14)
    tail = 2.4801587301574413e-05 + z * (-2.755731921484803e-07 + z * tail)
    return 0.041666666666666664 + z * (-0.0013888888888888883 + z * tail)


sin_tail = ByType(_sin_tail_single, _sin_tail_double)
"""``(sin(r) / r - 1) / z`` of ``z = r**2``, for ``abs(r) <= 0.92``."""
cos_tail = ByType(_cos_tail_single, _cos_tail_double)
"""``(cos(r) - 1 + z / 2) / z**2``."""


def _quarters(x):
    """Return the number of quarter turns next to ``x``."""
    return (x * TWO_OVER_PI + ROUND) - ROUND


def _whole(x):
    return (x + ROUND) - ROUND


def _lost(a, b, difference):
    """Return what rounding took from ``a - b``."""
    taken = a - difference
    return (a - (difference + taken)) + (taken - b)


def _sin_of_quarters(x, more):
    """Return ``sin(x + more * pi / 2)``."""
    n = _quarters(x)
    coarse = _whole(n * FINE) * COARSE
    fine = n - coarse
    # x - n * pi / 2, a product after the other; what rounding takes is kept.
    r1 = x - coarse * PART_1
    r2 = r1 - fine * PART_1
    r3 = r2 - coarse * PART_2
    r4 = r3 - fine * PART_2
    r5 = r4 - coarse * PART_3
    r6 = r5 - fine * PART_3
    r7 = r6 - coarse * PART_4
    r8 = r7 - fine * PART_4
    low = _lost(r2, coarse * PART_2, r3) + _lost(r3, fine * PART_2, r4)
    low = low + _lost(r4, coarse * PART_3, r5) + _lost(r5, fine * PART_3, r6)
    low = low + _lost(r6, coarse * PART_4, r7) + _lost(r7, fine * PART_4, r8) - n * PART_5
    r = r8 + low
    low = low - (r - r8)
    z = r * r
    half = 0.5 * z
    sine = r + (z * r * sin_tail(z) + (low - low * half))
    w = 1.0 - half
    cosine = w + (((1.0 - w) - half) + (z * z * cos_tail(z) - r * low))
    turned = n + more
    quarter = turned - 4.0 * _whole(0.25 * turned)  # -2 to 2
    y = select(abs(quarter) == 1.0, cosine, sine)
    y = select(quarter == -1.0, -y, select(abs(quarter) == 2.0, -y, y))
    return select(abs(x) <= FARTHEST, y, NAN)


@Elementary
def sin(x):
    """Return the sine of ``x`` radians."""
    return select(x == 0.0, x, _sin_of_quarters(x, 0.0))


@Elementary
def cos(x):
    """Return the cosine of ``x`` radians."""
    return _sin_of_quarters(x, 1.0)


EIGHTH_HIGH = ByType(0.785398006439209, 0.7853981633974483)
"""An eighth of a turn, of which four times is exact, and three times too."""
EIGHTH_LOW = ByType(1.5695823663008923e-07, 3.061616997868383e-17)
TANGENT = 0.41421356237309503
"""The tangent of a sixteenth of a turn."""
LARGE, SMALL = ByType(2.0**100, 2.0**1000), ByType(2.0**-100, 2.0**-960)
SCALE = ByType(2.0**30, 2.0**64)
ONE_OVER_SCALE = ByType(2.0**-30, 2.0**-64)


def _atan_tail_single(z):
    tail = 0.11071355 + z * (-0.086245984 + z * 0.050479375)
    return -0.33333334 + z * (0.19999978 + z * (-0.1428415 + z * tail))


def _atan_tail_double(z):
    tail = 0.045515447340221615 + z * (-0.03456931506332609 + z * 0.016284375050043393)
    tail = -0.0666642476020052 + z * (0.05878927554473807 + z * (-0.05230443640686948 + z * tail))
    tail = 0.11111111105150588 + z * (-0.09090908753259112 + z * (0.07692296368042296 + z * tail))
    return -0.3333333333333333 + z * (0.19999999999999804 + z * (-0.14285714285659779 + z * tail))


atan_tail = ByType(_atan_tail_single, _atan_tail_double)
"""``(atan(q) / q - 1) / z`` of ``z = q**2``, for ``abs(q) <= TANGENT``."""


@Elementary
def atan2(y, x):
    """Return the angle of the point ``(x, y)`` in radians, from -pi to pi."""
    beside, above = abs(x), abs(y)
    steep = above > beside
    shorter, longer = select(steep, beside, above), select(steep, above, beside)
    shorter = select(
        longer == INFINITE, select(shorter < INFINITE, 0.0, select(shorter == INFINITE, 1.0, shorter)), shorter
    )
    longer = select(longer == INFINITE, 1.0, longer)
    scale = select(longer > LARGE, ONE_OVER_SCALE, select(longer < SMALL, SCALE, 1.0))
    shorter, longer = shorter * scale, longer * scale
    middle = shorter > TANGENT * longer  # then the angle to an eighth of a turn is taken
    q = select(middle, shorter - longer, shorter) / select(longer == 0.0, 1.0, select(middle, shorter + longer, longer))
    z = q * q
    eighths, turn = select(middle, 1.0, 0.0), select(steep, -1.0, 1.0)
    eighths = select(steep, 2.0 - eighths, eighths)
    left = copysign(1.0, x) < 0.0
    eighths, turn = select(left, 4.0 - eighths, eighths), select(left, -turn, turn)
    a = eighths * EIGHTH_HIGH + (turn * (q + q * z * atan_tail(z)) + eighths * EIGHTH_LOW)
    return copysign(a, y)
