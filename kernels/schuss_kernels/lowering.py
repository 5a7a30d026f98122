"""LLVM pieces shared by the CPU and the CUDA kernels: reach a stream, load and store one value (or a vector) of it.

A *stream* is one of the arrays a kernel walks: parameter, gradient, then the states. Streams never overlap (the API
refuses overlapping arrays before a launch). Saying so to LLVM saves its run-time overlap checks, whose number grows
with the square of the streams, and the second, scalar loop behind them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from .storage import Spec, Storage

PARAMETER, GRADIENT, FIRST_STATE = range(3)
GENERIC, GLOBAL = 0, 1  # address spaces: any memory, device memory (of CUDA)
INT64 = ir.IntType(64)


def load_int64(builder: Any, address: Any, index: Any, space: int = GENERIC) -> Any:
    """The 64-bit integer number ``index`` of the table at ``address``."""
    table = builder.inttoptr(address, INT64.as_pointer(space))
    return builder.load(builder.gep(table, [index]), align=8)


def _pointer(builder: Any, address: Any, offset: Any, kind: Any, space: int) -> Any:
    base = builder.inttoptr(address, ir.IntType(8).as_pointer(space))
    return builder.bitcast(builder.gep(base, [offset]), kind.as_pointer(space))


def _mark(builder: Any, instruction: Any, stream: int, streams: int) -> None:
    module = builder.module
    domain = module.add_metadata(["schuss"])
    scopes = [module.add_metadata([f"stream {number}", domain]) for number in range(streams)]
    instruction.set_metadata("alias.scope", module.add_metadata([scopes[stream]]))
    others = [scope for number, scope in enumerate(scopes) if number != stream]
    if others:
        instruction.set_metadata("noalias", module.add_metadata(others))


def load(
    builder: Any,
    spec: Spec,
    stream: int,
    address: Any,
    offset: Any,
    lanes: int = 1,
    align: int = 1,
    space: int = GENERIC,
) -> Any:
    """``lanes`` values of a stream at ``address + offset`` bytes, in the compute type."""
    storage = storage_of_stream(spec, stream)
    kind = _lanes(storage, lanes)
    value = builder.load(_pointer(builder, address, offset, kind, space), align=align)
    _mark(builder, value, stream, FIRST_STATE + len(spec.states))
    return storage.widen(builder, value, spec.compute)


def store(
    builder: Any,
    spec: Spec,
    stream: int,
    address: Any,
    offset: Any,
    value: Any,
    lanes: int = 1,
    align: int = 1,
    space: int = GENERIC,
) -> None:
    """Write ``lanes`` values of the compute type to a stream at ``address + offset`` bytes."""
    storage = storage_of_stream(spec, stream)
    target = _pointer(builder, address, offset, _lanes(storage, lanes), space)
    instruction = builder.store(storage.narrow(builder, value, spec.compute), target, align=align)
    _mark(builder, instruction, stream, FIRST_STATE + len(spec.states))


def load_scalar(builder: Any, compute: np.dtype, address: Any, index: int, space: int = GENERIC) -> Any:
    """Number ``index`` of the scalars at ``address``."""
    kind = ir.FloatType() if compute.itemsize == 4 else ir.DoubleType()
    pointer = _pointer(builder, address, INT64(index * compute.itemsize), kind, space)
    return builder.load(pointer, align=compute.itemsize)


def storage_of_stream(spec: Spec, stream: int) -> Storage:
    """How a stream of the kernel is stored."""
    return (spec.parameter, spec.gradient, *spec.states)[stream]


def _lanes(storage: Storage, lanes: int) -> Any:
    kind = storage.llvm_type()
    return kind if lanes == 1 else ir.VectorType(kind, lanes)
