"""Arrays in device memory: where they lie, and copies to and from the host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..plan import chunk_table
from ..storage import dtypes
from ..storage.memory import Memory

_LEGACY_DEFAULT = 1  # the default stream's other handle


_FILL = 1 << 22  # elements of host memory that a new state is filled from


@dataclass(frozen=True)
class CudaMemory(Memory):
    """An array in device memory. ``stream``: what its owner says must be waited for, a handle; None: nothing."""

    stream: int | None = None
    read_only: bool = False


def memory_of(array: Any, name: str) -> CudaMemory:
    """An array that has ``__cuda_array_interface__`` (CuPy, numba, torch). ``name`` is what messages call it.

    Raises
    ------
    TypeError
        When it has no such interface, a mask, or a dtype that no kernel works on.
    ValueError
        When its address or strides are not multiples of its item size.
    """
    detach = getattr(array, "detach", None)  # torch shows no interface of what it differentiates
    try:
        interface = (detach() if callable(detach) else array).__cuda_array_interface__
    except (AttributeError, RuntimeError, TypeError) as error:
        raise TypeError(
            f"{name}: expected a device array ({dtypes.names()}), got {type(array).__name__}: {error}"
        ) from None
    if interface.get("mask") is not None:
        raise TypeError(
            f"{name}: expected a device array ({dtypes.names()}), got one with a mask, which would be ignored"
        )
    try:
        dtype = np.dtype(interface["typestr"])
    except TypeError:
        dtype = np.dtype(np.void)
    if not dtype.isnative or dtypes.storage_of(dtype) is None:
        raise TypeError(f"{name}: expected a device array ({dtypes.names()}), got {interface['typestr']!r}")
    address, read_only = interface["data"]
    shape = tuple(int(extent) for extent in interface["shape"])
    strides = interface.get("strides")
    if strides is None:
        strides = chunk_table.dense_strides(shape, range(len(shape)), dtype.itemsize)
    memory = CudaMemory(
        array, int(address or 0), dtype, shape, tuple(map(int, strides)), _stream_of(interface), read_only
    )
    if memory.size and any(number % dtype.itemsize for number in (memory.address, *memory.strides)):
        raise ValueError(
            f"{name}: its address {memory.address:#x} and strides {memory.strides} must be multiples of the "
            f"{dtype.itemsize} bytes of {dtype}"
        )
    return memory


def _stream_of(interface: Any) -> int | None:
    handle = interface.get("stream")
    return None if handle is None else int(handle)


def allocate(memory: Memory, dtype: Any, fill: float) -> CudaMemory:
    """A new dense device array of the shape of ``memory``, its axes in the same order, every element ``fill``."""
    from . import device as cuda_device

    device, dtype = cuda_device.current(), np.dtype(dtype)
    array = device.empty((max(1, memory.size),), dtype)
    address = device.address(array)
    block = np.full(min(memory.size, _FILL), fill, dtype).view(np.uint8)
    for start in range(0, memory.size * dtype.itemsize, block.size or 1):
        device.write(address + start, block[: memory.size * dtype.itemsize - start])
    order = chunk_table.memory_order(memory.shape, memory.strides)
    return CudaMemory(
        array, address, dtype, memory.shape, chunk_table.dense_strides(memory.shape, order, dtype.itemsize)
    )


def to_host(memory: Memory) -> np.ndarray:
    """A copy of a device array, in C order. Waits for what is running on the device."""
    from . import device as cuda_device

    return _bytes_and_view(memory, cuda_device.current())[1].copy(order="C")


def from_host(values: np.ndarray, memory: Memory) -> None:
    """Write ``values`` to a device array of the same shape. Waits for what is running on the device."""
    from . import device as cuda_device

    device = cuda_device.current()
    held, view = _bytes_and_view(memory, device)
    view[...] = values
    if held.size:
        device.write(memory.address + memory.extent()[0], held)


def _bytes_and_view(memory: Memory, device: Any) -> tuple[np.ndarray, np.ndarray]:
    """The bytes that an array spans, copied to the host, and the array in them."""
    low, high = memory.extent()
    if high == low:
        return np.empty(0, np.uint8), np.empty(memory.shape, memory.dtype)
    held = device.read(memory.address + low, high - low)
    return held, np.ndarray(memory.shape, memory.dtype, held, -low, memory.strides)


def stream_handle(stream: Any) -> int:
    """The handle of a stream: an int, None (the default stream), or a stream of torch, CuPy, numba or cuda.core.

    Raises
    ------
    TypeError
        When it is none of these.
    """
    if stream is None:
        return 0
    if isinstance(stream, int):
        return stream
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        return int((protocol() if callable(protocol) else protocol)[1])
    for name in ("cuda_stream", "ptr"):  # torch, CuPy
        if isinstance(getattr(stream, name, None), int):
            return int(getattr(stream, name))
    raise TypeError(f"stream: expected a CUDA stream or its handle, got {type(stream).__name__}")
