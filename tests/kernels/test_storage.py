"""Storage types: 16-bit parameters, gradients and states, master weights, rounding at random."""

from __future__ import annotations

import ctypes
import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from bits import BFLOAT16, assert_same_everything, everything
from cases import arrays, assert_same_bits, one_a_kernel
from layouts import strided
from schuss_kernels.lowering.conversions import narrow, widen
from schuss_kernels.plan.spec import Spec
from schuss_kernels.rules import RULES
from schuss_kernels.storage import stochastic_rounding
from schuss_kernels.storage.dtypes import BF16, F16
from schuss_kernels.storage.memory import Memory, address_of

import schuss

# ------------------------------------------------------------------------------------------------------ conversions


def converter(source, target, build):
    """A compiled loop that converts numbers one by one; ``build(builder, value)``."""
    import llvmlite.binding as llvm
    from llvmlite import ir

    index, module = ir.IntType(64), ir.Module()
    kind = ir.FunctionType(ir.VoidType(), [source.as_pointer(), target.as_pointer(), index])
    function = ir.Function(module, kind, "convert")
    entry, loop, done = (function.append_basic_block() for _ in range(3))
    ir.IRBuilder(entry).branch(loop)
    builder = ir.IRBuilder(loop)
    i = builder.phi(index)
    value = builder.load(builder.gep(function.args[0], [i]))
    builder.store(build(builder, value), builder.gep(function.args[1], [i]))
    after = builder.add(i, index(1))
    i.add_incoming(index(0), entry)
    i.add_incoming(after, loop)
    builder.cbranch(builder.icmp_signed("<", after, function.args[2]), loop, done)
    ir.IRBuilder(done).ret_void()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    engine = llvm.create_mcjit_compiler(
        llvm.parse_assembly(str(module)), llvm.Target.from_default_triple().create_target_machine()
    )
    engine.finalize_object()
    address = engine.get_function_address("convert")
    compiled = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(address)

    def convert(values, dtype):
        made = np.empty(len(values), dtype)
        compiled(values.ctypes.data, made.ctypes.data, len(values))
        return made if engine else None

    return convert


SIXTEEN = [(F16, np.float16), (BF16, BFLOAT16)]


@pytest.mark.parametrize(("storage", "dtype"), SIXTEEN, ids=["float16", "bfloat16"])
def test_every_16_bit_number_as_float32(storage, dtype):
    from llvmlite import ir

    convert = converter(ir.IntType(16), ir.FloatType(), lambda b, v: widen(b, v, storage, np.dtype(np.float32)))
    every = np.arange(1 << 16, dtype=np.uint16)
    got = convert(every, np.float32).view(np.uint32)
    np.testing.assert_array_equal(got, every.view(dtype).astype(np.float32).view(np.uint32))


@pytest.mark.parametrize(("storage", "dtype"), SIXTEEN, ids=["float16", "bfloat16"])
def test_float32_as_16_bits(storage, dtype):
    """Numpy's and ml_dtypes' bits: NaN payloads, infinities, denormals, ties, overflow, and a few million others."""
    from llvmlite import ir

    convert = converter(ir.FloatType(), ir.IntType(16), lambda b, v: narrow(b, v, storage, np.dtype(np.float32)))
    draw = np.random.default_rng(0)
    every = np.arange(1 << 16, dtype=np.uint32)
    exact = every.astype(np.uint16).view(dtype).astype(np.float32).view(np.uint32)
    near = [exact + np.uint32(more) for more in (0, 1, 0xFFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xFFFFFFFF)]
    anything = draw.integers(0, 1 << 32, 1_000_000, np.uint32)
    small = (anything & np.uint32(0x807FFFFF)) | (draw.integers(98, 146, len(anything)).astype(np.uint32) << 23)
    for bits in (*near, anything, small, every << np.uint32(16)):
        values = bits.view(np.float32)
        with np.errstate(all="ignore"):
            expected = values.astype(dtype).view(np.uint16)
        np.testing.assert_array_equal(convert(values, np.uint16), expected)


