"""Gradients as engines for host memory take them: read where they lie, or left to Python to look at."""

from __future__ import annotations

import array
import pickle

import numpy as np
import pytest
from cases import arrays, assert_same_bits, assert_same_optimizers, mapped, needs_native, ones
from schuss_kernels.native import library
from schuss_kernels.plan import chunk_table

import schuss


def told(optimizer):
    """Filled with one truth a step: whether its gradients went straight into the launch."""
    stepper, straight = optimizer._stepper, []
    step, check = stepper.step, stepper._checked

    def watched(gradients, options):
        straight.append(True)
        return step(gradients, options)

    def looked_at(gradients):
        straight[-1] = False
        return check(gradients)

    stepper.step, stepper._checked = watched, looked_at
    return straight


def frozen(g):
    return memoryview(g).toreadonly()


def from_array(g):
    return array.array(g.dtype.char, g.tobytes())


def from_ctypes(g):
    return np.ctypeslib.as_ctypes(g)


@needs_native
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kind", "straight"),
    [
        (mapped, True),
        (memoryview, True),
        (frozen, True),
        (from_array, True),
        (from_ctypes, False),  # its format says which byte comes first: Python looks at it
    ],
)
def test_gradients_through_the_buffer_protocol(kind, straight, dtype):
    """They are read where they lie; also in turns with arrays, and where they move from step to step."""
    sizes = [50, 10_000, 3]
    ours = schuss.AdamW(arrays(sizes, dtype, 0), backend="native")
    reference = schuss.AdamW(arrays(sizes, dtype, 0), backend="numpy")
    went = told(ours)
    for step, make in enumerate([kind, np.copy, kind, kind, np.copy]):
        gradients = arrays(sizes, dtype, 1 + step)
        ours.step([make(g) for g in gradients])
        reference.step(gradients)
    assert went == [straight, True, straight, straight, True]
    assert_same_optimizers(ours, reference)


def unpickled(g):
    copy = pickle.loads(pickle.dumps(g))
    assert copy.dtype is not g.dtype, "an equal dtype object"
    return copy


def with_metadata(g):
    return g.astype(np.dtype(g.dtype, metadata={"unit": "m"}))


@pytest.mark.parametrize("make", [unpickled, with_metadata])
def test_gradients_whose_dtype_is_an_equal_object(backend, make):
    """As arrays from other processes have. They go straight into the launch; those of the other byte order never do."""
    w, g = ones(40), ones(40)
    optimizer = schuss.SGD([w], lr=0.25, backend=backend)
    went = told(optimizer)
    for gradient in (make(g), g, make(g)):
        optimizer.step([gradient])
    assert went == [True] * 3
    assert (w == 0.25).all()
    with pytest.raises(TypeError, match="a float of the other byte order"):
        optimizer.step([g.astype(g.dtype.newbyteorder())])
    assert (w == 0.25).all()


@needs_native
@pytest.mark.parametrize("kind", [mapped, memoryview])
def test_buffers_of_more_dimensions(kind):
    w, v = arrays([(6, 4), (6, 4)], np.float32, 0)
    v[...] = w
    ours, reference = schuss.AdamW([w], backend="native"), schuss.AdamW([v], backend="numpy")
    went = told(ours)
    for step in range(3):
        [g] = arrays([(6, 4)], np.float32, 1 + step)
        ours.step([kind(g)])
        reference.step([g])
    assert went == [True] * 3
    assert_same_optimizers(ours, reference)
    for other in (g.ravel(), g.reshape(4, 6), g.reshape(6, 4, 1)):
        with pytest.raises(ValueError, match=r"gradient of '0': expected shape \(6, 4\)"):
            ours.step([kind(other)])
    with pytest.raises(TypeError, match=r"gradient of '0': expected a float array .*, got int32"):
        ours.step([kind(g.view(np.int32))])
    assert_same_optimizers(ours, reference)
    assert went == [True] * 3 + [False] * 4


@pytest.mark.parametrize("warm", [False, True])
def test_subclasses_that_mean_more_than_their_memory(backend, warm):
    """A mask would be ignored; a matrix is an array like any other. Both lie where the last step's gradient lay."""
    w, g = ones(2, 3), ones(2, 3)
    optimizer = schuss.SGD([w], lr=0.25, backend=backend)
    if warm:
        optimizer.step([g])
    before = w.copy()
    with pytest.raises(TypeError, match=r"gradient of '0': expected a float array .*, got a masked array"):
        optimizer.step([np.ma.masked_array(g, g > 0, copy=False)])
    assert_same_bits(w, before)
    assert optimizer.steps == warm
    optimizer.step([g.view(np.matrix)])
    assert_same_bits(w, before - np.float32(0.25))


