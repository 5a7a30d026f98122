"""Compiled CUDA kernels, run without a GPU: their NVVM IR is compiled for this machine and called thread by thread.

That shows what the simulator cannot: types, addresses, vector accesses, compiled arithmetic. The engine around the
kernels is the real one; only memory, streams and launches are this machine's.

Threads that exchange numbers within a warp each have a stack, and give way to the next where they meet.
"""

from __future__ import annotations

import collections
import ctypes
import functools
import importlib.util
import re
import sys

import llvmlite.binding as llvm
import numpy as np
from schuss_kernels.cuda import device as cuda_device
from schuss_kernels.cuda import engine as cuda_engine
from schuss_kernels.cuda.kernels import WARP

CAPABILITY = (8, 0)

_REGISTERS = re.compile(r'@"llvm\.nvvm\.read\.ptx\.sreg\.([a-z]+\.[xyz])"')
_SHUFFLE = re.compile(r'@"?llvm\.nvvm\.shfl\.sync\.i32"?')
_LIBRARY = {"sqrt": "sqrt", "fabs": "fabs"}  # libdevice function -> LLVM intrinsic of the same meaning


def missing():
    """Why kernels cannot be compiled here, None where they can. No GPU is needed for it."""
    if importlib.util.find_spec("numba_cuda") is None:
        return "numba-cuda is not installed: pip install 'schuss[cuda]'"
    if cuda_device.SIMULATED:
        return "NUMBA_ENABLE_CUDASIM is set: nothing is compiled"
    from numba.cuda import nvvm

    return None if nvvm.is_available() else "NVVM is not installed: pip install 'numba-cuda[cu13]' nvidia-cuda-nvcc"


def warps_missing():
    """Why kernels whose threads exchange numbers cannot run here, None where they can."""
    return missing() or (None if sys.platform.startswith("linux") else "glibc's swapcontext is not there")


@functools.cache
def library(rule, spec):
    """The code library of a kernel: compiled once for all tests, and to PTX for any device from there."""
    return cuda_device.compiled(rule, spec, CAPABILITY)


@functools.cache
def squares_library(wanted):
    """The same for a kernel that adds up squares."""
    return cuda_device.compiled_grad_squares(wanted, CAPABILITY)


@functools.cache
def executable(held):
    """The kernel's IR as machine code: a C function, the special registers by name, where its threads meet (None: they
    never do), and what owns all that."""
    texts = [re.sub(r"(?m)^target .*$", "", text) for text in held.llvm_strs]
    registers = sorted(set(_REGISTERS.findall("\n".join(texts))))
    exchanges = any(_SHUFFLE.search(text) for text in texts)
    texts = [_SHUFFLE.sub('@"shuffle"', _REGISTERS.sub(r'@"read.\1"', text)) for text in texts]
    modules = [llvm.parse_assembly(text) for text in (*texts, _support(registers) + _MEETING * exchanges)]
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
    meeting = _Meeting(engine.get_global_value_address) if exchanges else None
    return ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(address), places, meeting, engine


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


_THREADS = 64

_MEETING = f"""
@"meeting.waits" = global i32 0
@"meeting.main" = global i64 0
@"meeting.contexts" = global [{_THREADS} x i64] zeroinitializer
@"meeting.values" = global [{_THREADS} x i32] zeroinitializer
declare i32 @swapcontext(i64, i64)

define void @"meet"(i32 %thread) noinline {{
  store i32 1, i32* @"meeting.waits"
  %place = getelementptr [{_THREADS} x i64], [{_THREADS} x i64]* @"meeting.contexts", i32 0, i32 %thread
  %own = load i64, i64* %place
  %main = load i64, i64* @"meeting.main"
  %done = call i32 @swapcontext(i64 %own, i64 %main)
  ret void
}}

define {{i32, i1}} @"shuffle"(i32 %mask, i32 %mode, i32 %value, i32 %distance, i32 %clamp) noinline {{
  %thread = load i32, i32* @"register.tid.x"
  %other = xor i32 %thread, %distance
  %mine = getelementptr [{_THREADS} x i32], [{_THREADS} x i32]* @"meeting.values", i32 0, i32 %thread
  %theirs = getelementptr [{_THREADS} x i32], [{_THREADS} x i32]* @"meeting.values", i32 0, i32 %other
  store i32 %value, i32* %mine
  call void @"meet"(i32 %thread)
  %got = load i32, i32* %theirs
  call void @"meet"(i32 %thread)
  %result = insertvalue {{i32, i1}} {{i32 0, i1 true}}, i32 %got, 0
  ret {{i32, i1}} %result
}}
"""
"""IR for exchanges within a warp, all threads of which take part (``mode`` 3: by xor)."""


