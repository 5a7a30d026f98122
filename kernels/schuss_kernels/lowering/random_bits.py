"""Random bits for stochastic rounding in LLVM."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ..plan.spec import Spec
from ..storage.stochastic_rounding import KEY_FACTORS, MIX_FIRST, MIX_NEXT, MIX_SECOND
from . import conversions
from .llvm import INT64


def _spread(builder: Any, value: Any, like: Any) -> Any:
    """A vector of a number, with as many lanes as ``like``; the number itself where ``like`` is none."""
    if not isinstance(like.type, ir.VectorType):
        return value
    vector = builder.insert_element(ir.Constant(like.type, ir.Undefined), value, INT64(0))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), like.type.count), None))


def row_key(builder: Any, riders: Any, tensor: Any) -> Any:
    """Compute the 32 bits that the random bits of a tensor in a step start from. ``riders``: of LLVM values."""
    word_type = ir.IntType(32)
    words = [builder.fptoui(half, word_type) for half in (riders.key_high, riders.key_low)]
    words.append(builder.trunc(tensor, word_type))
    total = word_type(0)
    for word, factor in zip(words, KEY_FACTORS, strict=True):
        total = builder.add(total, builder.mul(word, conversions.i32(word, factor)))
    return mixed(builder, total)


def mixed(builder: Any, word: Any) -> Any:
    """Emit the hash lowbias32: 32 bits from 32 bits, each of which depends on all."""
    i32 = conversions.i32
    word = builder.xor(word, builder.lshr(word, i32(word, 16)))
    word = builder.mul(word, i32(word, MIX_FIRST))
    word = builder.xor(word, builder.lshr(word, i32(word, 15)))
    word = builder.mul(word, i32(word, MIX_SECOND))
    return builder.xor(word, builder.lshr(word, i32(word, 16)))


class Draw:
    """The random bits of one element (or of ``lanes`` neighbours): 16 for every stream that is rounded stochastically.

    They are a hash of the element's number in the tensor, ``start + index``, and of the tensor's ``key`` (see
    :func:`row_key`): the same for any thread count and chunking.
    """

    def __init__(self, builder: Any, spec: Spec, lanes: int, key: Any, start: Any, index: Any) -> None:
        self._builder, self._spec = builder, spec
        word = ir.IntType(32)
        # Both in 32 bits before they are added: a loop then counts in 32 bits too, twice as many to a vector.
        first = builder.trunc(index, word)
        key = builder.add(key, builder.trunc(start, word))
        if lanes > 1:
            vector = ir.VectorType(word, lanes)
            first = builder.add(_spread(builder, first, vector(None)), vector(list(range(lanes))))
            key = _spread(builder, key, first)
        self._words = [mixed(builder, builder.add(first, key))]

    def __call__(self, stream: int) -> Any:
        """The 16 random bits of a stream, in 32."""
        builder = self._builder
        place = self._spec.stochastic_streams.index(stream)
        while len(self._words) <= place // 2:
            last = self._words[-1]
            word = builder.mul(builder.add(last, conversions.i32(last, MIX_NEXT)), conversions.i32(last, MIX_FIRST))
            self._words.append(builder.xor(word, builder.lshr(word, conversions.i32(word, 15))))
        word = self._words[place // 2]
        if place % 2:
            return builder.lshr(word, conversions.i32(word, 16))
        return builder.and_(word, conversions.i32(word, 0xFFFF))