def test_lists_tuples_and_what_does_not_fit(backend):
    w, v = ones(3), ones(2)
    optimizer = schuss.SGD([w, v], lr=0.125, backend=backend)
    for gradients in ([ones(3), ones(2)], (ones(3), ones(2)), iter([ones(3), ones(2)]), Listed([ones(3), ones(2)])):
        optimizer.step(gradients)
    assert (w == 0.5).all()
    for bad, error, message in [
        ([], ValueError, "expected 2 items, got 0"),
        ([ones(3)], ValueError, "expected 2 items, got 1"),
        ([ones(3), ones(2), ones(1)], ValueError, "expected 2 items, got 3"),
        ((ones(3),), ValueError, "expected 2 items, got 1"),
        ([ones(2), ones(3)], ValueError, r"gradient of '0': expected shape \(3,\), got \(2,\)"),
        ([ones(3), [ones(2)]], TypeError, "gradient of '1': expected a float array .*, got list"),
        ([ones(3), b"12345678"], TypeError, "gradient of '1': expected a float array .*, got uint8"),
        ([ones(3), "12345678"], TypeError, "gradient of '1': expected a float array .*, got str '12345678'"),
        ({0: ones(3), 1: ones(2)}, TypeError, "expected a list or tuple, got dict"),
    ]:
        with pytest.raises(error, match=message):
            optimizer.step(bad)
        assert (w == 0.5).all()
        assert (v == 0.5).all()
        assert optimizer.steps == 4
    optimizer.step([ones(3), ones(2)])
    assert (w == 0.375).all()


class Listed(list):
    """A list that may be something else besides."""


@pytest.mark.parametrize("seen", [np.asarray, memoryview], ids=["array", "memoryview"])
def test_gradients_that_move_into_parameters(backend, seen):
    """Between parameters there is room for a gradient, to the last byte; over one of them there is none."""
    draw = np.random.default_rng(0)
    edges = np.sort(draw.choice(np.arange(10, 190), 16, replace=False)).reshape(8, 2)
    memory = np.zeros(200, np.float32)
    params = [memory[first:last] for first, last in draw.permutation(edges)]
    optimizer = schuss.SGD(params, lr=0.0, backend=backend)
    optimizer.step([np.ones_like(p) for p in params])
    went = told(optimizer)
    taken = np.zeros(200, bool)
    for first, last in edges:
        taken[first:last] = True
    refused = 0
    for place in range(200 - params[0].size + 1):
        gradient = memory[place : place + params[0].size]
        gradients = [seen(gradient), *(np.ones_like(p) for p in params[1:])]
        if taken[place : place + params[0].size].any():
            with pytest.raises(ValueError, match=r"gradient of '0' shares memory with parameter"):
                optimizer.step(gradients)
            refused += 1
        else:
            optimizer.step(gradients)
    assert 0 < refused < len(went)
    assert optimizer.steps == 1 + len(went) - refused
    if backend == "native":
        assert went.count(True) == len(went) - refused


def test_gradients_that_move_between_interleaved_parameters(backend):
    memory = np.zeros(60, np.float32)
    optimizer = schuss.SGD([memory[0:20:2], memory[1:41:2], np.zeros(5, np.float32)], lr=0.0, backend=backend)
    for place in (45, *range(45)):
        gradients = [ones(10), ones(20), memory[place : place + 5]]
        if place < 40:
            with pytest.raises(ValueError, match="gradient of '2' shares memory with parameter"):
                optimizer.step(gradients)
        else:
            optimizer.step(gradients)
    assert optimizer.steps == 6


def test_what_goes_straight_into_the_launch(backend):
    """Gradients that moved, and any pattern of None. A new layout does so from its second step on."""
    shapes = [(6, 4), (6, 4), (5,)]
    ours, reference = (schuss.SGD(arrays(shapes, np.float32, 0), lr=0.1, backend=b) for b in (backend, "numpy"))
    went = told(ours)
    for step, change in enumerate(
        [lambda a, b, c: [a, b, c]] * 2
        + [lambda a, b, c: [a, None, c]] * 2
        + [lambda a, b, c: [np.asfortranarray(a), None, c]] * 2
        + [lambda a, b, c: [np.asfortranarray(a), b[::-1], c]] * 2
        + [lambda a, b, c: [np.asfortranarray(a), b[::-1], np.broadcast_to(c[:1], 5)]] * 2
    ):
        gradients = change(*arrays(shapes, np.float32, 1 + step))
        ours.step(gradients)
        reference.step(gradients)
    assert went == [*[True] * 4, *[False, True] * 3]
    assert_same_optimizers(ours, reference)


@needs_native
def test_gradients_of_another_dtype_after_the_start():
    """Their kernels are there as well: strict, and no numba."""
    ours = schuss.AdamW(arrays([300, (4, 5)], np.float32, 0), backend="native")
    reference = schuss.AdamW(arrays([300, (4, 5)], np.float32, 0), backend="numpy")
    for step, dtype in enumerate([np.float32, np.float64, np.float64, np.float32]):
        gradients = arrays([300, (5, 4)], dtype, 1 + step)
        gradients[1] = gradients[1].T
        ours.step(gradients)
        reference.step(gradients)
        assert set(ours._stepper.engine.plan.rows[:, chunk_table.KERNEL]) <= set(library.library().kernels.values())
    assert_same_optimizers(ours, reference)
