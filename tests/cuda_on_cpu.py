"""Compiled CUDA kernels, run without a GPU: their NVVM IR is compiled for this machine and called thread by thread.

That shows what the simulator cannot: types, addresses, vector accesses, compiled arithmetic. The engine around the
kernels is the real one; only memory, streams and launches are this machine's.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import importlib.util
import re

import llvmlite.binding as llvm
import numpy as np
from schuss_kernels import cuda, cuda_device

CAPABILITY = (8, 0)

_REGISTERS = re.compile(r'@"llvm\.nvvm\.read\.ptx\.sreg\.([a-z]+\.[xyz])"')
_LIBRARY = {"sqrt": "sqrt", "fabs": "fabs"}  # libdevice function -> LLVM intrinsic of the same meaning


def missing():
    """Why kernels cannot be compiled here, None where they can. No GPU is needed for it."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: pip install 'schuss[cuda]'"
    if cuda_device.SIMULATED:
        return "NUMBA_ENABLE_CUDASIM is set: nothing is compiled"
    from numba.cuda import nvvm

    return None if nvvm.is_available() else "NVVM is not installed: pip install 'numba-cuda[cu13]' nvidia-cuda-nvcc"


@functools.cache
def library(rule, spec):
    """The code library of a kernel: compiled once for all tests, and to PTX for any device from there."""
    return cuda_device.compiled(rule, spec, CAPABILITY)


@functools.cache
def squares_library(wanted):
    """The same for a kernel that adds up squares."""
    return cuda_device.compiled_squares(wanted, CAPABILITY)


@functools.cache
def executable(held):
    """The kernel's IR as machine code: a C function, the special registers by name, and what owns both."""
    texts = [re.sub(r"(?m)^target .*$", "", text) for text in held.llvm_strs]
    registers = sorted(set(_REGISTERS.findall("\n".join(texts))))
    modules = [llvm.parse_assembly(_REGISTERS.sub(r'@"read.\1"', text)) for text in texts]
    modules.append(llvm.parse_assembly(_support(registers)))
    for module in modules[1:]:
        modules[0].link_in(module)
    modules[0].verify()
    unknown = [f.name for f in modules[0].functions if f.is_declaration and f.name.startswith("__nv_")]
    assert not unknown, f"{unknown} must be added to _LIBRARY"  # a call to nowhere would end the process
    machine = _machine()
    engine = llvm.create_mcjit_compiler(modules[0], machine)
    engine.finalize_object()
    address = engine.get_function_address(held._entry_name)
    places = {
        name: ctypes.c_int32.from_address(engine.get_global_value_address(f"register.{name}")) for name in registers
    }
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(address), places, engine


def _machine():
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=llvm.get_host_cpu_features().flatten(), opt=2
    )


def _support(registers):
    """IR for what a GPU brings along: special registers, here global variables, and the mathematics of libdevice."""
    text = []
    for name in registers:
        text.append(f'@"register.{name}" = global i32 0')
        text.append(f'define i32 @"read.{name}"() {{ %v = load i32, i32* @"register.{name}"\n ret i32 %v }}')
    for name, intrinsic in _LIBRARY.items():
        for kind, suffix, bits in (("float", "f", 32), ("double", "", 64)):
            called = f"@llvm.{intrinsic}.f{bits}"
            text.append(f"declare {kind} {called}({kind})")
            text.append(
                f"define linkonce_odr {kind} @__nv_{name}{suffix}({kind} %x) {{ "
                f"%v = call {kind} {called}({kind} %x)\n ret {kind} %v }}"
            )
    return "\n".join(text)


class Event:
    """A place in the queue of a device."""

    def __init__(self, device):
        self.device, self.reached = device, True

    def record(self, stream):
        self.reached = False
        self.device.do(self._reach)

    def synchronize(self):
        while not self.reached:
            self.device.queue.popleft()()

    def _reach(self):
        self.reached = True


class Cpu(cuda_device.Device):
    """This machine as the device.

    ``launches`` keeps what was launched, ``followed`` which streams were waited for, ``copies`` what was copied. A lazy
    one does its work as late as a device may: when an event is waited for, or at :meth:`finish`.
    """

    threads = 64
    most_blocks = 3  # fewer than rows: blocks have to stride

    def __init__(self, lazy=False):
        self.lazy, self.queue = lazy, collections.deque()
        self.launches, self.followed, self.copies = [], [], []

    def do(self, work, *arguments):
        self.queue.append(functools.partial(work, *arguments))
        if not self.lazy:
            self.finish()

    def finish(self):
        while self.queue:
            self.queue.popleft()()

    def empty(self, shape, dtype):
        return np.empty(shape, dtype)

    staging = empty

    def address(self, array):
        return array.ctypes.data

    def copy(self, array, host, stream):
        self.copies.append(host)
        self.do(np.copyto, array, host)

    def read(self, address, size):
        self.finish()
        return cuda_device._host_bytes(address, size).copy()

    def event(self):
        return Event(self)

    def stream(self, handle):
        return handle

    def follow(self, stream, handles):
        self.followed.append((stream, set(handles)))

    def kernel(self, rule, spec):
        return self._started(str(spec), library(rule, spec))

    def squares_kernel(self, wanted):
        return self._started(wanted.form, squares_library(wanted))

    def _started(self, text, held):
        function, registers, _ = executable(held)

        def launch(blocks, stream, *numbers):
            self.launches.append((text, blocks, stream, numbers))
            self.do(self._walk, function, registers, blocks, numbers)

        return launch

    def _walk(self, function, registers, blocks, numbers):
        """Call the kernel for every thread of a grid."""
        x, y = blocks
        shape = {"ntid.x": self.threads, "ntid.y": 1, "ntid.z": 1, "nctaid.x": x, "nctaid.y": y, "nctaid.z": 1}
        for name, value in shape.items():
            if name in registers:
                registers[name].value = value
        for block_y in range(y):
            registers["ctaid.y"].value = block_y
            for block_x in range(x):
                registers["ctaid.x"].value = block_x
                for thread in range(self.threads):
                    registers["tid.x"].value = thread
                    function(*numbers)


class Engine(cuda.CudaEngine):
    """The CUDA engine on this machine."""

    def open_device(self):
        return Cpu()


class LazyEngine(Engine):
    """One whose device lags behind as far as it may."""

    def open_device(self):
        return Cpu(lazy=True)
