"""The CUDA engine: in the simulator, as compiled IR on the CPU, and on a GPU if there is one."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pairs
import pytest
from cuda_forms import (
    ALL_FORMS,
    MIXED,
    cases_of,
    needs_compiler,
    needs_warps,
    parametrize_forms,
    same_bits_as_the_reference,
)
from cuda_models import (
    EIGHT,
    EIGHT_LARGE,
    LARGE,
    MEDIUM,
    SMALL,
    Array,
    Case,
    Gpu,
    Host,
    Model,
    dense,
    differences,
)
from distinct import KERNELS
from pairs import pairwise
from schuss_kernels.cuda import engine as cuda_engine
from schuss_kernels.cuda import memory as cuda_memory
from schuss_kernels.engine.reference import ReferenceEngine
from schuss_kernels.lang.rule import Rule, RuleError
from schuss_kernels.plan import chunk_table
from schuss_kernels.plan.spec import Spec
from schuss_kernels.rules import RULES
from schuss_kernels.storage.dtypes import STORAGES

with contextlib.suppress(ImportError):  # needs_compiler tells
    import cuda_on_cpu

FLOATS = [np.float32, np.float64]
TYPES = [*((t, t) for t in FLOATS), (np.float32, np.float64), (np.float64, np.float32)]
every_rule = pytest.mark.parametrize("rule", KERNELS.values(), ids=KERNELS)


def name(value):
    return value.__name__ if isinstance(value, type) else value.name


def types_of(rule):
    return TYPES if rule.name == MIXED else TYPES[:2]


# ------------------------------------------------------------------------------------------------------- simulator


@functools.cache
def simulated():
    """What the simulator says of every rule; it has to be switched on before numba is imported."""
    here = Path(__file__).parents[1]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": os.pathsep.join([str(here), *sys.path])}
    command = [sys.executable, str(here / "cuda_in_simulator.py"), *(["full"] if pairs.EVERY else [])]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


SIMULATED = [
    pytest.param(f"{rule} {name(dtype)}", marks=[pytest.mark.full] * (dtype is not FLOATS[number % 2]))
    for number, rule in enumerate(KERNELS)
    for dtype in FLOATS
]
if importlib.util.find_spec("ml_dtypes") is not None:
    SIMULATED += ["equals_reference_in_16_bits"]
SIMULATED += ["adamw mixed", "adamw mixed64", "equals_reference_in_8_bits", "memory_goes_and_comes"]
SIMULATED += ["large_states_are_filled", "api_steps_and_saves", "api_in_8_bits", "api_with_matrices_and_slow_weights"]


@needs_compiler
@pytest.mark.parametrize("task", SIMULATED)
def test_simulator(task):
    """Every rule, run as Python on every thread of a grid, leaves the bits of its numpy reference."""
    assert simulated()[task] == "", simulated()[task]


# ----------------------------------------------------------------------------------------------- compiled IR on the CPU


@parametrize_forms()
def test_compiled_ir_is_the_reference(rule, spec):
    cases = cases_of(EIGHT if spec.quantized_states else MEDIUM, spec.strided)
    types = spec.parameter.dtype, spec.gradient.dtype
    same_bits_as_the_reference(rule, types, cases, state="8bit" if spec.quantized_states else None)


KEPT = {
    "bfloat16": ("bfloat16", "bfloat16", {"state": "bfloat16"}),
    "float16, stochastic": ("float16", "float32", {"state": "float16", "stochastic": True}),
    "bfloat16, stochastic, ema": ("bfloat16", "float16", {"state": "bfloat16", "stochastic": True, "ema": True}),
    "bfloat16, master": ("bfloat16", "bfloat16", {"master": "float32", "copy": "float16"}),
    "bfloat16, remainder": ("bfloat16", "float32", {"master": "remainder", "ema": True}),
    "float32, bfloat16 states": ("float32", "float32", {"state": "bfloat16", "copy": "bfloat16", "ema": True}),
    "float64, float16 states": ("float64", "bfloat16", {"state": "float16", "stochastic": True}),
    "float32, 8 bits": ("float32", "float32", {"state": "8bit", "least": 256, "ema": True}),
    "float32, lookahead": ("float32", "float32", {"slow": True, "ema": True}),
    "bfloat16, lookahead, remainder": ("bfloat16", "float16", {"slow": True, "master": "remainder", "copy": "float32"}),
    "float32, 8 bits, lookahead": ("float32", "float32", {"slow": True, "state": "8bit", "stochastic": True}),
    "float64, 8 bits, stochastic": ("float64", "float16", {"state": "8bit", "stochastic": True}),
    "bfloat16, 8 bits, stochastic": ("bfloat16", "float32", {"state": "8bit", "stochastic": True, "ema": True}),
    "bfloat16, 8 bits, remainder": ("bfloat16", "float16", {"state": "8bit", "master": "remainder"}),
    "float16, 8 bits, master": ("float16", "float16", {"state": "8bit", "master": "float32", "copy": "bfloat16"}),
}


@pairwise(
    kept=[pytest.param(k, marks=needs_warps if "8 bits" in k else needs_compiler) for k in KEPT],
    ride={"plain": (False, False), "clipped and zeroed": (True, True)},
    strided={"dense": False, "strided": True},
)
def test_storages_and_riders(kept, ride, strided):
    """Compiled IR against the numpy reference, and the norm's squares too."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    types = {"bfloat16": ml_dtypes.bfloat16}
    p, g, options = KEPT[kept]
    options = {key: types.get(value, value) if key in ("state", "copy") else value for key, value in options.items()}
    cases = cases_of(EIGHT if options.get("state") == "8bit" else MEDIUM, strided)
    if ride[1]:  # gradients that overlap themselves cannot be zeroed, and are refused
        cases = [case for case in cases if 0 not in (case.gradient.strides or ())]
    results, squares = [], []
    for make in (cuda_on_cpu.Engine, ReferenceEngine):
        model = Model(RULES["adamw"], types.get(p, p), types.get(g, g), cases, Host(), **options)
        engine = make(model.tensors)
        engine.configure(*ride, True)
        gradients = [model.place(case.gradient, model.gradient_dtype) for case in model.cases]
        engine.set_gradients(gradients)
        squares.append(engine.grad_squares())
        results.append(model.run(engine))
    assert not differences(*results), differences(*results)
    assert squares[0] == squares[1]
    assert squares[0][0] > 0


