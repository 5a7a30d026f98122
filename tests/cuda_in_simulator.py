"""Run as a program, under NUMBA_ENABLE_CUDASIM=1: every rule in numba's CUDA simulator against its numpy reference.

Prints a JSON object: what was run -> what went wrong, an empty string where nothing did.
"""

from __future__ import annotations

import importlib.util
import json
import traceback

import numpy as np
from cuda_models import SMALL, Host, Model, differences, moved
from schuss_kernels import cuda, cuda_device
from schuss_kernels.engine import Memory
from schuss_kernels.reference import ReferenceEngine
from schuss_kernels.rules import RULES

import schuss


class DeviceArray:
    """What CuPy, numba and torch hand over; here it lies in host memory, where the simulator looks for it."""

    def __init__(self, array, **extra):
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, not array.flags.writeable),
            "strides": None if array.flags.c_contiguous else array.strides,
            "version": 3,
            **extra,
        }


def equals_reference(rule, dtype, gradient_dtype, ride=(False, False), **options):
    results, squares = [], []
    for make in (cuda.CudaEngine, ReferenceEngine):
        model = Model(rule, dtype, gradient_dtype, SMALL, Host(), **options)
        engine = make(model.tensors)
        engine.ride(*ride, True)
        engine.place([model.place(case.gradient, model.gradient_dtype) for case in model.cases])
        squares.append(engine.squares())
        results.append(model.run(engine))
    assert not differences(*results), differences(*results)
    assert squares[0] == squares[1]
    assert moved(results[0], Model(rule, dtype, gradient_dtype, SMALL, Host(), **options).result())


def equals_reference_in_16_bits():
    import ml_dtypes

    bfloat16, adamw = ml_dtypes.bfloat16, RULES["adamw"]
    kept = {"state": bfloat16, "stochastic": True, "ema": True, "copy": np.float16}
    equals_reference(adamw, bfloat16, np.float16, (True, False), **kept)
    equals_reference(adamw, np.float16, bfloat16, **{**kept, "state": np.float16})
    equals_reference(adamw, bfloat16, np.float32, (True, False), master="remainder", ema=True)
    equals_reference(adamw, bfloat16, bfloat16, master="float32", copy=np.float32)


def memory_goes_and_comes():
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    for view in (array, array.T, array[::2, ::-1], array[:0], array[1, 1, ...]):
        memory = cuda.memory_of(DeviceArray(view), "it")
        np.testing.assert_array_equal(cuda.to_host(memory), view)
        made = cuda.allocate(memory, np.float64, 0.25)
        assert made.shape == view.shape
        assert made.dtype == np.float64
        np.testing.assert_array_equal(cuda.to_host(made), np.full(view.shape, 0.25))
        cuda.from_host(view.astype(np.float64), made)
        np.testing.assert_array_equal(cuda.to_host(made), view)
    assert cuda.allocate(cuda.memory_of(DeviceArray(array.T), "it"), np.float32, 0.0).strides == array.T.strides
    part = cuda.memory_of(DeviceArray(array[::2, ::-2]), "it")
    cuda.from_host(np.full((2, 3), -1, np.float32), part)
    assert (array[::2, ::-2] == -1).all()
    assert (array == -1).sum() == 6


def large_states_are_filled():
    held, cuda._FILL = cuda._FILL, 1000
    try:
        memory = Memory(None, 0, np.dtype(np.float32), (2501,), (4,))
        np.testing.assert_array_equal(cuda.to_host(cuda.allocate(memory, np.float32, 1.5)), np.full(2501, 1.5))
    finally:
        cuda._FILL = held


def api_steps_and_saves():
    draw = np.random.default_rng(0)
    host = {"w": draw.standard_normal((7, 5)).astype(np.float32), "b": draw.standard_normal(9)}
    device = {name: value.copy() for name, value in host.items()}
    expected = schuss.AdamW(host, lr=0.1, backend="numpy")
    ours = schuss.AdamW({name: DeviceArray(value) for name, value in device.items()}, lr=0.1)
    assert ours.backend == "cuda"
    for step in range(4):
        gradients = {name: draw.standard_normal(value.shape).astype(value.dtype) for name, value in host.items()}
        expected.step(gradients)
        ours.step({name: DeviceArray(value) for name, value in gradients.items()})
        if step == 1:
            saved = ours.state_dict()
            ours = schuss.AdamW({name: DeviceArray(value) for name, value in device.items()}, lr=0.1)
            ours.load_state_dict(saved)
    for name, value in host.items():
        np.testing.assert_array_equal(device[name], value)
        for field, state in expected.state_dict()["state"][name].items():
            np.testing.assert_array_equal(ours.state_dict()["state"][name][field], state)


def main():
    assert cuda_device.SIMULATED
    assert cuda.available() is None
    f4, f8 = np.float32, np.float64
    tasks = {(r.name, t.__name__): (equals_reference, r, t, t) for r in RULES.values() for t in (f4, f8)}
    tasks["adamw", "mixed"] = (equals_reference, RULES["adamw"], f4, f8)
    tasks["adamw", "mixed64"] = (equals_reference, RULES["adamw"], f8, f4)
    if importlib.util.find_spec("ml_dtypes") is not None:
        tasks[("equals_reference_in_16_bits",)] = (equals_reference_in_16_bits,)
    for function in (memory_goes_and_comes, large_states_are_filled, api_steps_and_saves):
        tasks[(function.__name__,)] = (function,)
    said = {}
    for name, (function, *arguments) in tasks.items():
        try:
            function(*arguments)
            said[" ".join(name)] = ""
        except Exception:
            said[" ".join(name)] = traceback.format_exc()
    print(json.dumps(said))


if __name__ == "__main__":
    main()
