"""Conversions between stored and computed numbers, in LLVM: float16 and bfloat16 are 16-bit integers there.

Integer arithmetic and selects only, so the loops around them become SIMD on every processor, and the bits are the same
on all. They are numpy's (float16) and ml_dtypes' (bfloat16): to nearest, ties to even; overflow to infinity; denormals
kept; a NaN stays a NaN of its sign.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from ..storage import quantization
from ..storage.dtypes import BF16, F16, F32, F64, Storage

_I16, _I32, _F32, _F64 = ir.IntType(16), ir.IntType(32), ir.FloatType(), ir.DoubleType()

SIGN, INFINITY = 0x80000000, 0x7F800000
_HALF_BIAS = (127 - 15) << 23  # between the exponents of float32 and float16, where float32 has its own
_HALF_MIN_NORMAL = 113 << 23  # 2**-14, the smallest normal float16, in float32
_HALF_OVERFLOW = (127 + 16) << 23  # 2**16, above the largest
_HALF_MAGIC = ((127 - 15) + (23 - 10) + 1) << 23  # 0.5: adding it leaves a denormal float16 in the low bits


def widen(builder: Any, value: Any, storage: Storage, compute: np.dtype) -> Any:
    """Convert a stored value (or vector) of a float ``storage`` to ``compute``."""
    if storage is F64:
        return value if compute.itemsize == 8 else builder.fptrunc(value, _like(value, _F32))
    if storage is BF16:
        value = _from_bfloat16(builder, value)
    elif storage is F16:
        value = _from_half(builder, value)
    return value if compute.itemsize == 4 else builder.fpext(value, _like(value, _F64))


def narrow(builder: Any, value: Any, storage: Storage, compute: np.dtype, draw: Any = None) -> Any:
    """Convert a ``compute`` value (or vector) to what a float ``storage`` keeps, rounded to nearest even.

    float64 goes to 16 bits by way of float32. ``draw``: 16 random bits, in 32; a 16-bit storage is then rounded
    stochastically.
    """
    if storage is F64:
        return value if compute.itemsize == 8 else builder.fpext(value, _like(value, _F64))
    if compute.itemsize == 8:
        value = builder.fptrunc(value, _like(value, _F32))
    if storage is F32:
        return value
    return (_to_bfloat16 if storage is BF16 else _to_half)(builder, value, draw)


def _like(value: Any, type_: Any) -> Any:
    """``type_``, or a vector of it with as many lanes as ``value``."""
    return ir.VectorType(type_, value.type.count) if isinstance(value.type, ir.VectorType) else type_


def _constant(value: Any, type_: Any, number: float) -> Any:
    """A number of a type, of the form (scalar or vector) of ``value``."""
    type_ = _like(value, type_)
    return type_([number] * type_.count) if isinstance(type_, ir.VectorType) else type_(number)


def bits(builder: Any, value: Any) -> Any:
    """The bits of a float32, as an int32."""
    return builder.bitcast(value, _like(value, _I32))


def number(builder: Any, value: Any) -> Any:
    """The float32 of these bits."""
    return builder.bitcast(value, _like(value, _F32))


def i32(value: Any, number: int) -> Any:
    """A 32-bit constant of the form (scalar or vector) of ``value``."""
    return _constant(value, _I32, number - (1 << 32) if number >= 1 << 31 else number)


def _from_bfloat16(builder: Any, value: Any) -> Any:
    wide = builder.zext(value, _like(value, _I32))
    return number(builder, builder.shl(wide, i32(wide, 16)))


def _to_bfloat16(builder: Any, value: Any, draw: Any) -> Any:
    raw = bits(builder, value)
    if draw is None:
        odd = builder.and_(builder.lshr(raw, i32(raw, 16)), i32(raw, 1))
        draw = builder.add(odd, i32(raw, 0x7FFF))
    rounded = builder.select(builder.fcmp_unordered("uno", value, value), _quiet(builder, raw), builder.add(raw, draw))
    return builder.trunc(builder.lshr(rounded, i32(raw, 16)), _like(raw, _I16))


def _quiet(builder: Any, raw: Any) -> Any:
    """A NaN of the same sign, its bits those of a bfloat16."""
    return builder.or_(builder.and_(raw, i32(raw, SIGN)), i32(raw, 0x7FC00000))


def is_nan(builder: Any, raw: Any) -> Any:
    """Whether the bits of a float32 are a NaN's."""
    return builder.icmp_unsigned(">", builder.and_(raw, i32(raw, SIGN - 1)), i32(raw, INFINITY))


