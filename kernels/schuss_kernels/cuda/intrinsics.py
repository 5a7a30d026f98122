"""The intrinsics that CUDA kernels are written in: numba-cuda functions on plain device addresses.

:mod:`.simulator` has functions of the same names in Python, for numba's simulator.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda, types
from numba.cuda import cgutils
from numba.cuda.extending import intrinsic

from ..lang.rule import Rule
from ..lang.specialize import specialize
from ..lowering import conversions, llvm, primitives, random_bits
from ..lowering import element as lowering_element
from ..lowering.element import PARAMETER
from ..lowering.llvm import GLOBAL, INT64, load_scalar, stored_type
from ..lowering.quantized import load_scale
from ..lowering.random_bits import Draw
from ..lowering.rule_types import number_type, tuple_type
from ..plan.chunk_table import STATES, TENSOR
from ..plan.riders import RIDERS, Riders
from ..plan.spec import GradSquares, Spec
from ..storage.dtypes import F64
from ..storage.quantization import QUANT_BLOCK
from . import quantized


class Intrinsics:
    """The intrinsics for one rule and spec.

    Attributes
    ----------
    lanes
        Number of elements in a 16-byte access of the widest stream.
    load_int64
        ``(address, index)``: integer number ``index`` of a table.
    addresses
        ``(row)``: the addresses of the streams after the gradient.
    rider_numbers, rule_scalars
        ``(address)``: the riders' numbers, and the rule's ``Scalars``, of a row's slot.
    row_key
        ``(riders, row)``: what the row's random bits start from; 0 where nothing is rounded stochastically.
    misaligned
        ``(parameter, gradient, others)``: not 0 where an access of ``lanes`` elements would be misaligned.
    update_one, update_lanes
        ``(parameter, gradient, others, index, riders, h, key, number)``: load, update and store one element, or
        ``lanes`` neighbours. ``parameter`` and ``gradient``: addresses of the element; ``others``: what ``addresses``
        returned; ``index``: in the row; ``number``: in the tensor.
    open_block, block_peaks, close_block
        Of kernels with quantized states: see :func:`.quantized.intrinsics`.
    no_sums, add_measured, store_sums
        Of kernels that measure: the sums to start from, the sums with an element's measure added, and storing them.
    inlined
        Makes a Python function an intrinsic.
    """

    def __init__(self, rule: Rule, spec: Spec) -> None:
        self.lanes = lanes = 16 // max(stream.storage.itemsize for stream in spec.streams)
        number, state = number_type(spec), tuple_type(rule.State, spec)
        scalars, count = tuple_type(rule.Scalars, spec), len(spec.states)
        riders = types.UniTuple(number, RIDERS)
        rest = spec.streams[lowering_element.FIRST_STATE :]
        places = types.UniTuple(types.int64, len(rest)) if rest else types.Tuple(())
        update = specialize(rule.update, spec.compute.type, inlined).py_func
        update_type = types.Tuple((number, state))(number, number, state, scalars)
        compiled: list[Any] = []

        def new_values(context: Any, builder: Any, values: list[Any], h: Any) -> list[Any]:
            """Emit the update of one element: parameter, gradient, states in; parameter, states out."""
            if not compiled:  # numba's own cache does not see that a helper of the update has changed
                compiled.append(context.compile_subroutine(builder, update, update_type, caching=False))
            arguments = [values[0], values[1], context.make_tuple(builder, state, values[2:]), h]
            result = context.call_internal(builder, compiled[0].fndesc, update_type, arguments)
            parameter, new_state = cgutils.unpack_tuple(builder, result, 2)
            return [parameter, *cgutils.unpack_tuple(builder, new_state, count)]

        def updater(width: int) -> Any:
            def build(context, builder, signature, args):
                parameter, gradient, others, index, numbers, h, key, number = args
                bases = cgutils.unpack_tuple(builder, others, len(rest))
                offsets = [builder.mul(index, INT64(stream.storage.itemsize)) for stream in rest]
                here = [(parameter, INT64(0)), (gradient, INT64(0)), *zip(bases, offsets, strict=True)]
                element = lowering_element.Element(builder, spec, here, width, True, GLOBAL)
                riders_ = Riders(*cgutils.unpack_tuple(builder, numbers, RIDERS))
                loaded = lowering_element.load_element(element, riders_)
                results = [loaded[PARAMETER], *loaded[lowering_element.FIRST_STATE :]]
                for lane in range(width):
                    at = INT64(lane)
                    values = loaded if width == 1 else [builder.extract_element(v, at) for v in loaded]
                    new = new_values(context, builder, values, h)
                    if width == 1:
                        results = new
                    else:
                        results = [builder.insert_element(v, n, at) for v, n in zip(results, new, strict=True)]
                draw = (
                    Draw(element.builder, element.spec, element.lanes, key, INT64(0), number)
                    if spec.stochastic
                    else None
                )
                lowering_element.store_element(element, results, riders_, draw)
                return context.get_dummy_value()

            @intrinsic
            def update_elements(typing, parameter, gradient, others, index, numbers, h, key, number):
                where = (types.int64, types.int64, places, types.int64)
                return types.void(*where, riders, scalars, types.int32, types.int64), build

            return update_elements

        self.update_one, self.update_lanes = updater(1), updater(lanes)
        self.load_int64 = load_int64

        @intrinsic
        def addresses(typing, row):
            def build(context, builder, signature, args):
                columns = [INT64(STATES + n) for n in range(len(rest))]
                found = [llvm.load_int64(builder, args[0], column, GLOBAL) for column in columns]
                return context.make_tuple(builder, places, found)

            return places(types.int64), build

        @intrinsic
        def rider_numbers(typing, address):
            def build(context, builder, signature, args):
                numbers = [load_scalar(builder, spec.compute, args[0], n, GLOBAL) for n in range(RIDERS)]
                return context.make_tuple(builder, riders, numbers)

            return riders(types.int64), build

        @intrinsic
        def rule_scalars(typing, address):
            def build(context, builder, signature, args):
                numbers = [load_scalar(builder, spec.compute, args[0], RIDERS + n, GLOBAL) for n in range(len(scalars))]
                return context.make_tuple(builder, scalars, numbers)

            return scalars(types.int64), build

        @intrinsic
        def row_key(typing, numbers, row):
            def build(context, builder, signature, args):
                if not spec.stochastic:
                    return ir.IntType(32)(0)
                tensor = llvm.load_int64(builder, args[1], INT64(TENSOR), GLOBAL)
                riders_ = Riders(*cgutils.unpack_tuple(builder, args[0], RIDERS))
                return random_bits.row_key(builder, riders_, tensor)

            return types.int32(riders, types.int64), build

        @intrinsic
        def misaligned(typing, parameter, gradient, others):
            def build(context, builder, signature, args):
                bases = [args[0], args[1], *cgutils.unpack_tuple(builder, args[2], len(rest))]
                bits = INT64(0)
                for address, stream in zip(bases, spec.streams, strict=True):
                    bits = builder.or_(bits, builder.and_(address, INT64(lanes * stream.storage.itemsize - 1)))
                return bits

            return types.int64(types.int64, types.int64, places), build

        if spec.measure:
            self._add_measure_intrinsics(rule, spec, number, state, scalars, riders, places, rest)
        self.addresses, self.misaligned, self.row_key = addresses, misaligned, row_key
        self.rider_numbers, self.rule_scalars, self.inlined = rider_numbers, rule_scalars, inlined
        if spec.quantized_states and not spec.measure:
            numba_types = places, riders, scalars
            made = quantized.intrinsics(spec, new_values, load_int64, *numba_types)
            self.open_block, self.block_peaks, self.close_block = made

    def _add_measure_intrinsics(
        self, rule: Rule, spec: Spec, number: Any, state: Any, scalars: Any, riders: Any, places: Any, rest: Any
    ) -> None:
        """Add the intrinsics of kernels that measure."""
        count = len(rule.Sums._fields)
        sums = types.UniTuple(types.float64, count)
        measure = specialize(rule.measure, spec.compute.type, inlined).py_func  # type: ignore[arg-type]
        shape = types.BaseTuple.from_types([number] * count, rule.Sums)
        compiled: list[Any] = []

        @intrinsic
        def no_sums(typing):
            def build(context, builder, signature, args):
                zero = ir.DoubleType()(0.0)
                return context.make_tuple(builder, sums, [zero] * count)

            return sums(), build

        @intrinsic
        def add_measured(typing, before, parameter, gradient, others, index, numbers, h):
            measure_type = shape(number, number, state, scalars)

            def build(context, builder, signature, args):
                before, parameter, gradient, others, index, numbers, h = args
                bases = cgutils.unpack_tuple(builder, others, len(rest))
                offsets = [builder.mul(index, INT64(stream.storage.itemsize)) for stream in rest]
                here = [(parameter, INT64(0)), (gradient, INT64(0)), *zip(bases, offsets, strict=True)]
                element = lowering_element.Element(builder, spec, here, 1, True, GLOBAL)
                if spec.quantized_states:
                    block = builder.sdiv(index, INT64(QUANT_BLOCK))
                    scales = [load_scale(builder, address, block, GLOBAL) for address in bases[spec.scales]]
                    element.block = lowering_element.QuantBlock(scales, lambda *_: None)
                riders_ = Riders(*cgutils.unpack_tuple(builder, numbers, RIDERS))
                p, g, *states = lowering_element.load_element(element, riders_)
                if not compiled:
                    compiled.append(context.compile_subroutine(builder, measure, measure_type, caching=False))
                arguments = [p, g, context.make_tuple(builder, state, states), h]
                made = cgutils.unpack_tuple(
                    builder, context.call_internal(builder, compiled[0].fndesc, measure_type, arguments), count
                )
                wide = [conversions.narrow(builder, value, F64, spec.compute) for value in made]
                so_far = cgutils.unpack_tuple(builder, before, count)
                return context.make_tuple(
                    builder, sums, [builder.fadd(one, more) for one, more in zip(so_far, wide, strict=True)]
                )

            where = (types.int64, types.int64, places, types.int64)
            return sums(sums, *where, riders, scalars), build

        @intrinsic
        def store_sums(typing, address, index, values):
            def build(context, builder, signature, args):
                place = builder.inttoptr(args[0], ir.DoubleType().as_pointer(GLOBAL))
                first = builder.mul(args[1], INT64(count))
                for number, value in enumerate(cgutils.unpack_tuple(builder, args[2], count)):
                    builder.store(value, builder.gep(place, [builder.add(first, INT64(number))]), align=8)
                return context.get_dummy_value()

            return types.void(types.int64, types.int64, sums), build

        self.no_sums, self.add_measured, self.store_sums = no_sums, add_measured, store_sums


@intrinsic
def load_int64(typing, address, index):
    """Load the 64-bit integer number ``index`` of the table at ``address``."""

    def build(context, builder, signature, args):
        return llvm.load_int64(builder, *args, GLOBAL)

    return types.int64(types.int64, types.int64), build


_PRIMITIVES = primitives.intrinsics(intrinsic)


def inlined(function: Any) -> Any:
    """Make a Python function an intrinsic.

    It is inlined before it is compiled: numba-cuda would ask for the current device otherwise.
    """
    return _PRIMITIVES.get(getattr(function, "primitive", "")) or cuda.jit(device=True, inline="always")(function)


class SquaresIntrinsics:
    """The intrinsics for summing the squares of gradients: ``load_int64``, ``inlined``, and

    ``load_gradient(address)``: a gradient in float64; ``store(address, index, value)``: a float64 into a table.
    """

    def __init__(self, wanted: GradSquares) -> None:
        storage = wanted.gradient
        self.load_int64, self.inlined = load_int64, inlined

        @intrinsic
        def load_gradient(typing, address):
            def build(context, builder, signature, args):
                pointer = builder.inttoptr(args[0], stored_type(storage).as_pointer(GLOBAL))
                value = builder.load(pointer, align=storage.itemsize)
                return conversions.widen(builder, value, storage, np.dtype(np.float64))

            return types.float64(types.int64), build

        @intrinsic
        def store(typing, address, index, value):
            def build(context, builder, signature, args):
                place = builder.inttoptr(args[0], ir.DoubleType().as_pointer(GLOBAL))
                builder.store(args[2], builder.gep(place, [args[1]]), align=8)
                return context.get_dummy_value()

            return types.void(types.int64, types.int64, types.float64), build

        self.load_gradient, self.store = load_gradient, store
