"""Random bits for stochastic rounding in LLVM."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from ..plan.spec import Spec
from ..storage.stochastic_rounding import KEY_FACTORS, MIX_FIRST, MIX_NEXT, MIX_SECOND
from . import conversions
from .llvm import INT64


def _spread(builder: Any, value: Any, like: Any) -> Any:
    """A number as often as ``like`` has lanes."""
    if not isinstance(like.type, ir.VectorType):
        return value
    vector = builder.insert_element(ir.Constant(like.type, ir.Undefined), value, INT64(0))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), like.type.count), None))


def row_key(builder: Any, riders: Any, tensor: Any) -> Any:
    """Compute the 32 bits that the random bits of a tensor in a step start from. ``riders``: of LLVM values."""
    kind = ir.IntType(32)
    words = [builder.fptoui(half, kind) for half in (riders.key_high, riders.key_low)]
    words.append(builder.trunc(tensor, kind))
    total = kind(0)
    for word, factor in zip(words, KEY_FACTORS, strict=True):
        total = builder.add(total, builder.mul(word, conversions.i32(word, factor)))
    return mixed(builder, total)


def mixed(builder: Any, word: Any) -> Any:
    """32 bits from 32 bits, every one from all: the hash called lowbias32."""
    i32 = conversions.i32
    word = builder.xor(word, builder.lshr(word, i32(word, 16)))
    word = builder.mul(word, i32(word, MIX_FIRST))
    word = builder.xor(word, builder.lshr(word, i32(word, 15)))
    word = builder.mul(word, i32(word, MIX_SECOND))
    return builder.xor(word, builder.lshr(word, i32(word, 16)))


class Draw:
    """The random bits of one element (or of ``lanes`` neighbours): 16 for every stream that is rounded at random.

    The element's number in the tensor (``start + index``) and the tensor's key, hashed: the same for any thread count
    and chunking.
    """

    def __init__(self, builder: Any, spec: Spec, lanes: int, key: Any, start: Any, index: Any) -> None:
        self._builder, self._spec = builder, spec
        kind = ir.IntType(32)
        # Both in 32 bits before they meet: a loop then counts in 32 bits too, twice as many to a vector.
        first = builder.trunc(index, kind)
        key = builder.add(key, builder.trunc(start, kind))
        if lanes > 1:
            vector = ir.VectorType(kind, lanes)
            first = builder.add(_spread(builder, first, vector(None)), vector(list(range(lanes))))
            key = _spread(builder, key, first)
        self._words = [mixed(builder, builder.add(first, key))]

    def __call__(self, stream: int) -> Any:
        """16 random bits, in 32."""
        builder = self._builder
        place = self._spec.at_random.index(stream)
        while len(self._words) <= place // 2:
            last = self._words[-1]
            word = builder.mul(builder.add(last, conversions.i32(last, MIX_NEXT)), conversions.i32(last, MIX_FIRST))
            self._words.append(builder.xor(word, builder.lshr(word, conversions.i32(word, 15))))
        word = self._words[place // 2]
        if place % 2:
            return builder.lshr(word, conversions.i32(word, 16))
        return builder.and_(word, conversions.i32(word, 0xFFFF))