def _from_half(builder: Any, value: Any) -> Any:
    wide = builder.zext(value, _like(value, _I32))
    sign = builder.shl(builder.and_(wide, i32(wide, 0x8000)), i32(wide, 16))
    shifted = builder.shl(builder.and_(wide, i32(wide, 0x7FFF)), i32(wide, 13))
    exponent = builder.and_(shifted, i32(wide, 0x7C00 << 13))
    normal = builder.add(shifted, i32(wide, _HALF_BIAS))
    special = builder.add(normal, i32(wide, _HALF_BIAS))  # infinity and NaN: the exponent that is all ones
    # A denormal: as if it had the smallest exponent and a leading one, which is then subtracted.
    least = number(builder, builder.add(normal, i32(wide, 1 << 23)))
    denormal = bits(builder, builder.fsub(least, _constant(least, _F32, 2.0**-14)))
    whole = builder.select(
        builder.icmp_unsigned("==", exponent, i32(wide, 0)),
        denormal,
        builder.select(builder.icmp_unsigned("==", exponent, i32(wide, 0x7C00 << 13)), special, normal),
    )
    return number(builder, builder.or_(whole, sign))


def _to_half(builder: Any, value: Any, draw: Any) -> Any:
    raw = bits(builder, value)
    sign = builder.and_(raw, i32(raw, SIGN))
    size = builder.xor(raw, sign)
    if draw is None:
        # A denormal: the addition of 0.5 rounds away what float16 cannot hold, and leaves its bits at the end.
        added = builder.fadd(number(builder, size), _constant(value, _F32, 0.5))
        denormal = builder.sub(bits(builder, added), i32(raw, _HALF_MAGIC))
        odd = builder.and_(builder.lshr(size, i32(raw, 13)), i32(raw, 1))
        more = builder.add(odd, i32(raw, 0xFFF))
    else:
        # A denormal: so many times the smallest one, and a random part of another, cut off.
        times = builder.fmul(number(builder, size), _constant(value, _F32, 2.0**24))
        part = builder.fmul(builder.sitofp(draw, value.type), _constant(value, _F32, 2.0**-16))
        denormal = builder.fptosi(builder.fadd(times, part), raw.type)
        more = builder.lshr(draw, i32(raw, 3))
    normal = builder.lshr(builder.add(builder.add(size, i32(raw, -_HALF_BIAS & 0xFFFFFFFF)), more), i32(raw, 13))
    # Above: infinity; a NaN keeps the upper bits of its payload, and at least one of them is set.
    payload = builder.and_(builder.lshr(size, i32(raw, 13)), i32(raw, 0x3FF))
    payload = builder.select(builder.icmp_unsigned("==", payload, i32(raw, 0)), i32(raw, 1), payload)
    large = builder.select(is_nan(builder, raw), builder.or_(payload, i32(raw, 0x7C00)), i32(raw, 0x7C00))
    whole = builder.select(
        builder.icmp_unsigned(">=", size, i32(raw, _HALF_OVERFLOW)),
        large,
        builder.select(builder.icmp_unsigned("<", size, i32(raw, _HALF_MIN_NORMAL)), denormal, normal),
    )
    return builder.trunc(builder.or_(whole, builder.lshr(sign, i32(raw, 16))), _like(raw, _I16))


def split(builder: Any, value: Any) -> tuple[Any, Any]:
    """Split a float32 into a bfloat16, to nearest (ties away from zero), and the 16 bits that are missing in it.

    With ties to even two float32 would have the same halves.
    """
    raw = bits(builder, value)
    nan = builder.fcmp_unordered("uno", value, value)
    low = builder.select(nan, i32(raw, 0), builder.and_(raw, i32(raw, 0xFFFF)))
    high = builder.select(nan, _quiet(builder, raw), builder.add(raw, i32(raw, 0x8000)))
    high = builder.lshr(high, i32(raw, 16))
    type_ = _like(raw, _I16)
    return builder.trunc(high, type_), builder.trunc(low, type_)


