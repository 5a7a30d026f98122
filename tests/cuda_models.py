"""Models of awkward tensors for the CUDA tests: the same bytes in any memory, moved by any engine."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from cases import options_of
from schuss_kernels.lang.rule import PARAMETER
from schuss_kernels.plan import chunk_table
from schuss_kernels.plan.riders import Riders
from schuss_kernels.plan.spec import quantized_storages
from schuss_kernels.plan.tensor import Tensor
from schuss_kernels.rules import RULES
from schuss_kernels.storage import quantization, stochastic_rounding
from schuss_kernels.storage.dtypes import CODES
from schuss_kernels.storage.memory import Memory, dense_strides, memory_order

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
FEW = [dense(33), dense(46, 2, 2, 2), Case(Array((5, 4), (30, 3), 1), Array((5, 4)))]
EIGHT = [
    *(dense(size) for size in (1, 255, 256, 257, 1000)),
    dense(300, parameter=1, gradient=3, states=1),
    Case(Array(()), Array(())),
    Case(Array((3, 0, 2)), Array((3, 0, 2))),
    Case(Array((30, 35), (1, 30)), Array((30, 35))),  # F order, the gradient in C order
    Case(Array((5, 90), (400, 3), 1), Array((5, 90))),  # sliced
    Case(Array((400,), (-1,)), Array((400,))),  # reversed
    Case(Array((2, 13, 2, 13), (1, -160, 4, 12), 2), Array((2, 13, 2, 13))),
]
EIGHT_LARGE = [dense(5000), dense(20_001, gradient=1), dense(7), Case(Array((90, 100), (1, 90)), Array((90, 100)))]
MEDIUM = [*SMALL, *(dense(size) for size in (31, 1000)), Case(Array((50, 70), (1, 50)), Array((50, 70)))]
LARGE = [
    dense(chunk_table.MAX_CHUNK + 5),
    dense(7),
    dense(65_537, gradient=1),
    Case(Array((90, 500), (1, 90)), Array((90, 500))),
]


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
        self,
        rule,
        dtype,
        gradient_dtype,
        cases,
        where,
        seed=0,
        state=None,
        master="",
        stochastic=False,
        ema=False,
        copy=None,
        least=0,
        slow=False,
    ):
        """``state``: the dtype of the states, or ``"8bit"`` for those of tensors of at least ``least`` elements."""
        self.rule, self.where, self.cases = rule, where, cases
        self.dtype, self.gradient_dtype = np.dtype(dtype), np.dtype(gradient_dtype)
        self.options = options(rule)
        self.numbers = {name: self.options[name] for name in rule.scalar_names}
        self.buffers, self.running = [], {}
        self.draw = np.random.default_rng(seed)
        self.tensors = []
        for number, case in enumerate(cases):
            parameter = self.place(case.parameter, self.dtype)
            initial = rule.initial_state(self.options)
            order = memory_order(parameter.shape, parameter.strides)
            strides = dense_strides(parameter.shape, order, 1)
            like = Array(parameter.shape, strides, case.states)
            compute = np.dtype(np.float64 if self.dtype.itemsize == 8 else np.float32)
            if state == "8bit" and parameter.size >= least:
                states = tuple(
                    self.codes(like, storage, fill) if storage.is_quantized else self.place(like, storage.dtype)
                    for storage, fill in zip(quantized_storages(rule), initial, strict=True)
                )
            else:
                kind = compute if state in (None, "8bit") else state
                states = tuple(
                    self.place(like, compute) if fill is PARAMETER else self.place(like, kind, fill) for fill in initial
                )
            others = {}
            if master:
                others["master"] = self.place(like, np.float32 if master == "float32" else np.uint16, 1)
            if ema:
                others["ema"] = self.place(like, compute, 0.5)
            if copy is not None:
                others["copy"] = self.place(like, copy, 0.0)
            if slow:
                others["slow"] = self.place(like, compute)
            gradient = [s * self.gradient_dtype.itemsize for s in strides_of(case.gradient)]
            self.tensors.append(
                Tensor(
                    f"t{number}",
                    rule,
                    parameter,
                    states,
                    self.gradient_dtype,
                    tuple(gradient),
                    others=others,
                    master=master,
                    stochastic=stochastic,
                )
            )

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

    def codes(self, like, storage, fill):
        """A new state in 8 bits, and its scales."""
        code, scale = quantization.encode(np.full(1, fill, np.float32), storage is CODES)
        scales = self.place(Array((quantization.scale_count(math.prod(like.shape)),)), np.float32, scale[0])
        return replace(self.place(like, storage.dtype, code[0]), scales=scales)

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
        """As the optimizer does: with a measure every tensor has a slot of its own, and two passes."""
        compute = np.dtype(np.float64 if self.dtype.itemsize == 8 else np.float32)
        riders = Riders(SCALE, 0.01, 0.9, 0.1, *map(float, stochastic_rounding.key(7, step)), 0.3)
        if all("slow" in tensor.others for tensor in self.tensors):
            engine.sync_slow_weights(step % 2 == 0)
        there = [number for number, gradient in enumerate(gradients) if gradient is not None]
        slots = there if self.rule.measure is not None else [0]
        if self.rule.measure is not None:
            engine.set_slots([None if g is None else number for number, g in enumerate(gradients)])
        engine.set_gradients(gradients)
        sums = [None] * len(gradients)
        for measured in (False, True)[: 1 + (self.rule.measure is not None)]:
            if measured:
                sums = engine.measure()
            for slot in slots:
                running = self.running.get(slot, self.rule.running and self.rule.running())
                given = sums[slot]
                scalars, after = self.rule.numbers(step, self.numbers, running, given)
                origin = self.rule, step, self.numbers, running, given
                engine.prepare([slot], [compute], riders, scalars, origin)
                if measured == (self.rule.measure is not None):
                    self.running[slot] = after
        engine.launch()

    def result(self):
        return [self.where.get(held).copy() for held in self.buffers]


def strides_of(array):
    return dense_strides(array.shape, range(len(array.shape)), 1) if array.strides is None else array.strides


def is_dense(case):
    """Whether parameter and gradient lie in the same order, without gaps."""
    shape = case.parameter.shape
    return chunk_table.strided_layout(shape, strides_of(case.parameter), strides_of(case.gradient), 1, 1) is None


def numbers(draw, shape):
    """Numbers of very different sizes."""
    return draw.standard_normal(shape) * 10.0 ** draw.integers(-4, 3, shape)


def options(rule):
    """Hyper-parameters of a rule with nothing switched off: 0.1 where they would be zero."""
    given = options_of(rule) if rule.name in RULES else rule.options
    return {name: 0.1 if value == 0.0 and value is not False else value for name, value in given.items()}


def differences(ours, theirs):
    """Which buffers differ, in words; empty where all bytes are the same."""
    assert len(ours) == len(theirs)
    pairs = enumerate(zip(ours, theirs, strict=True))
    return [f"buffer {number}: {np.flatnonzero(a != b)}" for number, (a, b) in pairs if a.tobytes() != b.tobytes()]


def moved(model_result, fresh):
    """Whether anything changed at all since ``fresh``, the buffers of an untouched model."""
    return any(a.tobytes() != b.tobytes() for a, b in zip(fresh, model_result, strict=False))
