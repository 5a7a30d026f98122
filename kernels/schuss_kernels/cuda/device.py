"""The device as numba-cuda gives it: memory, streams, events, compiled kernels.

The one module that reaches into numba-cuda, its simulator included.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numba import config, cuda, types

from ..lang.rule import Rule
from ..lowering import diagnostics
from ..plan.spec import GradSquares, Spec
from .kernels import SLICE, source, squares_source

Launch = Callable[..., None]
"""``launch(blocks, stream, rows, width, count)`` starts a kernel on a grid of ``(x, y)`` thread blocks.

``rows``: the address of the plan's rows; ``width``: bytes from row to row; ``count``: rows.
"""

SIMULATED = bool(config.ENABLE_CUDASIM)

_ARGUMENTS = (types.int64,) * 3
_lock = threading.RLock()
_kernels: dict[tuple[str, int], Launch] = {}


def unusable() -> str | None:
    """Return why nothing can run here, None where it can."""
    if SIMULATED:
        return None
    if not cuda.nvvm.is_available():
        return "NVVM, CUDA's compiler, is not installed; get it with: pip install 'schuss[cuda]'"
    if not cuda.is_available():
        reason = " ".join(str(cuda.cuda_error() or "none was found").split()).rstrip(".")
        return f"it needs an NVIDIA GPU and its driver: {reason}"
    return None


def current() -> Device:
    """Return the device that the calling thread works with."""
    return Simulator() if SIMULATED else Device()


def compiled(rule: Rule, spec: Spec, capability: tuple[int, int]) -> Any:
    """Compile a kernel. The library has its NVVM IR (``llvm_strs``) and PTX (``get_asm_str(cc=...)``). Needs no GPU.

    Raises
    ------
    RuleError
        When the rule's update cannot be compiled, returns other states than it has, or computes in float64.
    """
    from .intrinsics import Intrinsics

    with diagnostics.explain_compile_errors(rule, spec):
        library = _compiled(source(Intrinsics(rule, spec), spec), capability)
    if diagnostics.only_float32(spec) and ".f64" in library.get_asm_str(cc=capability):
        raise diagnostics.float64_error(rule, spec)
    return library


def compiled_grad_squares(wanted: GradSquares, capability: tuple[int, int]) -> Any:
    """Compile the kernel that sums the squares of gradients. Needs no GPU."""
    from .intrinsics import SquaresIntrinsics

    return _compiled(squares_source(SquaresIntrinsics(wanted), wanted), capability)


def _compiled(function: Any, capability: tuple[int, int]) -> Any:
    from numba.cuda.compiler import compile_cuda, kernel_fixup

    # Contraction of a * b + c would be on by default, and would change the last bits.
    options = {"opt": 3, "fma": False}
    result = compile_cuda(function, types.void, _ARGUMENTS, nvvm_options=options, cc=capability)
    library = result.library
    kernel = library.get_function(result.fndesc.llvm_func_name)
    library._entry_name = kernel.name
    kernel_fixup(kernel, debug=False)
    return library


class Device:
    """The current CUDA device."""

    threads = 256
    """Threads of a thread block."""

    max_blocks = 1 << 16
    """Thread blocks of a grid along x, at most."""

    slice = SLICE

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Allocate an array on the device."""
        return cuda.device_array(shape, dtype)

    def staging(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Allocate a pinned array on the host."""
        return cuda.pinned_array(shape, dtype)

    def address(self, array: Any) -> int:
        """Return the address of an array of :meth:`empty`."""
        return int(array.__cuda_array_interface__["data"][0])

    def copy(self, array: Any, host: np.ndarray, stream: Any) -> None:
        """Copy to an array of :meth:`empty`, in the order of the stream. ``host`` must stay until it is done."""
        array.copy_to_device(host, stream=stream)

    def event(self) -> Any:
        """Make an event: ``record(stream)``, ``wait(stream)``, ``synchronize()``."""
        return cuda.event(timing=False)

    def stream(self, handle: int) -> Any:
        """Return the stream of a handle; 0 is the default stream."""
        return cuda.external_stream(handle) if handle else cuda.default_stream()

    def follow(self, stream: Any, handles: Iterable[int]) -> None:
        """Let the stream wait for the work that other streams, given by handle, have so far."""
        for handle in handles:
            event = self.event()
            event.record(self.stream(handle))
            event.wait(stream)

    def synchronize(self) -> None:
        """Wait for all work on the device."""
        cuda.synchronize()

    def read(self, address: int, size: int) -> np.ndarray:
        """Copy bytes at a device address to the host."""
        self.synchronize()
        return cuda.as_cuda_array(_Bytes(address, size), sync=False).copy_to_host()

    def write(self, address: int, values: np.ndarray) -> None:
        """Copy bytes (uint8) of the host to a device address."""
        self.synchronize()
        cuda.as_cuda_array(_Bytes(address, values.size), sync=False).copy_to_device(values)
        self.synchronize()  # a copy from ordinary memory may return before it has arrived

    def kernel(self, rule: Rule, spec: Spec) -> Launch:
        """Return a rule's kernel, compiled and loaded on first use."""
        device = cuda.get_current_device()
        return _once((str(spec), device.id), lambda: self._load(rule, spec, device.compute_capability))

    def grad_squares_kernel(self, wanted: GradSquares) -> Launch:
        """Return the kernel that sums squares, compiled and loaded on first use."""
        device = cuda.get_current_device()
        return _once(
            (wanted.form, device.id), lambda: self._launcher(compiled_grad_squares(wanted, device.compute_capability))
        )

    def _load(self, rule: Rule, spec: Spec, capability: tuple[int, int]) -> Launch:
        return self._launcher(compiled(rule, spec, capability))

    def _launcher(self, library: Any) -> Launch:
        from cuda.core import LaunchConfig
        from cuda.core import launch as core_launch
        from numba.cuda.cudadrv import devices, driver

        function = library.get_cufunc()

        @devices.require_context
        def launch(blocks: tuple[int, int], stream: Any, *numbers: int) -> None:
            grid = LaunchConfig(grid=blocks, block=self.threads)
            core_launch(driver._to_core_stream(stream), grid, function.kernel, *map(ctypes.c_int64, numbers))

        return launch


class Simulator(Device):
    """Numba's simulator: kernels run as Python on host memory, one host thread for each of a thread block's."""

    threads = 32
    max_blocks = 4

    def address(self, array: Any) -> int:
        return int(array.ctypes.data)

    def event(self) -> Any:
        return cuda.event()

    def stream(self, handle: int) -> Any:
        return 0

    def follow(self, stream: Any, handles: Iterable[int]) -> None:
        pass

    def read(self, address: int, size: int) -> np.ndarray:
        return _host_bytes(address, size).copy()

    def write(self, address: int, values: np.ndarray) -> None:
        _host_bytes(address, values.size)[:] = values

    def kernel(self, rule: Rule, spec: Spec) -> Launch:
        from .simulator import Intrinsics

        def load() -> Launch:
            kernel = cuda.jit(source(Intrinsics(rule, spec), spec))
            return lambda blocks, stream, *numbers: kernel[blocks, self.threads, stream](*numbers)

        return _once((str(spec), -1), load)

    def grad_squares_kernel(self, wanted: GradSquares) -> Launch:
        from .simulator import SquaresIntrinsics

        def load() -> Launch:
            kernel = cuda.jit(squares_source(SquaresIntrinsics(wanted), wanted))
            return lambda blocks, stream, *numbers: kernel[blocks, self.threads, stream](*numbers)

        return _once((wanted.form, -1), load)


class _Bytes:
    """Memory at a device address, for numba to make an array of."""

    def __init__(self, address: int, size: int) -> None:
        self.__cuda_array_interface__ = {"shape": (size,), "typestr": "|u1", "data": (address, False), "version": 3}


def _host_bytes(address: int, size: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


def _once(key: tuple[str, int], load: Callable[[], Launch]) -> Launch:
    launch = _kernels.get(key)
    if launch is None:
        with _lock:
            launch = _kernels.get(key) or load()
            _kernels[key] = launch
    return launch
