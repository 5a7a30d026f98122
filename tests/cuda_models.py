"""Models of awkward tensors for the CUDA tests: the same bytes in any memory, moved by any engine."""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass

import numpy as np
from schuss_kernels import plan, rounding
from schuss_kernels.engine import Memory, Tensor

GUARD = 16  # elements before and behind every array; a multiple of 16 bytes
SCALE = -0.5


@dataclass(frozen=True)
class Array:
    """Where an array lies in its buffer: strides and offset in elements, C order where no strides are given."""

    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None
    offset: int = 0


@dataclass(frozen=True)
class Case:
    """One tensor: how its parameter, its gradient and its states lie in memory."""

    parameter: Array
    gradient: Array
    states: int = 0  # offset in elements


def dense(size, parameter=0, gradient=0, states=0):
    """A vector whose arrays start some elements behind an aligned address."""
    return Case(Array((size,), None, parameter), Array((size,), None, gradient), states)


SMALL = [
    *(dense(size) for size in (1, 7, 33, 100)),
    dense(101, parameter=1),
    dense(102, gradient=3),
    dense(103, states=1),
    dense(45, 1, 1, 1),
    dense(46, 2, 2, 2),
    Case(Array(()), Array(())),
    Case(Array((0,)), Array((0,))),
    Case(Array((3, 0, 2)), Array((3, 0, 2))),
    Case(Array((6, 5, 4)), Array((6, 5, 4))),
    Case(Array((6, 5), (1, 6)), Array((6, 5), (1, 6))),  # F order
    Case(Array((6, 5), (1, 6)), Array((6, 5))),  # F order, the gradient in C order
    Case(Array((5, 9), (40, 3), 1), Array((5, 9))),  # sliced
    Case(Array((40,), (-1,)), Array((40,))),  # reversed
    Case(Array((7, 6)), Array((7, 6), (0, 0))),  # one number as the gradient of all
    Case(Array((2, 3, 2, 3), (1, -36, 4, 12), 2), Array((2, 3, 2, 3))),
]
MEDIUM = [*SMALL, *(dense(size) for size in (31, 1000)), Case(Array((50, 70), (1, 50)), Array((50, 70)))]
LARGE = [dense(plan.CHUNK + 5), dense(7), dense(65_537, gradient=1), Case(Array((90, 500), (1, 90)), Array((90, 500)))]


class Host:
    """This machine's memory. Buffers start at addresses that 64 divides."""

    def put(self, values):
        room = np.empty(values.nbytes + 64, np.uint8)
        start = -room.ctypes.data % 64
        held = room[start : start + values.nbytes]
        held[:] = values.view(np.uint8)
        return held, held.ctypes.data

    def get(self, held):
        return held

    def array(self, held, start, array, dtype, strides):
        return np.ndarray(array.shape, dtype, held, start, strides)


class Gpu:
    """Device memory."""

    def __init__(self, device):
        self.device = device

    def put(self, values):
        held = self.device.empty((values.nbytes,), np.uint8)
        self.device.write(self.device.address(held), values.view(np.uint8))
        return held, self.device.address(held)

    def get(self, held):
        return self.device.read(self.device.address(held), held.size)

    def array(self, held, *_):
        return held