class _Context(ctypes.Structure):
    """A ucontext_t of glibc: its stack, and where its function returns to."""

    _fields_ = (
        ("flags", ctypes.c_ulong),
        ("link", ctypes.c_void_p),
        ("stack", ctypes.c_void_p),
        ("stack_flags", ctypes.c_int),
        ("stack_size", ctypes.c_size_t),
        ("rest", ctypes.c_char * 8152),
    )


class _Meeting:
    """Runs the threads of a block in turn, each until it waits for the others of its warp or is done."""

    def __init__(self, address_of):
        self._c = ctypes.PyDLL(None)  # nothing below needs Python's lock, and nothing else runs meanwhile
        self._room = np.zeros((_THREADS + 1) * ctypes.sizeof(_Context) + 64, np.uint8)
        self._stacks = np.zeros((_THREADS, 1 << 16), np.uint8)
        first = self._room.ctypes.data + -self._room.ctypes.data % 64
        places = [first + number * ctypes.sizeof(_Context) for number in range(_THREADS + 1)]
        self._contexts = [_Context.from_address(place) for place in places]
        self._pointers = [ctypes.c_void_p(place) for place in places]
        ctypes.c_int64.from_address(address_of("meeting.main")).value = places[_THREADS]
        (ctypes.c_int64 * _THREADS).from_address(address_of("meeting.contexts"))[:] = places[:_THREADS]
        self._waits = ctypes.c_int32.from_address(address_of("meeting.waits"))

    def run(self, function, threads, number, arguments):
        """Call a C function as every thread; ``number`` is the register that says which."""
        assert threads <= _THREADS
        main = self._pointers[_THREADS]
        for context, pointer, stack in zip(self._contexts, self._pointers, self._stacks[:threads], strict=False):
            self._c.getcontext(pointer)
            context.link, context.stack, context.stack_size = main.value, stack.ctypes.data, stack.size
            self._c.makecontext(pointer, function, len(arguments), *map(ctypes.c_int64, arguments))
        there = range(threads)
        while there:
            waiting = []
            for thread in there:
                number.value, self._waits.value = thread, 0
                self._c.swapcontext(main, self._pointers[thread])
                if self._waits.value:
                    waiting.append(thread)
            for warp in range(0, threads, WARP):
                assert sum(warp <= thread < warp + WARP for thread in waiting) in (0, WARP), waiting
            there = waiting


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

    threads = _THREADS
    max_blocks = 3  # fewer than rows: blocks have to stride

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
        return self._launcher(str(spec), library(rule, spec))

    def grad_squares_kernel(self, wanted):
        return self._launcher(wanted.form, squares_library(wanted))

    def _launcher(self, text, held):
        function, registers, meeting, _ = executable(held)

        def launch(blocks, stream, *numbers):
            self.launches.append((text, blocks, stream, numbers))
            self.do(self._run_grid, function, registers, meeting, blocks, numbers)

        return launch

    def _run_grid(self, function, registers, meeting, blocks, numbers):
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
                if meeting is not None:
                    meeting.run(function, self.threads, registers["tid.x"], numbers)
                    continue
                for thread in range(self.threads):
                    registers["tid.x"].value = thread
                    function(*numbers)


class Engine(cuda_engine.CudaEngine):
    """The CUDA engine on this machine."""

    def open_device(self):
        return Cpu()


class LazyEngine(Engine):
    """One whose device lags behind as far as it may."""

    def open_device(self):
        return Cpu(lazy=True)
