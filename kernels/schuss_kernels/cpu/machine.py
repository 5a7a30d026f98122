"""Intrinsics for tables of 64-bit integers and for calls by address."""

from __future__ import annotations

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..lowering.llvm import INT64, load_int64


@intrinsic
def table(typing, address, index):
    """Load the 64-bit integer number ``index`` of those at ``address``."""

    def build(context, builder, signature, args):
        return load_int64(builder, *args)

    return types.int64(types.int64, types.int64), build


@intrinsic
def set_table(typing, address, index, value):
    """Store ``value`` as the 64-bit integer number ``index`` of those at ``address``."""

    def build(context, builder, signature, args):
        pointer = builder.inttoptr(args[0], INT64.as_pointer())
        builder.store(args[2], builder.gep(pointer, [args[1]]), align=8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), build


@intrinsic
def call_kernel(typing, address, row):
    """Call the compiled kernel at ``address`` with the address of a row of the plan."""

    def build(context, builder, signature, args):
        function_type = context.call_conv.get_function_type(types.none, (types.int64,))
        kernel = builder.inttoptr(args[0], function_type.as_pointer())
        returned = cgutils.alloca_once(builder, function_type.args[0].pointee)
        raised = cgutils.alloca_once(builder, function_type.args[1].pointee)
        builder.call(kernel, [returned, raised, args[1]])  # a kernel raises nothing and returns nothing
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), build