@pytest.mark.parametrize(("storage", "dtype"), SIXTEEN, ids=["float16", "bfloat16"])
def test_rounding_at_random_is_one_of_the_neighbours_and_right_on_average(storage, dtype):
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 1 << 16, 100_000).astype(np.uint32)
    for value in (1.0, 1.001, -3.14159, 1e-7, 2.0**-20 * 1.3, 60000.3, -0.0, np.inf, np.nan):
        values = np.full(len(bits), value, np.float32)
        made = stochastic_rounding.rounded(values, np.dtype(dtype), bits).astype(np.float64)
        exact = float(np.float32(value))
        if not np.isfinite(exact):
            np.testing.assert_array_equal(made, values)
            continue
        found = np.unique(made)
        assert len(found) <= 2
        gap = found[-1] - found[0]
        assert found[0] - (gap == 0) * 0 <= exact <= found[-1] or gap == 0
        # The mean's standard deviation is at most gap / 2 / sqrt(n).
        assert abs(made.mean() - exact) <= 5 * gap / 2 / np.sqrt(len(bits)) + abs(exact) * 1e-9 * (gap == 0)


def test_a_master_weight_in_two_halves():
    draw = np.random.default_rng(0)
    bits = draw.integers(0, 1 << 32, 1_000_000, np.uint32)
    ties = (np.arange(1 << 16, dtype=np.uint32) << np.uint32(16)) | np.uint32(0x8000)
    for values in (bits.view(np.float32), ties.view(np.float32)):
        high, low = stochastic_rounding.split(values)
        numbers = ~np.isnan(values)
        assert_same_bits(stochastic_rounding.joined(high, low)[numbers], values[numbers])
        assert np.isnan(high.view(BFLOAT16).astype(np.float32)[~numbers]).all()
        finite = np.isfinite(values)
        nearest = values[finite].astype(BFLOAT16)
        ours = high[finite].view(BFLOAT16)
        differs = ours.view(np.uint16) != nearest.view(np.uint16)
        assert (low[finite][differs] == 0x8000).all(), "only ties may go another way"


# ------------------------------------------------------------------------------------------------- kernel == reference

EIGHT = {"state_dtype": "8bit", "min_8bit_size": 0}
KEPT = {
    "float32, bfloat16 states": (np.float32, np.float32, {"state_dtype": "bfloat16"}),
    "float32, float16 states": (np.float32, np.float32, {"state_dtype": "float16"}),
    "float32, bfloat16 gradients": (np.float32, BFLOAT16, {}),
    "bfloat16": (BFLOAT16, BFLOAT16, {}),
    "bfloat16, all": (BFLOAT16, BFLOAT16, {"state_dtype": "bfloat16"}),
    "bfloat16, all, stochastic": (BFLOAT16, BFLOAT16, {"state_dtype": np.dtype(BFLOAT16), "rounding": "stochastic"}),
    "float16": (np.float16, np.float16, {}),
    "float16, all, stochastic": (np.float16, np.float16, {"state_dtype": "float16", "rounding": "stochastic"}),
    "bfloat16, master": (BFLOAT16, np.float16, {"master": "float32"}),
    "float16, master": (np.float16, np.float32, {"master": "float32", "state_dtype": "bfloat16"}),
    "bfloat16, remainder": (BFLOAT16, BFLOAT16, {"master": "remainder"}),
    "bfloat16, remainder, stochastic states": (
        BFLOAT16,
        np.float32,
        {"master": "remainder", "state_dtype": "bfloat16", "rounding": "stochastic", "seed": 3},
    ),
    "float64, bfloat16 states": (np.float64, np.float16, {"state_dtype": "bfloat16"}),
    "float64, float32 states": (np.float64, np.float64, {"state_dtype": "float32"}),
    "float32, 8-bit states": (np.float32, np.float32, EIGHT),
    "float32, 8-bit states, stochastic": (np.float32, np.float16, {**EIGHT, "rounding": "stochastic", "seed": 5}),
    "bfloat16, 8-bit states, stochastic": (BFLOAT16, BFLOAT16, {**EIGHT, "rounding": "stochastic"}),
    "bfloat16, 8-bit states, remainder": (BFLOAT16, BFLOAT16, {**EIGHT, "master": "remainder"}),
    "float64, 8-bit states": (np.float64, np.float64, EIGHT),
    "float32, 8-bit states of large tensors": (np.float32, np.float32, {"state_dtype": "8bit", "min_8bit_size": 1000}),
}

