"""How a value lives in memory: its dtype, its bytes, and the code that loads and stores it.

One table row a storage. A kernel computes in the parameter's compute type; whatever else it touches is converted in
registers. The code below speaks to an LLVM builder, so the CPU and the CUDA kernels share it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .rule import Rule


@dataclass(frozen=True)
class Storage:
    """One way to keep a number: its short code, numpy dtype, and the dtype a parameter of it computes in."""

    code: str
    dtype: np.dtype
    compute: np.dtype

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    def llvm_type(self) -> Any:
        """The LLVM type that is loaded and stored."""
        return _float_type(self.dtype)

    def widen(self, builder: Any, value: Any, compute: np.dtype) -> Any:
        """A loaded value (or vector) as ``compute``."""
        return _cast(builder, value, self.dtype, compute)

    def narrow(self, builder: Any, value: Any, compute: np.dtype) -> Any:
        """A ``compute`` value (or vector) as it is stored, rounded to nearest even."""
        return _cast(builder, value, compute, self.dtype)


F32 = Storage("f32", np.dtype(np.float32), np.dtype(np.float32))
F64 = Storage("f64", np.dtype(np.float64), np.dtype(np.float64))

STORAGES: dict[str, Storage] = {storage.code: storage for storage in (F32, F64)}
_BY_DTYPE = {storage.dtype: storage for storage in STORAGES.values()}


def storage_of(dtype: np.dtype) -> Storage | None:
    """The storage that holds ``dtype``, None where there is none."""
    return _BY_DTYPE.get(dtype)


def names() -> str:
    """The dtypes there are, for messages."""
    return " or ".join(storage.dtype.name for storage in STORAGES.values())


@dataclass(frozen=True)
class Spec:
    """What a kernel is compiled for: a rule, the storage of each stream, dense or strided."""

    rule: Rule
    parameter: Storage
    gradient: Storage
    states: tuple[Storage, ...]
    strided: bool = False

    @property
    def compute(self) -> np.dtype:
        return self.parameter.compute

    @property
    def bytes_per_element(self) -> int:
        """Bytes one element moves: parameter and states read and written, gradient read."""
        return 2 * self.parameter.itemsize + self.gradient.itemsize + 2 * sum(s.itemsize for s in self.states)

    def __str__(self) -> str:
        states = ",".join(s.code for s in self.states)
        return "|".join((self.rule.key, self.parameter.code, self.gradient.code, states, "ds"[self.strided]))


def _float_type(dtype: np.dtype) -> Any:
    from llvmlite import ir

    return {4: ir.FloatType, 8: ir.DoubleType}[dtype.itemsize]()


def _cast(builder: Any, value: Any, source: np.dtype, target: np.dtype) -> Any:
    if source == target:
        return value
    kind = _float_type(target)
    if hasattr(value.type, "count"):
        from llvmlite import ir

        kind = ir.VectorType(kind, value.type.count)
    return (builder.fpext if target.itemsize > source.itemsize else builder.fptrunc)(value, kind)