@needs_compiler
@pytest.mark.parametrize("rule", ["adamw", "sgd"])
@pytest.mark.parametrize("dtype", FLOATS, ids=name)
def test_many_rows_and_slices(rule, dtype):
    same_bits_as_the_reference(RULES[rule], (dtype, dtype), LARGE)


@needs_compiler
@pytest.mark.parametrize(
    ("rule", "dtype"),
    [
        pytest.param(rule, dtype, marks=[pytest.mark.full] * (dtype is np.float64 and rule.name not in ALL_FORMS))
        for rule in KERNELS.values()
        for dtype in FLOATS
    ],
    ids=name,
)
def test_numbers_at_the_edge(rule, dtype):
    """Infinities, NaN, both zeros, the smallest and the largest numbers go through as in numpy."""
    tiny, huge = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    edge = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, tiny, -tiny, 3 * tiny, huge, -huge, 1.0, -1.0], dtype)
    p, g = (np.ascontiguousarray(a.ravel()) for a in np.meshgrid(edge, edge))
    results = []
    for make in (cuda_on_cpu.Engine, ReferenceEngine):
        model = Model(rule, dtype, dtype, [dense(p.size)], Host())
        [tensor] = model.tensors
        gradient = model.place(Array(g.shape), model.dtype)
        tensor.parameter.array[:], gradient.array[:] = p, g
        engine = make(model.tensors)
        for step in (1, 2):
            model.step(engine, step, [gradient])
        results.append([tensor.parameter.array, *(state.array for state in tensor.states)])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        numbers = ~np.isnan(theirs)
        np.testing.assert_array_equal(np.signbit(ours)[numbers], np.signbit(theirs)[numbers])