SHAPES = [(0,), (1,), (7,), (33,), (256,), (1000,), (3, 5, 67), (20_001,)]


@pytest.mark.full
@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("case", one_a_kernel(), ids=str)
def test_every_optimizer_in_every_storage(case, kept):
    """What runs by itself equals the reference. The pairs of it are in test_combinations and test_native_kernels."""
    dtype, gradient_dtype, options = KEPT[kept]
    if options.get("state_dtype") and not case.make([np.ones(1)], **case.options)._stepper.engine.tensors[0].states:
        options = {name: value for name, value in options.items() if name != "state_dtype"}
        if dtype not in (np.float16, BFLOAT16) or "master" in options:  # nothing is rounded to few bits then
            options = {name: value for name, value in options.items() if name != "rounding"}
    ours, reference = (
        case.make(arrays(SHAPES, dtype, 0), **case.options, **options, backend=backend) for backend in ("auto", "numpy")
    )
    for step in range(4):
        gradients = arrays(SHAPES, gradient_dtype, 1 + step)
        ours.step(gradients)
        reference.step(gradients)
    assert_same_everything(ours, reference)


@pytest.mark.parametrize("kept", KEPT)
def test_every_engine_and_layout(kept, backend):
    dtype, gradient_dtype, options = KEPT[kept]
    params = [[np.asarray(a, dtype) for a in strided(0)] for _ in range(2)]
    engine = "auto" if backend == "native" else backend  # what was not compiled ahead of time, numba compiles
    ours, reference = (
        schuss.AdamW(list(p), lr=0.1, backend=b, **options) for p, b in zip(params, (engine, "numpy"), strict=True)
    )
    for step in range(3):
        gradients = [np.asarray(a, gradient_dtype) for a in strided(1 + step)]
        gradients[0] = np.asfortranarray(gradients[0])
        ours.step(gradients)
        reference.step(gradients)
    assert_same_everything(ours, reference)


@pytest.mark.parametrize("chunk", [1024, 3072])
@pytest.mark.parametrize("threads", [1, 3])
def test_random_bits_do_not_depend_on_threads_and_chunks(threads, chunk, backend, monkeypatch):
    from schuss_kernels.engine.host import HostEngine

    monkeypatch.setattr(HostEngine, "chunk_and_span_sizes", lambda self, elements: (chunk, chunk))
    monkeypatch.setattr(HostEngine, "serial_below", 0)
    made = []
    for engine in ("auto" if backend == "native" else backend, "numpy"):
        params = arrays([20_000, 5, 3000], BFLOAT16, 0)
        options = {"state_dtype": "bfloat16", "rounding": "stochastic", "seed": 9}
        optimizer = schuss.AdamW(params, lr=0.01, threads=threads, backend=engine, **options)
        for step in range(3):
            optimizer.step(arrays([20_000, 5, 3000], BFLOAT16, step))
        made.append(optimizer)
    assert_same_everything(*made)


def stochastic(seed=0, **options):
    return schuss.SGD(arrays([5000], BFLOAT16, 0), lr=1e-3, rounding="stochastic", seed=seed, **options)


def test_seeds_differ_and_repeat():
    made = {}
    for seed in (0, 1, 2**63, 0):
        optimizer = stochastic(seed)
        optimizer.step(arrays([5000], BFLOAT16, 1))
        made.setdefault(seed, []).append(everything(optimizer)[0])
    np.testing.assert_array_equal(*made[0])
    for one, other in itertools.combinations((made[0][0], made[1][0], made[2**63][0]), 2):
        assert (one != other).any()


