"""Loads and stores at addresses, for LLVM builders."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from ..storage.dtypes import Storage

GENERIC, GLOBAL = 0, 1
"""Address spaces: any memory, CUDA's device memory."""

INT64 = ir.IntType(64)

_TYPES = {8: ir.DoubleType(), 4: ir.FloatType(), 2: ir.IntType(16), 1: ir.IntType(8)}


def stored_type(storage: Storage, lanes: int = 1) -> Any:
    """The LLVM type that a storage is loaded and stored as: a vector where there are several ``lanes``."""
    return _TYPES[storage.itemsize] if lanes == 1 else ir.VectorType(_TYPES[storage.itemsize], lanes)


def load_int64(builder: Any, address: Any, index: Any, space: int = GENERIC) -> Any:
    """Load the 64-bit integer number ``index`` of the table at ``address``."""
    table = builder.inttoptr(address, INT64.as_pointer(space))
    return builder.load(builder.gep(table, [index]), align=8)


def pointer_to(builder: Any, address: Any, offset: Any, type_: Any, space: int = GENERIC) -> Any:
    """Make a pointer to a value of an LLVM type, ``offset`` bytes behind an address."""
    base = builder.inttoptr(address, ir.IntType(8).as_pointer(space))
    return builder.bitcast(builder.gep(base, [offset]), type_.as_pointer(space))


def set_alias_scope(builder: Any, instruction: Any, stream: int, streams: int) -> None:
    """Tell LLVM that a load or a store is of stream number ``stream``, and of none of the other ``streams``."""
    module = builder.module
    domain = module.add_metadata(["schuss"])
    scopes = [module.add_metadata([f"stream {number}", domain]) for number in range(streams)]
    instruction.set_metadata("alias.scope", module.add_metadata([scopes[stream]]))
    others = [scope for number, scope in enumerate(scopes) if number != stream]
    if others:
        instruction.set_metadata("noalias", module.add_metadata(others))


def store_double(builder: Any, address: Any, index: Any, value: Any) -> None:
    """Store a float64 as number ``index`` of the table at ``address``."""
    table = builder.inttoptr(address, ir.DoubleType().as_pointer())
    builder.store(value, builder.gep(table, [index]), align=8)


def load_scalar(builder: Any, compute: np.dtype, address: Any, index: int, space: int = GENERIC) -> Any:
    """Load number ``index`` of the scalars at ``address``, which are in the compute type."""
    type_ = _TYPES[compute.itemsize]
    pointer = pointer_to(builder, address, INT64(index * compute.itemsize), type_, space)
    return builder.load(pointer, align=compute.itemsize)
