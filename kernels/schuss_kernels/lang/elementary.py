"""Exponentials, logarithms and powers for rules, with the same bits on every backend: no two libraries round alike.

All are made of arithmetic that IEEE 754 rounds correctly, and of the bits of exponents: NumPy, LLVM on any instruction
set and CUDA give the same. There is no branch and no table, so that loops stay vectorised. Zeros with their sign,
infinities, NaN and subnormal numbers are taken and given as C's functions do.

:mod:`schuss.elementary` says how large their errors are.
"""

import math

from .float_bits import ROUND, TWO_TO, copysign, exponent, fraction, two_to
from .scalar_math import select
from .specialize import ByType, Elementary

INFINITE, NAN = math.inf, math.nan

LOG2_E = 1.4426950408889634
LN2_HIGH = ByType(0.693145751953125, 0.6931471805598903)
"""The logarithm of two with so few bits that its product with the exponent of any number is exact."""
LN2_LOW = ByType(1.428606765330187e-06, 5.497923018708371e-14)

LOWEST, HIGHEST = ByType(-104.0, -746.0), ByType(89.0, 710.0)
"""The exponential of all that is below is zero, of all that is above infinite."""

SMALLEST_NORMAL = ByType(2.0**-126, 2.0**-1022)
BITS, TWO_TO_BITS = ByType(24.0, 53.0), ByType(2.0**24, 2.0**53)
"""How many bits a number has."""


def _exp_tail_single(r):
    return 0.5 + r * (0.16666667 + r * (0.041666467 + r * (0.0083333105 + r * (0.001393365 + r * 0.00019890991))))


def _exp_tail_double(r):
    tail = 2.755727364311030e-07 + r * (2.5105217004720745e-08 + r * 2.0914686968086876e-09)
    tail = 0.00019841269874820627 + r * (2.4801587325547743e-05 + r * (2.7557255400206422e-06 + r * tail))
    tail = 0.008333333333326136 + r * (0.0013888888888883748 + r * tail)
    return 0.5 + r * (0.1666666666666667 + r * (0.04166666666666667 + r * tail))


exp_tail = ByType(_exp_tail_single, _exp_tail_double)
"""``(exp(r) - 1 - r) / r**2`` for ``abs(r) <= log(2) / 2``."""


def _exp_of_sum(x, low):
    """Return ``exp(x + low)`` of a ``low`` far below ``x``."""
    x = select(x < LOWEST, LOWEST, select(x > HIGHEST, HIGHEST, x))
    n = (x * LOG2_E + ROUND) - ROUND
    high, low = x - n * LN2_HIGH, n * LN2_LOW - low
    r = high - low
    y = 1.0 + (high + (r * r * exp_tail(r) - low))
    half = (n * 0.5 + ROUND) - ROUND  # in two steps: two to the n alone may be no normal number
    return y * two_to(half + TWO_TO) * two_to((n - half) + TWO_TO)


@Elementary
def exp(x):
    """Return ``e**x``."""
    return _exp_of_sum(x, 0.0)


@Elementary
def sigmoid(x):
    """Return ``1 / (1 + exp(-x))``."""
    z = _exp_of_sum(-abs(x), 0.0)
    return select(x < 0.0, z, 1.0) / (1.0 + z)


TANH_IS_ONE = ByType(-20.0, -44.0)


@Elementary
def tanh(x):
    """Return the hyperbolic tangent of ``x``."""
    y = -2.0 * abs(x)
    y = select(y < TANH_IS_ONE, TANH_IS_ONE, y)
    n = (y * LOG2_E + ROUND) - ROUND
    high, low = y - n * LN2_HIGH, n * LN2_LOW
    r = high - low
    q = high + (r * r * exp_tail(r) - low)
    p = two_to(n + TWO_TO)
    e = p * q + (p - 1.0)  # exp(y) - 1, without cancellation near zero
    return copysign(-e / (e + 2.0), x)


def _log_tail_single(z):
    return 0.6666667 + z * (0.40000123 + z * (0.28550816 + z * 0.23330583))


def _log_tail_double(z):
    tail = 0.18182889455674947 + z * (0.15331710618210773 + z * 0.14616585424888623)
    return 0.666666666666667 + z * (
        0.39999999999899444 + z * (0.2857142862600327 + z * (0.22222211130259878 + z * tail))
    )


log_tail = ByType(_log_tail_single, _log_tail_double)
"""``(log((1 + s) / (1 - s)) - 2 * s) / s**3`` of ``z = s**2``, for ``(1 + s) / (1 - s)`` from the root of 1/2 to that
of 2."""


def _log_of(k, f, low):
    """Return ``k * log(2) + log(1 + f) + low`` of a ``low`` far below the others."""
    s = f / (2.0 + f)
    z, half = s * s, 0.5 * f * f
    return k * LN2_HIGH - ((half - (s * (half + z * log_tail(z)) + (k * LN2_LOW + low))) - f)


