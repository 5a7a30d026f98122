"""What device arrays say of themselves, and what is said where there is no CUDA."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from schuss_kernels.cuda import engine as cuda_engine
from schuss_kernels.cuda import memory as cuda_memory
from schuss_kernels.storage.memory import Memory


def interface(**changes):
    """A device array that is nowhere: ``memory_of`` only reads what it says of itself."""
    held = {"shape": (2, 3), "typestr": "<f4", "data": (4096, False), "strides": None, "version": 3, **changes}
    return type("Array", (), {"__cuda_array_interface__": held})()


def test_memory_of():
    memory = cuda_memory.memory_of(interface(), "it")
    assert (memory.address, memory.dtype, memory.shape, memory.strides) == (4096, np.float32, (2, 3), (12, 4))
    assert (memory.stream, memory.read_only) == (None, False)
    assert isinstance(memory, Memory)
    memory = cuda_memory.memory_of(interface(typestr="<f8", strides=(8, 16), stream=7, data=(8, True)), "it")
    assert (memory.dtype, memory.strides, memory.stream, memory.read_only) == (np.float64, (8, 16), 7, True)
    empty = cuda_memory.memory_of(interface(shape=(0,), data=(None, False)), "it")
    assert (empty.address, empty.size) == (0, 0)


def test_memory_of_a_tensor_that_is_differentiated():
    def refuse(self):
        raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad")

    tensor = type("Tensor", (), {"__cuda_array_interface__": property(refuse), "detach": lambda self: interface()})()
    memory = cuda_memory.memory_of(tensor, "it")
    assert memory.address == 4096
    assert memory.array is tensor


@pytest.mark.parametrize(
    ("array", "kind", "said"),
    [
        (
            object(),
            TypeError,
            r"parameter 'w': expected a device array \(float64, .* or bfloat16\), got object",
        ),
        (interface(mask=1), TypeError, "parameter 'w': .* mask"),
        (interface(typestr="<i4"), TypeError, "parameter 'w': expected .* got '<i4'"),
        (interface(typestr=">f4"), TypeError, "parameter 'w': expected .* got '>f4'"),
        (interface(typestr="bfloat61"), TypeError, "parameter 'w': expected .* got 'bfloat61'"),
        (interface(data=(4097, False)), ValueError, "parameter 'w': its address 0x1001 .* multiples of the 4 bytes"),
        (interface(strides=(14, 4)), ValueError, r"parameter 'w': .*strides \(14, 4\)"),
    ],
)
def test_memory_of_errors(array, kind, said):
    with pytest.raises(kind, match=said):
        cuda_memory.memory_of(array, "parameter 'w'")


def without(module, program):
    """Run a program in a Python that has no ``module``."""
    block = f"import sys; sys.modules[{module!r}] = None; "
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("NUMBA_ENABLE_CUDASIM", None)
    ran = subprocess.run(
        [sys.executable, "-c", block + program], env=environment, capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_without_numba_cuda():
    program = "from schuss_kernels.cuda import engine; print(engine.available()); print('numba' in sys.modules)"
    assert without("numba_cuda", program).splitlines() == [
        "numba-cuda is not installed; get it with: pip install 'schuss[cuda]'",
        "False",
    ]


def test_only_who_asks_for_cuda_is_told():
    program = """
import numpy, schuss
schuss.SGD([numpy.ones(3)], lr=0.1, backend='numpy').step([numpy.ones(3)])
assert 'schuss_kernels.cuda.engine' not in sys.modules
try:
    schuss.SGD([numpy.ones(3)], lr=0.1, backend='cuda')
except RuntimeError as error:
    print(error)
"""
    assert without("numba_cuda", program) == (
        "backend='cuda': numba-cuda is not installed; get it with: pip install 'schuss[cuda]'"
    )


@pytest.mark.skipif(cuda_engine.available() is None, reason="nothing is missing")
def test_available_says_what_is_missing():
    reason = cuda_engine.available()
    assert "pip install 'schuss[cuda]'" in reason or reason.startswith("it needs an NVIDIA GPU and its driver: ")
    assert "\n" not in reason
