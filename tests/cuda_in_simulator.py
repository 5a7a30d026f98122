"""Run as a program, under NUMBA_ENABLE_CUDASIM=1: every rule in numba's CUDA simulator against its numpy reference.

Prints a JSON object: what was run -> what went wrong, an empty string where nothing did. The rules of ``ALL_CASES`` are
run on all small tensors, the others on a few; ``full``: every rule on all, in both float32 and float64.
"""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import traceback
from functools import partial

import numpy as np
from cuda_models import EIGHT, FEW, SMALL, Array, Case, Host, Model, differences, moved
from distinct import KERNELS
from schuss_kernels.cuda import device as cuda_device
from schuss_kernels.cuda import engine as cuda_engine
from schuss_kernels.cuda import memory as cuda_memory
from schuss_kernels.engine.reference import ReferenceEngine
from schuss_kernels.rules import RULES

import schuss

ALL_CASES = ("sgd", "adamw", "lamb", "prodigy")
"""Rules with and without states, with and without a measure: what surrounds a rule is the same for all of them."""


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


def equals_reference(rule, dtype, gradient_dtype, ride=(False, False), cases=SMALL, **options):
    results, squares = [], []
    for make in (cuda_engine.CudaEngine, ReferenceEngine):
        model = Model(rule, dtype, gradient_dtype, cases, Host(), **options)
        engine = make(model.tensors)
        engine.configure(*ride, True)
        engine.set_gradients([model.place(case.gradient, model.gradient_dtype) for case in model.cases])
        squares.append(engine.grad_squares())
        results.append(model.run(engine))
    assert not differences(*results), differences(*results)
    assert squares[0] == squares[1]
    assert moved(results[0], Model(rule, dtype, gradient_dtype, cases, Host(), **options).result())


def equals_reference_in_16_bits():
    import ml_dtypes

    bfloat16, adamw = ml_dtypes.bfloat16, RULES["adamw"]
    kept = {"state": bfloat16, "stochastic": True, "ema": True, "copy": np.float16}
    equals_reference(adamw, bfloat16, np.float16, (True, False), **kept)
    few = partial(equals_reference, adamw, cases=FEW)
    few(np.float16, bfloat16, **{**kept, "state": np.float16})
    few(bfloat16, np.float32, (True, False), master="remainder", ema=True)
    few(bfloat16, bfloat16, master="float32", copy=np.float32)
    few(bfloat16, np.float32, (True, False), slow=True, ema=True, stochastic=True)


def equals_reference_in_8_bits():
    short = [case for case in EIGHT if math.prod(case.parameter.shape) < 400]
    equals_reference(RULES["adamw"], np.float32, np.float32, (True, True), cases=short, state="8bit", least=2)
    cases = {"cases": [Case(Array((5, 60), (400, 3), 1), Array((5, 60)))], "state": "8bit"}
    equals_reference(RULES["rmsprop_centered"], np.float64, np.float32, stochastic=True, ema=True, **cases)
    equals_reference(RULES["adamw"], np.float32, np.float32, slow=True, ema=True, **cases)
    equals_reference(RULES["sgd_momentum"], np.float16, np.float16, master="float32", copy=np.float32, **cases)


def memory_goes_and_comes():
    array = np.arange(24, dtype=np.float32).reshape(4, 6)
    for view in (array, array.T, array[::2, ::-1], array[:0], array[1, 1, ...]):
        memory = cuda_memory.memory_of(DeviceArray(view), "it")
        np.testing.assert_array_equal(memory.read(), view)
        made = memory.allocate_like(np.float64, 0.25)
        assert made.shape == view.shape
        assert made.dtype == np.float64
        np.testing.assert_array_equal(made.read(), np.full(view.shape, 0.25))
        made.write(view.astype(np.float64))
        np.testing.assert_array_equal(made.read(), view)
    assert cuda_memory.memory_of(DeviceArray(array.T), "it").allocate_like(np.float32, 0.0).strides == array.T.strides
    part = cuda_memory.memory_of(DeviceArray(array[::2, ::-2]), "it")
    part.write(np.full((2, 3), -1, np.float32))
    assert (array[::2, ::-2] == -1).all()
    assert (array == -1).sum() == 6


def large_states_are_filled():
    held, cuda_memory._FILL = cuda_memory._FILL, 1000
    try:
        memory = cuda_memory.CudaMemory(None, 0, np.dtype(np.float32), (2501,), (4,))
        np.testing.assert_array_equal(memory.allocate_like(np.float32, 1.5).read(), np.full(2501, 1.5))
    finally:
        cuda_memory._FILL = held