@Elementary
def log(x):
    """Return the natural logarithm of ``x``; NaN below zero."""
    small = x < SMALLEST_NORMAL
    scaled = x * select(small, TWO_TO_BITS, 1.0)
    y = _log_of(exponent(scaled) - select(small, BITS, 0.0), fraction(scaled) - 1.0, 0.0)
    return select(x > 0.0, select(x < INFINITE, y, x), select(x == 0.0, -INFINITE, NAN))


@Elementary
def log1p(x):
    """Return ``log(1 + x)``, as precise near zero as anywhere; NaN below -1."""
    u = 1.0 + x
    k = exponent(u)
    lost = select(k > 0.0, 1.0 - (u - x), x - (u - 1.0)) / u  # of x, where 1 + x was rounded
    y = _log_of(k, select(k == 0.0, x, fraction(u) - 1.0), select(k == 0.0, 0.0, lost))
    y = select(u > 0.0, select(x < INFINITE, y, x), select(u == 0.0, -INFINITE, NAN))
    return select(x == 0.0, x, y)


SPLIT = ByType(2.0**12 + 1.0, 2.0**27 + 1.0)
TWO_THIRDS = ByType(0.6666666865348816, 0.6666666666666666)
TWO_THIRDS_LOW = ByType(-1.9868215517249155e-08, 3.700743415417188e-17)
MOST = ByType(2.0**32, 2.0**64)
"""With an exponent of this size every power is 0, 1 or infinite."""
WHOLE = ByType(2.0**23, 2.0**52)
"""From here on every number is whole."""


def _power_tail_single(z):
    return 0.4 + z * (0.2857153 + z * (0.22204763 + z * 0.19120455))


def _power_tail_double(z):
    tail = 0.1333480469384731 + z * (0.11706236339491206 + z * 0.11723178623876518)
    tail = 0.22222222221655885 + z * (0.18181818335392802 + z * (0.1538459496251843 + z * tail))
    return 0.4 + z * (0.28571428571429364 + z * tail)


power_tail = ByType(_power_tail_single, _power_tail_double)
"""What is beyond ``z * 2/3`` in :data:`log_tail`, divided by ``z**2``."""


def _upper(a):
    """Return the upper half of a number's bits."""
    t = a * SPLIT
    return t - (t - a)


def _lost(a, b, product):
    """Return what rounding took from a product."""
    a_high, b_high = _upper(a), _upper(b)
    a_low, b_low = a - a_high, b - b_high
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _is_whole(x):
    size = abs(x)
    return select(size < WHOLE, (size + WHOLE) - WHOLE, size) == size


def _positive_power(x, y):
    """Return ``x**y`` for positive, finite ``x``: the logarithm in two numbers, which together have twice the bits."""
    small = x < SMALLEST_NORMAL
    scaled = x * select(small, TWO_TO_BITS, 1.0)
    k, m = exponent(scaled) - select(small, BITS, 0.0), fraction(scaled)
    f, sum_ = m - 1.0, m + 1.0
    # log(m) = 2 * s + s * z * (2/3 + z * tail), s = (m - 1) / (m + 1), z = s**2
    s = f / sum_
    product = s * sum_
    s_low = (((f - product) - _lost(s, sum_, product)) - s * (m - (sum_ - 1.0))) / sum_
    z = s * s
    z_low = _lost(s, s, z) + 2.0 * s * s_low
    rest = z * power_tail(z)
    c = TWO_THIRDS + rest
    c_low = (rest - (c - TWO_THIRDS)) + TWO_THIRDS_LOW
    u = s * z
    u_low = _lost(s, z, u) + s * z_low + s_low * z
    v = u * c
    v_low = _lost(u, c, v) + u * c_low + u_low * c
    log_m = 2.0 * s + v
    log_m_low = (v - (log_m - 2.0 * s)) + (2.0 * s_low + v_low)
    log_x = k * LN2_HIGH + log_m
    log_x_low = (log_m - (log_x - k * LN2_HIGH)) + (log_m_low + k * LN2_LOW)
    y = select(y > MOST, MOST, select(y < -MOST, -MOST, y))
    e = y * log_x
    e_low = _lost(y, log_x, e) + y * log_x_low
    return _exp_of_sum(e, select(abs(e) < HIGHEST + HIGHEST, e_low, 0.0))


@Elementary
def power(x, y):
    """Return ``x**y``; NaN for ``x`` below zero and ``y`` not whole."""
    size = abs(x)
    made = _positive_power(size, y)
    made = select(
        size == 0.0, select(y > 0.0, 0.0, INFINITE), select(size < INFINITE, made, select(y > 0.0, size, 0.0))
    )
    odd = select(_is_whole(y), select(_is_whole(0.5 * y), 0.0, 1.0), 0.0)
    made = select(copysign(odd, x) < 0.0, -made, made)
    made = select(x < 0.0, select(_is_whole(y), made, select(size < INFINITE, NAN, made)), made)
    made = select(x == x, select(y == y, made, NAN), NAN)
    return select(y == 0.0, 1.0, select(x == 1.0, 1.0, made))
