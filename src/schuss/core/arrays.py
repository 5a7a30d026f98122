"""Arrays of any library: where their memory lies and how, or an error that says what is wrong with them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from schuss_kernels.storage import dtypes
from schuss_kernels.storage.memory import Memory, dense_strides, memory_order

from .overlap import overlaps_itself


def is_device(array: Any) -> bool:
    """Return whether an array lies in CUDA memory."""
    if isinstance(array, np.ndarray):
        return False
    try:
        return hasattr(array, "__cuda_array_interface__")
    except RuntimeError:  # a torch tensor on the device that requires a gradient
        return True


def parameter(array: Any, name: str) -> Memory:
    """Find where a parameter lies, which is to be updated in place.

    Raises
    ------
    TypeError
        When it is no array, or has a dtype that no kernel works on.
    ValueError
        When it is read-only or overlaps itself.
    """
    memory = _memory(array, f"parameter {name!r}", f"float array ({dtypes.names()})")
    if not memory.writable:
        raise ValueError(f"parameter {name!r} is read-only; it is updated in place and must be writable")
    if overlaps_itself(memory):
        raise ValueError(
            f"parameter {name!r} overlaps itself (shape {memory.shape}, strides {memory.strides}): some elements share "
            "memory and would be updated twice; pass a copy"
        )
    return memory


def gradient(array: Any, name: str, like: Memory, written: bool = False) -> Memory:
    """Find where the gradient of a parameter, ``like``, lies. ``written``: it is to be set to zero.

    Raises
    ------
    TypeError
        When it is no array, has a dtype that no kernel works on, or is not where the parameter is (host or device).
    ValueError
        When its shape is not the parameter's, or it is to be set to zero and is read-only or overlaps itself.
    """
    if isinstance(array, np.generic):  # what numpy makes of a 0-d result
        array = np.asarray(array)
    memory = _memory(array, f"gradient of {name!r}", f"float array ({dtypes.names()}) or None")
    if memory.shape != like.shape:
        raise ValueError(f"gradient of {name!r}: expected shape {like.shape}, got {memory.shape}")
    if memory.on_host != like.on_host:
        places = {True: "host memory", False: "CUDA memory"}
        there, here = (places[m.on_host] for m in (like, memory))
        raise TypeError(f"gradient of {name!r}: the parameter is in {there}, the gradient in {here}")
    if written and not memory.writable:
        raise ValueError(f"zero_grad: the gradient of {name!r} is read-only")
    if written and overlaps_itself(memory):
        raise ValueError(f"zero_grad: the gradient of {name!r} overlaps itself (strides {memory.strides}); pass a copy")
    return memory


def copy(array: Any, name: str, like: Memory) -> Memory:
    """Find where the array lies that a parameter, ``like``, is copied to: of its shape, dense, with its order of axes.

    Raises
    ------
    TypeError, ValueError
        When it is no such array, is read-only, or is not where the parameter is (host or device).
    """
    what = f"copy_to of {name!r}"
    memory = _memory(array, what, f"float array ({dtypes.names()})")
    if memory.shape != like.shape:
        raise ValueError(f"{what}: expected shape {like.shape}, got {memory.shape}")
    if memory.on_host != like.on_host:
        raise TypeError(f"{what}: it and the parameter must both be in host memory, or both in CUDA memory")
    if not memory.writable:
        raise ValueError(f"{what} is read-only; it is written in every step")
    order = memory_order(like.shape, like.strides)
    dense = dense_strides(memory.shape, order, memory.dtype.itemsize)
    if memory.size and any(n > 1 and s != d for n, s, d in zip(memory.shape, memory.strides, dense, strict=True)):
        raise ValueError(
            f"{what}: expected a dense array with its axes in memory in the order of the parameter's "
            f"(strides {dense}), got strides {memory.strides}"
        )
    return memory


def check_unchanged(memory: Memory, what: str) -> None:
    """Raise a ValueError where an array can no longer be written as it could when it was described, naming it."""
    change = memory.change()
    if change:
        raise ValueError(f"{what} {change}")


def _memory(array: Any, what: str, expected: str) -> Memory:
    if is_device(array):
        from schuss_kernels.cuda import memory as cuda_memory

        return cuda_memory.memory_of(array, what)
    array = _ndarray(array, what, expected)
    if not array.dtype.isnative:
        raise TypeError(f"{what}: expected a {expected}, got {array.dtype.str!r}, a float of the other byte order")
    if array.dtype.names is not None or dtypes.storage_of(array.dtype) is None:
        raise TypeError(f"{what}: expected a {expected}, got {array.dtype}")
    return Memory.of(array)


def _ndarray(array: Any, what: str, expected: str) -> np.ndarray:
    if type(array) is np.ndarray:  # most are: nothing else has to be asked
        return array
    if is_masked(array):
        raise TypeError(f"{what}: expected a {expected}, got {described(array)}")
    if isinstance(array, np.ndarray):
        return array
    if hasattr(array, "__dlpack__"):  # torch and others, on the host: the same memory, seen by numpy
        array = array.detach() if hasattr(array, "detach") else array
        try:
            return _from_dlpack(array)
        except (BufferError, ModuleNotFoundError, RuntimeError, TypeError, ValueError) as error:
            dtype = f" of dtype {array.dtype}" if hasattr(array, "dtype") else ""
            raise TypeError(
                f"{what}: expected a {expected}; numpy cannot see this {type(array).__name__}{dtype}: {error}"
            ) from error
    try:
        return np.asarray(memoryview(array))  # array.array, ctypes and others: the same memory
    except (TypeError, ValueError):
        raise TypeError(f"{what}: expected a {expected}, got {described(array)}") from None


def _from_dlpack(array: Any) -> np.ndarray:
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor) and array.dtype is torch.bfloat16:
        return np.from_dlpack(array.view(torch.int16)).view(dtypes.BF16.dtype)  # numpy's DLPack has no bfloat16
    return np.from_dlpack(array)


def is_masked(array: Any) -> bool:
    """Return whether an array is one of ``numpy.ma``, with a mask that would be ignored."""
    return hasattr(array, "mask") and isinstance(array, np.ma.MaskedArray)  # numpy.ma is slow to import


def described(value: Any) -> str:
    """Return what an error says of a value that is no array as it is expected."""
    if is_masked(value):
        return "a masked array, whose mask would be ignored"
    return f"{type(value).__name__} {value!r}" if isinstance(value, (int, float, str, bool)) else type(value).__name__


def read(memory: Memory) -> np.ndarray:
    """Copy an array to a new one on the host."""
    return memory.read()


def write(memory: Memory, values: np.ndarray) -> None:
    """Write values into an array, rounded to its dtype."""
    memory.write(values)