# ------------------------------------------------------------------------------------------------------------ on a GPU


NO_GPU = "only numba's simulator" if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1" else cuda_engine.available()


@pytest.mark.skipif(NO_GPU is not None, reason=f"no GPU: {NO_GPU}")
@every_rule
def test_gpu_is_the_reference(rule):
    from schuss_kernels.cuda import device as cuda_device

    for types in types_of(rule):
        eight = {"state": "8bit", "least": 2, "stochastic": True}
        for cases, options in ((MEDIUM, {}), (LARGE, {}), (EIGHT, {"state": "8bit"}), (EIGHT_LARGE, eight)):
            results = []
            for make, where in ((cuda_engine.CudaEngine, Gpu(cuda_device.current())), (ReferenceEngine, Host())):
                model = Model(rule, *types, cases, where, **options)
                results.append(model.run(make(model.tensors)))
            assert not differences(*results), differences(*results)


@pytest.mark.skipif(NO_GPU is not None, reason=f"no GPU: {NO_GPU}")
def test_gpu_memory_and_streams():
    from numba import cuda as numba_cuda

    host = np.arange(24, dtype=np.float32).reshape(4, 6)
    stream = numba_cuda.stream()
    array = numba_cuda.to_device(host, stream=stream)
    memory = cuda_memory.memory_of(array, "array")
    np.testing.assert_array_equal(memory.read(), host)
    state = memory.allocate_like(np.float64, 0.25)
    np.testing.assert_array_equal(state.read(), np.full((4, 6), 0.25))
    memory.write(host.T.copy().T)
    np.testing.assert_array_equal(array.copy_to_host(), host)
    results = []
    for own in (None, stream, int(stream.handle)):
        from schuss_kernels.cuda import device as cuda_device

        model = Model(RULES["adamw"], np.float32, np.float32, SMALL, Gpu(cuda_device.current()))
        results.append(model.run(cuda_engine.CudaEngine(model.tensors, stream=own)))
    assert not differences(results[0], results[1])
    assert not differences(results[0], results[2])


# ------------------------------------------------------------------------------------------------- the engine around it


def model_of(sizes, rule="sgd", dtype=np.float32):
    model = Model(RULES[rule], dtype, dtype, [dense(size) for size in sizes], Host())
    return model, cuda_on_cpu.Engine(model.tensors)


def gradients_of(model):
    return [model.place(case.gradient, model.gradient_dtype) for case in model.cases]


@needs_compiler
def test_one_grid_for_a_model():
    model, engine = model_of([5, 100, 7])
    model.step(engine, 1, gradients_of(model))
    [(_, blocks, stream, numbers)] = engine.device.launches
    assert blocks == (3, 1)
    assert stream == 0
    assert numbers == (engine._rows.address, engine.plan.rows.strides[0], 3)


@needs_compiler
def test_one_grid_for_each_kernel():
    cases = [dense(5), Case(Array((4, 3), (9, 2)), Array((4, 3))), dense(6), Case(Array((9,), (2,)), Array((9,)))]
    model = Model(RULES["sgd"], np.float32, np.float32, cases, Host())
    engine = cuda_on_cpu.Engine(model.tensors)
    model.step(engine, 1, gradients_of(model))
    assert [numbers[2] for *_, numbers in engine.device.launches] == [2, 2]
    assert len({spec for spec, *_ in engine.device.launches}) == 2


