"""The words a CPU kernel is written in: numba intrinsics on plain addresses.

Each takes the kernel's spec as a literal string, so a kernel closes over nothing but strings. That is what lets numba's
disk cache find it again in another process: the string (rule name, digest, storages) is its whole identity.
"""

from __future__ import annotations

import sys
from typing import Any

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from . import lowering
from .rule import Rule, specialise
from .storage import Spec

KNOWN: dict[str, tuple[Spec, Rule]] = {}
"""Spec text -> what it stands for; filled before a kernel is compiled."""

_UPDATES: dict[tuple[str, str], Any] = {}


def number_type(spec: Spec) -> Any:
    """The numba type a kernel computes in."""
    return types.float32 if spec.compute.itemsize == 4 else types.float64


def tuple_type(cls: Any, spec: Spec) -> Any:
    """The numba type of a rule's ``State`` or ``Scalars``."""
    return types.BaseTuple.from_types([number_type(spec)] * len(cls._fields), cls)


def compiled_update(spec: Spec, rule: Rule) -> Any:
    """The rule's update as a numba function of the spec's compute type."""
    key = (rule.key, spec.compute.name)
    if key not in _UPDATES:
        _UPDATES[key] = specialise(rule.update, spec.compute.type, njit(error_model="numpy"))
    return _UPDATES[key]


def apply(spec, p, g, s, h):
    """The rule's update of one element."""
    raise RuntimeError("only for compiled kernels")


@overload(apply, prefer_literal=True)
def _apply(spec, p, g, s, h):
    update = compiled_update(*KNOWN[spec.literal_value])
    return lambda spec, p, g, s, h: update(p, g, s, h)


@intrinsic
def table(typing, address, index):
    """The 64-bit integer number ``index`` at ``address``."""

    def build(context, builder, signature, args):
        return lowering.load_int64(builder, *args)

    return types.int64(types.int64, types.int64), build


@intrinsic
def set_table(typing, address, index, value):
    """Write the 64-bit integer number ``index`` at ``address``."""

    def build(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], lowering.INT64.as_pointer())
        builder.store(args[2], builder.gep(pointer, [args[1]]), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), build


@intrinsic
def atomic_add(typing, address, value):
    """Add to the 64-bit integer at ``address``, atomically and sequentially consistent; its value before."""

    def build(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], lowering.INT64.as_pointer())
        return builder.atomic_rmw("add", pointer, args[1], "seq_cst")

    return types.int64(types.int64, types.int64), build


@intrinsic
def core(typing):
    """The processor core that runs the caller, -1 where the system does not tell."""

    def build(context, builder, signature, args):
        if not sys.platform.startswith("linux"):
            return lowering.INT64(-1)
        int32 = lowering.ir.IntType(32)
        tell = cgutils.get_or_insert_function(builder.module, lowering.ir.FunctionType(int32, ()), "sched_getcpu")
        return builder.sext(builder.call(tell, ()), lowering.INT64)

    return types.int64(), build


@intrinsic
def call_kernel(typing, address, row):
    """Run the compiled kernel at ``address`` on one row of the plan."""

    def build(context, builder, signature, args):
        kind = context.call_conv.get_function_type(types.none, (types.int64,))
        kernel = builder.inttoptr(args[0], kind.as_pointer())
        returned = cgutils.alloca_once(builder, kind.args[0].pointee)
        raised = cgutils.alloca_once(builder, kind.args[1].pointee)
        builder.call(kernel, [returned, raised, args[1]])  # a kernel raises nothing and returns nothing
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), build


@intrinsic(prefer_literal=True)
def state_addresses(typing, spec, row, column):
    """The state addresses of a row, a tuple of int64."""
    count = len(KNOWN[spec.literal_value][0].states)
    result = types.UniTuple(types.int64, count) if count else types.Tuple(())

    def build(context, builder, signature, args):
        columns = [builder.add(args[2], lowering.INT64(number)) for number in range(count)]
        return context.make_tuple(builder, result, [lowering.load_int64(builder, args[1], c) for c in columns])

    return result(spec, row, column), build


@intrinsic(prefer_literal=True)
def gradient_scale(typing, spec, address):
    """The number that every gradient of a row is multiplied by: the first of its scalars."""
    held, _ = KNOWN[spec.literal_value]

    def build(context, builder, signature, args):
        return lowering.load_scalar(builder, held.compute, args[1], 0)

    return number_type(held)(spec, types.int64), build


@intrinsic(prefer_literal=True)
def rule_scalars(typing, spec, address):
    """The rule's ``Scalars`` of a row."""
    held, rule = KNOWN[spec.literal_value]
    result = tuple_type(rule.Scalars, held)

    def build(context, builder, signature, args):
        numbers = [lowering.load_scalar(builder, held.compute, args[1], 1 + n) for n in range(len(result))]
        return context.make_tuple(builder, result, numbers)

    return result(spec, types.int64), build


@intrinsic(prefer_literal=True)
def load(typing, spec, stream, address, offset):
    """One value of the parameter (stream 0) or gradient (stream 1), in the compute type."""
    held, number = KNOWN[spec.literal_value][0], stream.literal_value

    def build(context, builder, signature, args):
        return lowering.load(builder, held, number, args[2], args[3])

    return number_type(held)(spec, stream, types.int64, types.int64), build


@intrinsic(prefer_literal=True)
def store(typing, spec, stream, address, offset, value):
    """Write one value of the parameter (stream 0)."""
    held, number = KNOWN[spec.literal_value][0], stream.literal_value

    def build(context, builder, signature, args):
        lowering.store(builder, held, number, args[2], args[3], args[4])
        return context.get_dummy_value()

    return types.void(spec, stream, types.int64, types.int64, number_type(held)), build


def _state_offsets(builder: Any, held: Spec, index: Any) -> list[Any]:
    return [builder.mul(index, lowering.INT64(storage.itemsize)) for storage in held.states]


@intrinsic(prefer_literal=True)
def load_state(typing, spec, addresses, index):
    """The rule's ``State`` of element ``index``."""
    held, rule = KNOWN[spec.literal_value]
    result = tuple_type(rule.State, held)

    def build(context, builder, signature, args):
        bases = cgutils.unpack_tuple(builder, args[1], len(held.states))
        offsets = _state_offsets(builder, held, args[2])
        streams = enumerate(zip(bases, offsets, strict=True), lowering.FIRST_STATE)
        values = [lowering.load(builder, held, stream, base, offset) for stream, (base, offset) in streams]
        return context.make_tuple(builder, result, values)

    return result(spec, addresses, types.int64), build


@intrinsic(prefer_literal=True)
def store_state(typing, spec, addresses, index, state):
    """Write the new ``State`` of element ``index``."""
    held, _ = KNOWN[spec.literal_value]

    def build(context, builder, signature, args):
        bases = cgutils.unpack_tuple(builder, args[1], len(held.states))
        values = cgutils.unpack_tuple(builder, args[3], len(held.states))
        offsets = _state_offsets(builder, held, args[2])
        streams = enumerate(zip(bases, offsets, values, strict=True), lowering.FIRST_STATE)
        for stream, (base, offset, value) in streams:
            lowering.store(builder, held, stream, base, offset, value)
        return context.get_dummy_value()

    return types.void(spec, addresses, types.int64, state), build