def test_small_steps_are_not_lost():
    """1e-4 of a weight of 1 is far below what bfloat16 resolves; at random it arrives on average."""
    lost, kept = (schuss.SGD([np.ones(100_000, BFLOAT16)], lr=1e-4, rounding=r) for r in ("nearest", "stochastic"))
    for _ in range(50):
        for optimizer in (lost, kept):
            optimizer.step([np.ones(100_000, BFLOAT16)])
    assert (lost._parameters.memories[0].array == 1).all()
    mean = kept._parameters.memories[0].array.astype(np.float64).mean()
    assert abs(mean - (1 - 50 * 1e-4)) < 2e-5


@pytest.mark.parametrize("master", ["float32", "remainder"])
def test_a_master_weight_is_the_float32_run(master):
    start = arrays([3000], BFLOAT16, 0)
    whole = schuss.AdamW([start[0].astype(np.float32)], lr=1e-3)
    ours = schuss.AdamW(start, lr=1e-3, master=master)
    for step in range(5):
        gradients = arrays([3000], np.float32, step)
        whole.step(gradients)
        ours.step(gradients)
    tensor = ours._stepper.engine.tensors[0]
    kept = tensor.others["master"].array
    if master == "remainder":
        kept = stochastic_rounding.joined(tensor.parameter.array.view(np.uint16), kept)
    expected = whole._parameters.memories[0].array
    assert_same_bits(kept, expected)
    for one, other in zip(tensor.states, whole._stepper.engine.tensors[0].states, strict=True):
        assert_same_bits(one.array, other.array)


@pytest.mark.parametrize("kept", KEPT)
def test_going_on_from_a_state_dict(kept, tmp_path):
    dtype, gradient_dtype, options = KEPT[kept]
    make = lambda params, **more: schuss.AdamW(params, lr=0.01, ema=0.9, **options, **more)  # noqa: E731
    whole = make(arrays([500, 3], dtype, 0))
    for step in range(3):
        whole.step(arrays([500, 3], gradient_dtype, step))
    saved = whole.state_dict()
    files = {f"{n}.{f}": v for n, s in saved["state"].items() for f, v in s.items() if isinstance(v, np.ndarray)}
    np.savez(tmp_path / "state.npz", **files)
    with np.load(tmp_path / "state.npz") as read:
        for name, entry in saved["state"].items():
            entry.update({field: read[f"{name}.{field}"] for field in entry if field != "step"})
    more = {"seed": 77} if "rounding" in options and "seed" not in options else {}
    resumed = make([p.array.copy() for p in whole._parameters.memories], **more)
    resumed.load_state_dict(saved)
    for step in range(3, 6):
        for optimizer in (whole, resumed):
            optimizer.step(arrays([500, 3], gradient_dtype, step))
    assert_same_everything(whole, resumed)


def test_bytes():
    def moved(dtype, gradient_dtype, **options):
        optimizer = schuss.AdamW([np.ones(10, dtype)], **options)
        optimizer.step([np.ones(10, gradient_dtype)])
        return re.search(r"([\d.]+) per parameter", optimizer.explain())[1]

    assert moved(np.float32, np.float32) == "28"
    assert moved(np.float32, np.float32, state_dtype="bfloat16") == "20"
    assert moved(BFLOAT16, BFLOAT16, state_dtype="bfloat16") == "14"
    assert moved(BFLOAT16, BFLOAT16, state_dtype="bfloat16", master="remainder") == "18"
    assert moved(BFLOAT16, BFLOAT16, master="float32") == "28"
    assert moved(np.float32, np.float32, **EIGHT) == "16.1"
    assert moved(np.float32, np.float32, state_dtype="8bit") == "28", "ten elements are a small tensor"
    assert moved(np.float32, np.float32, ema=0.9, copy_to=[np.zeros(10, BFLOAT16)]) == "38"


