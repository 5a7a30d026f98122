"""The words a CUDA kernel is written in, compiled: numba-cuda intrinsics on plain device addresses.

:mod:`.cuda_simulated` has the same words in Python, for numba's simulator.
"""

from __future__ import annotations

from typing import Any

from numba import cuda, types
from numba.cuda import cgutils
from numba.cuda.extending import intrinsic

from . import lowering
from .intrinsics import number_type, tuple_type
from .lowering import FIRST_STATE, GLOBAL, GRADIENT, INT64, PARAMETER
from .rule import Rule, specialise
from .storage import Spec


class Words:
    """The words for one rule and its storages. ``lanes`` is the number of elements in a 16-byte access."""

    def __init__(self, rule: Rule, spec: Spec) -> None:
        streams = (spec.parameter, spec.gradient, *spec.states)
        self.lanes = lanes = 16 // max(storage.itemsize for storage in streams)
        number, state = number_type(spec), tuple_type(rule.State, spec)
        scalars, count = tuple_type(rule.Scalars, spec), len(spec.states)
        places = types.UniTuple(types.int64, count) if count else types.Tuple(())
        # A device function asks for the current device unless it is inlined before it is compiled.
        update = specialise(rule.update, spec.compute.type, cuda.jit(device=True, inline="always")).py_func
        update_type = types.Tuple((number, state))(number, number, state, scalars)
        compiled: list[Any] = []

        def new_values(context: Any, builder: Any, values: list[Any], h: Any) -> list[Any]:
            """Run the update on one element: parameter, gradient, states in; parameter, states out."""
            if not compiled:  # numba's own cache does not see that a helper of the update has changed
                compiled.append(context.compile_subroutine(builder, update, update_type, caching=False))
            held = context.make_tuple(builder, state, values[2:])
            arguments = [values[0], values[1], held, h]
            result = context.call_internal(builder, compiled[0].fndesc, update_type, arguments)
            parameter, held = cgutils.unpack_tuple(builder, result, 2)
            return [parameter, *cgutils.unpack_tuple(builder, held, count)]

        def mover(width: int) -> Any:
            def build(context, builder, signature, args):
                parameter, gradient, states, index, scale, h = args
                offsets = [builder.mul(index, INT64(storage.itemsize)) for storage in spec.states]
                bases = cgutils.unpack_tuple(builder, states, count)
                here = [(parameter, INT64(0)), (gradient, INT64(0)), *zip(bases, offsets, strict=True)]
                loaded = [
                    lowering.load(builder, spec, stream, *place, width, width * storage.itemsize, GLOBAL)
                    for stream, (place, storage) in enumerate(zip(here, streams, strict=True))
                ]
                stored = [PARAMETER, *range(FIRST_STATE, len(streams))]
                results = [loaded[stream] for stream in stored]
                for lane in range(width):
                    at = INT64(lane)
                    values = loaded if width == 1 else [builder.extract_element(v, at) for v in loaded]
                    values = list(values)
                    values[GRADIENT] = builder.fmul(values[GRADIENT], scale)
                    new = new_values(context, builder, values, h)
                    if width == 1:
                        results = new
                    else:
                        results = [builder.insert_element(v, n, at) for v, n in zip(results, new, strict=True)]
                for stream, value in zip(stored, results, strict=True):
                    align = width * streams[stream].itemsize
                    lowering.store(builder, spec, stream, *here[stream], value, width, align, GLOBAL)
                return context.get_dummy_value()

            @intrinsic
            def move(typing, parameter, gradient, states, index, scale, h):
                return types.void(types.int64, types.int64, places, types.int64, number, scalars), build

            return move

        self.move_one, self.move_lanes = mover(1), mover(lanes)

        @intrinsic
        def table(typing, address, index):
            def build(context, builder, signature, args):
                return lowering.load_int64(builder, *args, GLOBAL)

            return types.int64(types.int64, types.int64), build

        @intrinsic
        def state_addresses(typing, row, column):
            def build(context, builder, signature, args):
                columns = [builder.add(args[1], INT64(n)) for n in range(count)]
                addresses = [lowering.load_int64(builder, args[0], column, GLOBAL) for column in columns]
                return context.make_tuple(builder, places, addresses)

            return places(types.int64, types.int64), build

        @intrinsic
        def gradient_scale(typing, address):
            def build(context, builder, signature, args):
                return lowering.load_scalar(builder, spec.compute, args[0], 0, GLOBAL)

            return number(types.int64), build

        @intrinsic
        def rule_scalars(typing, address):
            def build(context, builder, signature, args):
                numbers = [
                    lowering.load_scalar(builder, spec.compute, args[0], 1 + n, GLOBAL) for n in range(len(scalars))
                ]
                return context.make_tuple(builder, scalars, numbers)

            return scalars(types.int64), build

        @intrinsic
        def misaligned(typing, parameter, gradient, states):
            def build(context, builder, signature, args):
                addresses = [args[0], args[1], *cgutils.unpack_tuple(builder, args[2], count)]
                bits = INT64(0)
                for address, storage in zip(addresses, streams, strict=True):
                    bits = builder.or_(bits, builder.and_(address, INT64(lanes * storage.itemsize - 1)))
                return bits

            return types.int64(types.int64, types.int64, places), build

        self.table, self.state_addresses, self.misaligned = table, state_addresses, misaligned
        self.gradient_scale, self.rule_scalars = gradient_scale, rule_scalars
