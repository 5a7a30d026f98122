"""Arrays in CUDA memory: their layout, allocation, and copies to and from the host; handles of streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..storage import dtypes
from ..storage.memory import Memory, dense_strides, memory_order

_LEGACY_DEFAULT = 1  # the default stream's other handle

_FILL = 1 << 22
"""Elements of the host buffer that a new array is filled from."""


@dataclass(frozen=True)
class CudaMemory(Memory):
    """An array in device memory.

    Attributes
    ----------
    stream
        Handle of the stream whose work must be waited for, as the owner says; None: nothing to wait for.
    read_only
        Whether the owner forbids writing.
    """

    stream: int | None = None
    read_only: bool = False

    on_host: ClassVar[bool] = False

    @property
    def writable(self) -> bool:
        return not self.read_only

    def change(self) -> str:
        return ""  # libraries for device arrays resize none in place

    def read(self) -> np.ndarray:
        """Return a copy of the values as a numpy array in C order. Waits for what is running on the device."""
        return self._bytes_and_view(_device())[1].copy(order="C")

    def write(self, values: np.ndarray) -> None:
        """Set all values, from a numpy array of the same shape. Waits for what is running on the device."""
        device = _device()
        held, view = self._bytes_and_view(device)
        view[...] = values
        if held.size:
            device.write(self.address + self.extent()[0], held)

    def to_host(self) -> Memory:
        scales = None if self.scales is None else self.scales.to_host()
        return Memory(self.read(), self.address, self.dtype, self.shape, self.strides, scales=scales)

    def allocate_like(self, dtype: Any, fill: float) -> CudaMemory:
        device, dtype = _device(), np.dtype(dtype)
        array = device.empty((max(1, self.size),), dtype)
        address = device.address(array)
        chunk = np.full(min(self.size, _FILL), fill, dtype).view(np.uint8)
        for start in range(0, self.size * dtype.itemsize, chunk.size or 1):
            device.write(address + start, chunk[: self.size * dtype.itemsize - start])
        order = memory_order(self.shape, self.strides)
        return CudaMemory(array, address, dtype, self.shape, dense_strides(self.shape, order, dtype.itemsize))

    def _bytes_and_view(self, device: Any) -> tuple[np.ndarray, np.ndarray]:
        """Copy the bytes that the array spans to the host; return them, and the array as a view of them."""
        low, high = self.extent()
        if high == low:
            return np.empty(0, np.uint8), np.empty(self.shape, self.dtype)
        held = device.read(self.address + low, high - low)
        return held, np.ndarray(self.shape, self.dtype, held, -low, self.strides)


def _device() -> Any:
    """The device that the calling thread works with. (Importing it takes numba.)"""
    from . import device

    return device.current()


def memory_of(array: Any, name: str) -> CudaMemory:
    """Describe an array that has ``__cuda_array_interface__`` (CuPy, numba, torch). ``name``: its name in messages.

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
        strides = dense_strides(shape, range(len(shape)), dtype.itemsize)
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


def stream_handle(stream: Any) -> int:
    """Return the handle of a stream: an int, None (the default stream), or a stream of torch, CuPy, numba or cuda.core.

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