BAD = [
    (np.float32, {"master": "float32"}, "master='float32': parameter '0' is float32; only 16-bit ones"),
    (np.float16, {"master": "remainder"}, "master='remainder': parameter '0' is float16, expected bfloat16"),
    (BFLOAT16, {"master": "float16"}, "master: expected 'float32' or 'remainder', got 'float16'"),
    (np.float32, {"rounding": "stochastic"}, "rounding='stochastic': no parameter and no state is rounded to 16 bits"),
    (BFLOAT16, {"rounding": "random"}, "rounding: expected 'nearest' or 'stochastic', got 'random'"),
    (np.float32, {"state_dtype": "bf16"}, "state_dtype: expected .*, got 'bf16'"),
    (np.float32, {"state_dtype": np.int8}, "state_dtype: expected .*, got 'int8'"),
    (np.float32, {"state_dtype": "bfloat61"}, "did you mean 'bfloat16'"),
    (np.float32, {"state_dtype": 16}, "state_dtype: expected"),
    (BFLOAT16, {"seed": 1.5}, "seed: expected a whole number"),
    (BFLOAT16, {"seed": -1}, "seed: expected a number of at least 0"),
    (np.float32, {"state_dtype": "8bits"}, "state_dtype: expected .*, got '8bits', did you mean '8bit'"),
    (np.float32, {"min_8bit_size": 1.5}, "min_8bit_size: expected a whole number, got 1.5"),
    (np.float32, {"min_8bit_size": -1}, "min_8bit_size: expected a number of at least 0"),
    (np.float32, {"ema": 1.0}, "ema: expected at least 0 and below 1, got 1.0"),
    (np.float32, {"ema": "0.9"}, "ema: expected a number"),
]


@pytest.mark.parametrize(("dtype", "options", "message"), BAD, ids=[str(options) for _, options, _ in BAD])
def test_what_cannot_be(dtype, options, message):
    w = np.ones(3, dtype)
    with pytest.raises((TypeError, ValueError), match=message):
        schuss.AdamW([w], **options)
    assert (w == 1).all()


def test_without_ml_dtypes(monkeypatch):
    import sys

    from schuss_kernels.storage import dtypes

    dtypes._dtype.cache_clear()
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ModuleNotFoundError, match="bfloat16 needs ml_dtypes; get it with: pip install ml_dtypes"):
        schuss.AdamW([np.ones(3, np.float32)], state_dtype="bfloat16")
    dtypes._dtype.cache_clear()


# --------------------------------------------------------------------------------------------------------- machine code


@pytest.mark.parametrize("stochastic", [False, True], ids=["nearest", "stochastic"])
@pytest.mark.parametrize("storage", [BF16, F16], ids=lambda s: s.name)
def test_16_bit_kernels_are_simd(storage, stochastic, monkeypatch, tmp_path):
    import platform

    import numba
    from schuss_kernels.cpu import compile

    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("looks for x86 instructions")
    monkeypatch.setattr(compile, "_kernels", {})
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    rule = RULES["adamw"]
    spec = Spec(rule, storage, storage, (storage,) * 2, stochastic=stochastic)
    assembly = next(iter(compile.compiled(rule, spec)[0].inspect_asm().values()))
    assert re.search(r"\tv?sqrtps\t", assembly), "the loop is not vectorised"
    assert not re.search(r"\t(?:v?cvtps2pd|v?sqrtpd|v?mulpd)\t", assembly)


@pytest.mark.parametrize(
    "array",
    [np.ones(3), np.ones((2, 5), np.float32)[:, ::-2], np.zeros(0), np.array(1.0), np.ones((2, 2)).view(np.matrix)],
    ids=["dense", "strided", "empty", "0-d", "subclass"],
)
def test_an_address_is_read_from_the_header(array):
    assert address_of(array) == array.__array_interface__["data"][0]


def test_what_was_done_to_an_array():
    memory = Memory.of(np.ones(3))
    assert memory.change() == ""
    assert replace(memory, address=memory.address + 8).change().startswith("was resized and has other memory")
    assert replace(memory, shape=(4,)).change().startswith("was resized: expected shape (4,), got (3,)")