def joined(builder: Any, high: Any, low: Any) -> Any:
    """Join the float32 that :func:`split` took apart."""
    type_ = _like(high, _I32)
    high, low = builder.zext(high, type_), builder.zext(low, type_)
    up = builder.lshr(low, i32(low, 15))  # it was rounded away from zero
    return number(builder, builder.or_(builder.shl(builder.sub(high, up), i32(low, 16)), low))


def from_code(builder: Any, code: Any, signed: bool, scale: Any) -> Any:
    """Decode an 8-bit code with its block's scale, to float32: as :func:`.quantization.decode`."""
    type_ = _like(code, _I32)
    wide = builder.sext(code, type_) if signed else builder.zext(code, type_)
    size = wide
    if signed:
        size = builder.select(builder.icmp_signed("<", wide, i32(wide, 0)), builder.neg(wide), wide)
    raw = bits(builder, builder.sitofp(size, _like(code, _F32)))
    raw = builder.add(
        builder.shl(raw, i32(raw, quantization.power_bits(signed))), i32(raw, quantization.decode_offset(signed))
    )
    raw = builder.select(builder.icmp_signed("==", wide, i32(wide, 0)), i32(raw, 0), raw)
    if signed:
        raw = builder.or_(raw, builder.and_(wide, i32(wide, SIGN)))
    return builder.fmul(number(builder, raw), scale)


def to_code(builder: Any, value: Any, signed: bool, inverse: Any, limit: Any, draw: Any = None) -> Any:
    """Encode a float32 as an 8-bit code: as :func:`.quantization.encode`.

    ``inverse`` and ``limit``: from :func:`scale_of`. ``draw``: 16 random bits, in 32, for stochastic rounding.
    """
    raw = bits(builder, value)
    size = builder.and_(raw, i32(raw, quantization.MAGNITUDE_MASK)) if signed else raw
    share = bits(builder, builder.fmul(number(builder, size), inverse))
    share = builder.select(builder.icmp_signed("<", share, limit), share, limit)
    if not signed:
        share = builder.select(builder.icmp_signed(">", share, i32(raw, 0)), share, i32(raw, 0))
    shift = quantization.power_bits(signed)
    more = quantization.ONE_BITS - (quantization.ONE_BITS >> shift) + (quantization.level_bits(signed) << 23)
    level = number(builder, builder.add(builder.ashr(share, i32(raw, shift)), i32(raw, more)))
    if draw is None:
        part = _constant(value, _F32, 0.5)
    else:
        part = builder.fmul(builder.sitofp(draw, value.type), _constant(value, _F32, 2.0**-16))
    code = builder.fptosi(builder.fadd(level, part), raw.type)
    if signed:
        minus = builder.ashr(raw, i32(raw, 31))
        code = builder.sub(builder.xor(code, minus), minus)
    else:  # what is above zero stays above it
        least = builder.select(builder.icmp_signed("<", share, i32(raw, 1)), share, i32(raw, 1))
        code = builder.select(builder.icmp_signed(">", code, least), code, least)
    return builder.trunc(code, _like(raw, ir.IntType(8)))


def scale_of(builder: Any, peak: Any) -> tuple[Any, Any, Any]:
    """Return a block's scale, one over it, and the limit of its shares, from its largest magnitude, as bits."""
    one, low, high = _F32(1.0), _F32(float(quantization.MIN_SCALE)), _F32(float(quantization.MAX_SCALE))
    scale = builder.fmul(number(builder, peak), _F32(float(quantization.PEAK_TO_SCALE)))
    scale = builder.select(builder.fcmp_ordered(">", scale, low), scale, low)
    scale = builder.select(builder.fcmp_ordered("<", scale, high), scale, high)
    nonfinite = builder.icmp_signed(">=", peak, _I32(quantization.INFINITY_BITS))
    limit = builder.select(nonfinite, _I32(0), _I32(quantization.TOP_BITS))
    inverse = builder.fdiv(one, scale)
    return builder.select(nonfinite, _F32(float("nan")), scale), inverse, limit
