"""The functions that rules call and numba cannot compile, or not into what vectorises: emitted as LLVM instructions.

The Python functions of the same names in :mod:`..lang.scalar_math` and :mod:`..lang.float_bits` say what they do. The
CPU and CUDA share them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from ..lang.float_bits import FORMS
from ..lang.scalar_math import GUESS_FACTOR, GUESS_FROM


def first_guess(builder: Any, x: Any) -> Any:
    """Emit :func:`.scalar_math.first_guess` of a float32."""
    single, word = ir.FloatType(), ir.IntType(32)
    logarithm = builder.sitofp(builder.bitcast(x, word), single)
    factor, start = (ir.Constant(single, float(np.float32(number))) for number in (GUESS_FACTOR, GUESS_FROM))
    guess = builder.fadd(builder.fmul(logarithm, factor), start)
    return builder.bitcast(builder.fptosi(guess, word), single)


def two_to(builder: Any, n: Any) -> Any:
    """Emit :func:`.float_bits.two_to`."""
    word, (_, after, _, _) = _form(n)
    return builder.bitcast(builder.shl(builder.bitcast(n, word), word(after)), n.type)


def exponent(builder: Any, x: Any) -> Any:
    """Emit :func:`.float_bits.exponent`. Beside the bits of ``2**after`` a whole number is a float without conversion:
    few processors convert vectors of 64-bit integers."""
    word, (_, after, one, half) = _form(x)
    shifted = builder.lshr(builder.add(builder.bitcast(x, word), word(one - half)), word(after))
    placed = builder.bitcast(builder.or_(shifted, word(one + (after << after))), x.type)
    return builder.fsub(placed, ir.Constant(x.type, 2.0**after + (one >> after)))


def fraction(builder: Any, x: Any) -> Any:
    """Emit :func:`.float_bits.fraction`."""
    word, (_, after, one, half) = _form(x)
    moved = builder.add(builder.bitcast(x, word), word(one - half))
    return builder.bitcast(builder.add(builder.and_(moved, word((1 << after) - 1)), word(half)), x.type)


def copysign(builder: Any, size: Any, x: Any) -> Any:
    """Emit :func:`.float_bits.copysign`."""
    word, _ = _form(x)
    sign = word(1 << (word.width - 1))
    magnitude = builder.and_(builder.bitcast(size, word), builder.not_(sign))
    return builder.bitcast(builder.or_(magnitude, builder.and_(builder.bitcast(x, word), sign)), x.type)


def _form(x: Any) -> tuple[Any, Any]:
    """Return the LLVM integer type of a float's bits, and its row of :data:`.float_bits.FORMS`."""
    size = 4 if isinstance(x.type, ir.FloatType) else 8
    return ir.IntType(8 * size), FORMS[size]


def intrinsics(intrinsic: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the primitives by name as functions for numba. ``intrinsic``: numba's decorator, or that of numba-cuda."""

    def of_one(emit: Any) -> Any:
        @intrinsic
        def made(typing, x):
            return x(x), lambda context, builder, signature, args: emit(builder, *args)

        return made

    @intrinsic
    def copysign_(typing, size, x):
        return x(size, x), lambda context, builder, signature, args: copysign(builder, *args)

    @intrinsic
    def select(typing, condition, a, b):
        if condition == types.boolean and a == b:
            return a(condition, a, b), lambda context, builder, signature, args: builder.select(*args)
        return None

    one = {emit.__name__: of_one(emit) for emit in (first_guess, two_to, exponent, fraction)}
    return {**one, "copysign": copysign_, "select": select}
