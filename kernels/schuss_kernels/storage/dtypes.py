"""How a value lives in memory: its dtype, its bytes, and the type that kernels compute in.

One :class:`Storage` a dtype. A kernel computes in the parameter's compute type; whatever else it loads or stores is
converted in registers (``lowering.conversions``).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

_SINGLE, _DOUBLE = np.dtype(np.float32), np.dtype(np.float64)


@dataclass(frozen=True)
class Storage:
    """One way to store a number: a short code, numpy's name of the dtype, its bytes, and the dtype to compute in.

    ``compute``: what a kernel computes in whose parameters are stored so.
    """

    code: str
    name: str
    itemsize: int
    compute: np.dtype

    @property
    def dtype(self) -> np.dtype:
        """The numpy dtype; bfloat16's is that of ml_dtypes.

        Raises
        ------
        ModuleNotFoundError
            When it is bfloat16 and ml_dtypes is not installed.
        """
        return _dtype(self.name)

    @property
    def is_quantized(self) -> bool:
        """Whether it is a code of 8 bits, which needs its block's scale."""
        return self.itemsize == 1


F64 = Storage("f64", "float64", 8, _DOUBLE)
F32 = Storage("f32", "float32", 4, _SINGLE)
F16 = Storage("f16", "float16", 2, _SINGLE)
BF16 = Storage("bf16", "bfloat16", 2, _SINGLE)

STORAGES: dict[str, Storage] = {storage.code: storage for storage in (F64, F32, F16, BF16)}
BY_NAME = {storage.name: storage for storage in STORAGES.values()}


@functools.cache
def _dtype(name: str) -> np.dtype:
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ModuleNotFoundError:
        raise ModuleNotFoundError("bfloat16 needs ml_dtypes; get it with: pip install ml_dtypes") from None
    return np.dtype(ml_dtypes.bfloat16)


@functools.cache
def storage_of(dtype: np.dtype) -> Storage | None:
    """Return the storage of a dtype that parameters and gradients may have, None for any other."""
    storage = BY_NAME.get(dtype.name)
    return storage if storage is not None and storage.dtype == dtype else None


@functools.cache
def names() -> str:
    """Return the names of the dtypes that parameters and gradients may have, for messages."""
    *most, last = BY_NAME
    return f"{', '.join(most)} or {last}"


CODES = Storage("q8", "int8", 1, _SINGLE)
POSITIVE_CODES = Storage("u8", "uint8", 1, _SINGLE)
"""Quantized states, of any sign and never negative: see :mod:`.quantization`."""

STATE_STORAGES = {**BY_NAME, CODES.name: CODES, POSITIVE_CODES.name: POSITIVE_CODES}
"""dtype name -> what states may be stored in."""

REMAINDER = Storage("rem", "uint16", 2, _SINGLE)
"""The low 16 bits of a float32 whose bfloat16 is the parameter: together they are the master weight."""