@needs_compiler
def test_large_rows_are_shared_by_blocks():
    model, engine = model_of([chunk_table.MAX_CHUNK + 1])
    model.step(engine, 1, gradients_of(model))
    [(_, blocks, _, _)] = engine.device.launches
    rows, slices = -(-(chunk_table.MAX_CHUNK + 1) // engine.chunk), engine.chunk // engine.device.slice
    assert blocks == (min(rows, engine.device.max_blocks), slices)
    assert slices > 1


@needs_compiler
def test_rows_are_sent_when_gradients_move():
    model, engine = model_of([5, 6])
    device, gradients = engine.device, gradients_of(model)

    def copies(gradients):
        device.copies.clear()
        model.step(engine, 1, gradients)
        return sum(copy.dtype == np.int64 for copy in device.copies)

    assert [copies(gradients), copies(gradients), copies(gradients_of(model)), copies([gradients[0], None])] == [
        1,
        0,
        1,
        1,
    ]


@needs_compiler
def test_steps_may_run_ahead_of_the_device():
    """Nothing that the device has still to copy is written over by a later step."""
    results = []
    for make in (cuda_on_cpu.LazyEngine, ReferenceEngine):
        model = Model(RULES["adam"], np.float32, np.float32, SMALL, Host())
        engine = make(model.tensors)
        for step in range(1, 12):
            gradients = gradients_of(model)
            model.step(engine, step, [None if (number + step) % 5 == 0 else g for number, g in enumerate(gradients)])
        if make is cuda_on_cpu.LazyEngine:
            assert engine.device.queue
            engine.device.finish()
        results.append(model.result())
    assert not differences(*results), differences(*results)


@needs_compiler
def test_streams_of_others_are_waited_for():
    model = Model(RULES["sgd"], np.float32, np.float32, [dense(5), dense(6)], Host())
    for tensor, stream in zip(model.tensors, (None, 70), strict=True):
        p = tensor.parameter
        tensor.parameter = cuda_memory.CudaMemory(p.array, p.address, p.dtype, p.shape, p.strides, stream)
    engine = cuda_on_cpu.Engine(model.tensors, stream=8)
    gradients = [
        cuda_memory.CudaMemory(g.array, g.address, g.dtype, g.shape, g.strides, stream)
        for g, stream in zip(gradients_of(model), (8, 1), strict=True)
    ]
    model.step(engine, 1, gradients)
    engine.stream = 9
    model.step(engine, 2, [gradients[0], None])
    engine.stream = None
    model.step(engine, 2, [gradients[1], None])
    assert engine.device.followed == [(8, {70, 1}), (9, {8}), (0, set())]
    assert [stream for _, _, stream, _ in engine.device.launches] == [8, 9, 0]


def test_stream_handles():
    protocol, older, torch_stream, cupy_stream = (
        type("Stream", (), members)()
        for members in (
            {"__cuda_stream__": lambda self: (0, 5)},
            {"__cuda_stream__": (0, 6)},
            {"cuda_stream": 7},
            {"ptr": 8},
        )
    )
    streams = (None, 3, protocol, older, torch_stream, cupy_stream)
    assert [cuda_memory.stream_handle(stream) for stream in streams] == [0, 3, 5, 6, 7, 8]
    with pytest.raises(TypeError, match="expected a CUDA stream or its handle, got str"):
        cuda_memory.stream_handle("fast")


@needs_compiler
def test_read_only_parameters_are_refused():
    model = Model(RULES["sgd"], np.float32, np.float32, [dense(5)], Host())
    p = model.tensors[0].parameter
    model.tensors[0].parameter = cuda_memory.CudaMemory(p.array, p.address, p.dtype, p.shape, p.strides, read_only=True)
    with pytest.raises(ValueError, match="parameter 't0' is read-only"):
        cuda_on_cpu.Engine(model.tensors)


State = namedtuple("State", ["m"])
Scalars = namedtuple("Scalars", ["lr"])


def slips(p, g, s, h):
    kept = s.m + g * g
    return p - h.lr * (kept if kept * (2 * g) > 0 else g), State(kept)


def forgets(p, g, s, h):
    return p - h.lr * g


@needs_compiler
@pytest.mark.parametrize(("update", "said"), [(slips, "slips into float64"), (forgets, "must return")])
def test_wrong_rules_are_explained(update, said):
    rule = Rule("wrong", State, Scalars, lambda step, *, lr: Scalars(lr), update)
    f32 = STORAGES["f32"]
    with pytest.raises(RuleError, match=said):
        cuda_on_cpu.library(rule, Spec(rule, f32, f32, (f32,)))