def api_steps_and_saves(shapes=((7, 5), (9,)), **options):
    draw = np.random.default_rng(0)
    w, b = (draw.standard_normal(shape) for shape in shapes)
    host = {"w": w.astype(np.float32), "b": b}
    device = {name: value.copy() for name, value in host.items()}

    def ours_anew():
        return schuss.AdamW({name: DeviceArray(value) for name, value in device.items()}, lr=0.1, **options)

    expected, ours = schuss.AdamW(host, lr=0.1, backend="numpy", **options), ours_anew()
    assert ours.backend == "cuda"
    for step in range(4):
        gradients = {name: draw.standard_normal(value.shape).astype(value.dtype) for name, value in host.items()}
        expected.step(gradients)
        ours.step({name: DeviceArray(value) for name, value in gradients.items()})
        if step == 1:
            saved = ours.state_dict()
            ours = ours_anew()
            ours.load_state_dict(saved)
    for name, value in host.items():
        np.testing.assert_array_equal(device[name], value)
        states, theirs = (optimizer.state_dict()["state"][name] for optimizer in (expected, ours))
        assert states.keys() == theirs.keys()
        for field, state in states.items():
            np.testing.assert_array_equal(theirs[field], state)
            assert np.asarray(theirs[field]).dtype == np.asarray(state).dtype
    return ours


def api_in_8_bits():
    options = {"state_dtype": "8bit", "min_8bit_size": 300, "rounding": "stochastic", "ema": 0.9}
    states = api_steps_and_saves(((23, 31), (299,)), **options).state_dict()["state"]
    assert states["w"]["exp_avg"].dtype == np.int8
    assert states["w"]["exp_avg_sq.scale"].shape == (3,)
    assert states["b"]["exp_avg"].dtype == np.float64
    assert "exp_avg.scale" not in states["b"]


def api_with_matrices_and_slow_weights():
    """Matrix rules go through the host, the other tensors of the optimizer through kernels."""
    shapes = [(7,), (6, 5), (3, 4, 2), ()]
    eight = {"state_dtype": "8bit", "min_8bit_size": 4, "ema": 0.9, "rounding": "stochastic"}
    for make, options in ((schuss.Muon, {}), (schuss.Muon, eight), (schuss.Adafactor, {}), (schuss.SM3, {})):
        made = []
        for where in (DeviceArray, np.asarray):
            draw = np.random.default_rng(0)
            params = [np.asarray(draw.standard_normal(shape), np.float32) for shape in shapes]
            optimizer = schuss.Lookahead(make([where(p) for p in params], lr=0.1, **options), k=2, alpha=0.3)
            said = []
            for step in range(4):
                gradients = [np.asarray(draw.standard_normal(shape), np.float32) for shape in shapes]
                given = [None if step == number + 1 else where(g) for number, g in enumerate(gradients)]
                said.append(optimizer.step(given, clip_norm=1.0, zero_grad=True))
                assert not any(g.any() for number, g in enumerate(gradients) if step != number + 1)
            states = [
                np.asarray(value) for entry in optimizer.state_dict()["state"].values() for value in entry.values()
            ]
            made.append([*params, *states, np.array(said)])
            assert (optimizer.backend == "cuda") == (where is DeviceArray)
        for ours, expected in zip(*made, strict=True):
            np.testing.assert_array_equal(ours, expected)


def main():
    assert cuda_device.SIMULATED
    assert cuda_engine.available() is None
    f4, f8, full = np.float32, np.float64, "full" in sys.argv
    tasks = {}
    for number, rule in enumerate(KERNELS.values()):  # nothing is typed here: one dtype of each shows as much as two
        cases = SMALL if full or rule.name in ALL_CASES else FEW
        for dtype in (f4, f8) if full else [(f4, f8)[number % 2]]:
            tasks[rule.name, dtype.__name__] = (partial(equals_reference, cases=cases), rule, dtype, dtype)
    tasks["adamw", "mixed"] = (equals_reference, RULES["adamw"], f4, f8)
    tasks["adamw", "mixed64"] = (equals_reference, RULES["adamw"], f8, f4)
    if importlib.util.find_spec("ml_dtypes") is not None:
        tasks[("equals_reference_in_16_bits",)] = (equals_reference_in_16_bits,)
    for function in (
        equals_reference_in_8_bits,
        memory_goes_and_comes,
        large_states_are_filled,
        api_steps_and_saves,
        api_in_8_bits,
        api_with_matrices_and_slow_weights,
    ):
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
