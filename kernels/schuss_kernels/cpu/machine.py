"""Intrinsics for memory, atomics and calls by address."""

from __future__ import annotations

import sys

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..lowering import element as lowering_element
from ..lowering.llvm import INT64, load_int64


@intrinsic
def table(typing, address, index):
    """The 64-bit integer number ``index`` at ``address``."""

    def build(context, builder, signature, args):
        return load_int64(builder, *args)

    return types.int64(types.int64, types.int64), build


@intrinsic
def set_table(typing, address, index, value):
    """Write the 64-bit integer number ``index`` at ``address``."""

    def build(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], INT64.as_pointer())
        builder.store(args[2], builder.gep(pointer, [args[1]]), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), build


@intrinsic
def atomic_add(typing, address, value):
    """Add to the 64-bit integer at ``address``, atomically and sequentially consistent; its value before."""

    def build(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], INT64.as_pointer())
        return builder.atomic_rmw("add", pointer, args[1], "seq_cst")

    return types.int64(types.int64, types.int64), build


@intrinsic
def core(typing):
    """The processor core that runs the caller, -1 where the system does not tell."""

    def build(context, builder, signature, args):
        if not sys.platform.startswith("linux"):
            return INT64(-1)
        int32 = lowering_element.ir.IntType(32)
        tell = cgutils.get_or_insert_function(
            builder.module, lowering_element.ir.FunctionType(int32, ()), "sched_getcpu"
        )
        return builder.sext(builder.call(tell, ()), INT64)

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