class Model:
    """Tensors with one rule in one memory, and every buffer they lie in."""

    def __init__(
        self, rule, dtype, gradient_dtype, cases, where, seed=0, state=None, master="", stochastic=False, ema=False,
        copy=None,
    ):  # fmt: skip
        self.rule, self.where, self.cases = rule, where, cases
        self.dtype, self.gradient_dtype = np.dtype(dtype), np.dtype(gradient_dtype)
        self.options = options(rule)
        self.numbers = {name: self.options[name] for name in rule.scalar_names}
        self.buffers = []
        self.draw = np.random.default_rng(seed)
        self.tensors = []
        for number, case in enumerate(cases):
            parameter = self.place(case.parameter, self.dtype)
            initial = rule.initial_state(self.options)
            order = plan.memory_order(parameter.shape, parameter.strides)
            strides = plan.dense_strides(parameter.shape, order, 1)
            like = Array(parameter.shape, strides, case.states)
            compute = np.dtype(np.float64 if self.dtype.itemsize == 8 else np.float32)
            states = tuple(self.place(like, state or compute, fill) for fill in initial)
            others = {}
            if master:
                others["master"] = self.place(like, np.float32 if master == "float32" else np.uint16, 1)
            if ema:
                others["ema"] = self.place(like, compute, 0.5)
            if copy is not None:
                others["copy"] = self.place(like, copy, 0.0)
            gradient = [s * self.gradient_dtype.itemsize for s in strides_of(case.gradient)]
            self.tensors.append(
                Tensor(
                    f"t{number}", rule, parameter, states, self.gradient_dtype, tuple(gradient),
                    others=others, master=master, stochastic=stochastic,
                )
            )  # fmt: skip

    def place(self, array, dtype, fill=None):
        """A new buffer with an array of drawn numbers (or all ``fill``) in it, and numbers around it.

        Numbers and not NaN: a NaN that is moved by mistake stays the same NaN.
        """
        strides = strides_of(array)
        reach = [(n - 1) * s for n, s in zip(array.shape, strides, strict=True)] if math.prod(array.shape) else []
        first = GUARD + array.offset - sum(min(r, 0) for r in reach)
        values = np.asarray(numbers(self.draw, first + sum(max(r, 0) for r in reach) + 1 + GUARD), dtype)
        dtype = np.dtype(dtype)
        in_bytes = tuple(s * dtype.itemsize for s in strides)
        view = np.ndarray(array.shape, dtype, values, first * dtype.itemsize, in_bytes)
        view[...] = numbers(self.draw, array.shape) if fill is None else fill
        held, address = self.where.put(values)
        self.buffers.append(held)
        start = first * dtype.itemsize
        owner = self.where.array(held, start, array, dtype, in_bytes)
        return Memory(owner, address + start, dtype, array.shape, in_bytes)

    def run(self, engine):
        """Four steps: all gradients; some missing; moved and some of them missing; moved, in C order. Every buffer."""
        gradients = [self.place(case.gradient, self.gradient_dtype) for case in self.cases]
        self.step(engine, 1, gradients)
        self.step(engine, 2, [None if number % 4 == 1 else g for number, g in enumerate(gradients)])
        gradients = [self.place(case.gradient, self.gradient_dtype) for case in self.cases]
        self.step(engine, 3, [None if number % 4 == 2 else g for number, g in enumerate(gradients)])
        self.step(engine, 4, [self.place(Array(case.gradient.shape), self.gradient_dtype) for case in self.cases])
        return self.result()

    def step(self, engine, step, gradients):
        compute = np.dtype(np.float64 if self.dtype.itemsize == 8 else np.float32)
        key = map(float, rounding.key(7, step))
        engine.prepare(0, [compute], self.rule, step, self.numbers, (SCALE, 0.01, 0.9, 0.1, *key, 0.0, 0.0))
        engine.step(gradients)

    def result(self):
        return [self.where.get(held).copy() for held in self.buffers]


def strides_of(array):
    return plan.dense_strides(array.shape, range(len(array.shape)), 1) if array.strides is None else array.strides


def numbers(draw, shape):
    """Numbers of very different sizes."""
    return draw.standard_normal(shape) * 10.0 ** draw.integers(-4, 3, shape)


def options(rule):
    """Hyper-parameters of a rule with nothing switched off: 0.1 where the default is zero, or there is none."""
    return {
        name: 0.1 if default is inspect.Parameter.empty or (type(default) is float and default == 0.0) else default
        for name, default in rule.options.items()
    }


def differences(ours, theirs):
    """Which buffers differ, in words; empty where all bytes are the same."""
    assert len(ours) == len(theirs)
    pairs = enumerate(zip(ours, theirs, strict=True))
    return [f"buffer {number}: {np.flatnonzero(a != b)}" for number, (a, b) in pairs if a.tobytes() != b.tobytes()]


def moved(model_result, fresh):
    """Whether anything changed at all since ``fresh``, the buffers of an untouched model."""
    return any(a.tobytes() != b.tobytes() for a, b in zip(fresh, model_result, strict=False))
