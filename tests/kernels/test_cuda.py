"""The CUDA engine: in the simulator, as compiled IR on the CPU, and on a GPU if there is one."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
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
    moved,
)
from distinct import KERNELS
from schuss_kernels.cpu.engine import CpuEngine
from schuss_kernels.cuda import engine as cuda_engine
from schuss_kernels.cuda import memory as cuda_memory
from schuss_kernels.lang.rule import Rule, RuleError
from schuss_kernels.plan import chunk_table
from schuss_kernels.plan.spec import Spec
from schuss_kernels.rules import RULES
from schuss_kernels.storage.dtypes import STORAGES
from schuss_kernels.storage.memory import Memory

try:
    import cuda_on_cpu
except ImportError as error:
    MISSING = NO_WARPS = f"numba-cuda is not usable here: {error}"
else:
    MISSING, NO_WARPS = cuda_on_cpu.missing(), cuda_on_cpu.warps_missing()

FLOATS = [np.float32, np.float64]
TYPES = [*((t, t) for t in FLOATS), (np.float32, np.float64), (np.float64, np.float32)]
MIXED = "adamw"  # parameter and gradient of different types: one rule is enough

needs_compiler = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
needs_warps = pytest.mark.skipif(NO_WARPS is not None, reason=str(NO_WARPS))
every_rule = pytest.mark.parametrize("rule", KERNELS.values(), ids=KERNELS)


def name(value):
    return value.__name__ if isinstance(value, type) else str(value)


def types_of(rule):
    return TYPES if rule.name == MIXED else TYPES[:2]


# ------------------------------------------------------------------------------------------------------- simulator


@functools.cache
def simulated():
    """What the simulator says of every rule; it has to be switched on before numba is imported."""
    here = Path(__file__).parents[1]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": os.pathsep.join([str(here), *sys.path])}
    command = [sys.executable, str(here / "cuda_in_simulator.py")]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


SIMULATED = [f"{rule} {name(dtype)}" for rule in KERNELS for dtype in FLOATS]
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


def same_bits_as_the_cpu(rule, types, cases, **options):
    results = []
    for make in (cuda_on_cpu.Engine, CpuEngine):
        model = Model(rule, *types, cases, Host(), **options)
        results.append(model.run(make(model.tensors)))
    assert not differences(*results), differences(*results)
    assert moved(results[0], Model(rule, *types, cases, Host(), **options).result())


@needs_compiler
@every_rule
@pytest.mark.parametrize("dtype", FLOATS, ids=name)
def test_compiled_ir_equals_the_cpu_kernel(rule, dtype):
    same_bits_as_the_cpu(rule, (dtype, dtype), MEDIUM)


@needs_compiler
@pytest.mark.parametrize("types", TYPES[2:], ids=str)
def test_mixed_types(types):
    same_bits_as_the_cpu(RULES[MIXED], types, MEDIUM)


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


@needs_compiler
@pytest.mark.parametrize("ride", [(False, False), (True, True)], ids=["plain", "clipped and zeroed"])
@pytest.mark.parametrize("kept", [pytest.param(k, marks=needs_warps) if "8 bits" in k else k for k in KEPT])
def test_storages_and_riders(kept, ride):
    """Compiled IR against the CPU kernel, and the norm's squares too; both against the numpy reference elsewhere."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    types = {"bfloat16": ml_dtypes.bfloat16}
    p, g, options = KEPT[kept]
    options = {key: types.get(value, value) if key in ("state", "copy") else value for key, value in options.items()}
    cases = EIGHT if options.get("state") == "8bit" else MEDIUM
    results, squares = [], []
    for make in (cuda_on_cpu.Engine, CpuEngine):
        model = Model(RULES["adamw"], types.get(p, p), types.get(g, g), cases, Host(), **options)
        engine = make(model.tensors)
        engine.configure(*ride, True)
        gradients = [model.place(case.gradient, model.gradient_dtype) for case in model.cases]
        engine.set_gradients(gradients)
        squares.append(engine.squares())
        results.append(model.run(engine))
    assert not differences(*results), differences(*results)
    assert squares[0] == squares[1]
    assert squares[0][0] > 0


@needs_compiler
@pytest.mark.parametrize("rule", ["adamw", "sgd"])
@pytest.mark.parametrize("dtype", FLOATS, ids=name)
def test_many_rows_and_slices(rule, dtype):
    same_bits_as_the_cpu(RULES[rule], (dtype, dtype), LARGE)


@needs_compiler
@every_rule
@pytest.mark.parametrize("dtype", FLOATS, ids=name)
def test_numbers_at_the_edge(rule, dtype):
    """Infinities, NaN, both zeros, the smallest and the largest numbers go through as on the CPU."""
    tiny, huge = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    edge = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, tiny, -tiny, 3 * tiny, huge, -huge, 1.0, -1.0], dtype)
    p, g = (np.ascontiguousarray(a.ravel()) for a in np.meshgrid(edge, edge))
    results = []
    for make in (cuda_on_cpu.Engine, CpuEngine):
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
def test_gpu_equals_the_cpu_kernel(rule):
    from schuss_kernels.cuda import device as cuda_device

    for types in types_of(rule):
        eight = {"state": "8bit", "least": 2, "stochastic": True}
        for cases, options in ((MEDIUM, {}), (LARGE, {}), (EIGHT, {"state": "8bit"}), (EIGHT_LARGE, eight)):
            results = []
            for make, where in ((cuda_engine.CudaEngine, Gpu(cuda_device.current())), (CpuEngine, Host())):
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
    model, engine = model_of([chunk_table.CHUNK + 1])
    model.step(engine, 1, gradients_of(model))
    [(_, blocks, _, _)] = engine.device.launches
    rows, slices = -(-(chunk_table.CHUNK + 1) // engine.chunk), engine.chunk // engine.device.slice
    assert blocks == (min(rows, engine.device.most_blocks), slices)
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
    for make in (cuda_on_cpu.LazyEngine, CpuEngine):
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


# ------------------------------------------------------------------------------------------- arrays, and no CUDA at all


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
