"""The engine without a compiler: each rule's numpy reference, tensor by tensor.

Slow, and the statement of what every kernel has to produce, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..lang.interpret import _MATH, element_by_element, measured_element_by_element
from ..lang.matrix_rule import MatrixRule
from ..plan.chunk_table import REDUCE_BLOCK
from ..plan.reduce import LANES, folded, total
from ..plan.riders import (
    Floats,
    Riders,
    load_parameter,
    random_bits,
    scaled_gradient,
    store,
    store_parameter,
)
from ..plan.spec import Spec
from ..plan.tensor import Origin, Tensor
from ..storage import quantization
from ..storage.memory import Memory, memory_order
from .base import Engine
from .interrupts import DeferInterrupt


class ReferenceEngine(Engine):
    """``rule.reference`` on whole arrays; a rule without one is evaluated element by element."""

    name = "numpy"

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None) -> None:
        super().__init__(tensors, clock)
        self._slots: dict[int, tuple[int, dict[str, Any], tuple[float, ...]]] = {}

    def set_slots(self, slots: Sequence[int | None]) -> None:
        for tensor, slot in zip(self.tensors, slots, strict=True):
            tensor.slot = slot or 0

    def prepare(
        self, slots: list[int], dtypes: Sequence[np.dtype], riders: Floats, scalars: Floats, origin: Origin
    ) -> None:
        rule, step, options, running, sums = origin
        given = dict(options)
        if rule.running is not None:
            given["running"] = running
        if sums is not None:
            given["sums"] = rule.Sums(*sums)
        for slot in slots:
            self._slots[slot] = step, dict(given), riders

    def set_gradients(self, gradients: Sequence[Memory | None]) -> None:
        self._gradients = list(gradients)

    def grad_squares(self) -> tuple[float, bool]:
        return total(np.concatenate([np.zeros((0, 2)), *self.block_squares()]))

    def block_squares(self) -> list[np.ndarray]:
        """Return for every tensor the sums of squares of its gradient, by reduction blocks: none without a gradient."""
        with np.errstate(all="ignore"):
            return [
                np.zeros((0, 2)) if gradient is None else _squares(gradient.to_host().array, tensor.parameter)
                for tensor, gradient in zip(self.tensors, self._gradients, strict=True)
            ]

    def measure(self) -> list[tuple[float, ...]]:
        with np.errstate(all="ignore"):
            return [
                (0.0,) * (0 if tensor.rule.Sums is None else len(tensor.rule.Sums._fields))
                if gradient is None or tensor.rule.measure is None
                else self._measured(tensor, gradient.array)
                for tensor, gradient in zip(self.tensors, self._gradients, strict=True)
            ]

    def _measured(self, tensor: Tensor, gradient: np.ndarray) -> tuple[float, ...]:
        step, p, g, state = self._loaded(tensor, gradient)
        step.options.pop("sums", None)
        rule = tensor.rule
        measure = rule.reference_measure or measured_element_by_element(rule)
        measured = measure(p, g, state, step.number, **step.options)
        sums = [_lane_sums(_in_row(values, step.order)) for values in measured]
        return folded(np.stack(sums, axis=1))

    def launch(self) -> None:
        with DeferInterrupt():
            self.step_all(
                (number, tensor, gradient)
                for number, (tensor, gradient) in enumerate(zip(self.tensors, self._gradients, strict=True))
                if gradient is not None and tensor.parameter.size
            )
            self.clock[0] += 1

    def step_all(self, work: Iterable[tuple[int, Tensor, Memory]]) -> None:
        """Step tensors, each with its number and gradient."""
        with np.errstate(all="ignore"):
            for number, tensor, gradient in work:
                self.step_tensor(number, tensor, gradient)

    def _loaded(self, tensor: Tensor, gradient: np.ndarray) -> tuple[_Step, np.ndarray, np.ndarray, Any]:
        """What a rule is given: the step, and parameter, gradient (scaled, clipped) and state in the compute type."""
        number, options, given = self._slots[tensor.slot]
        spec = replace(tensor.spec(False, self.clip, self.zero), lookahead=self.syncs)
        riders = Riders(*map(spec.compute.type, given))
        arrays = {name: memory.array for name, memory in tensor.others.items()}
        arrays |= {"parameter": tensor.parameter.array, "gradient": gradient}
        p = load_parameter(arrays, spec)
        g = scaled_gradient(gradient, spec, riders)
        order = memory_order(p.shape, tensor.parameter.strides)
        state = tensor.rule.State(*(_read(memory, order).astype(spec.compute) for memory in tensor.states))
        if tensor.rule.matrix:  # the order that numbers are added up in is then always the same
            p, g, *states = (np.asarray(array, order="C") for array in (p, g, *state))
            state = tensor.rule.State(*states)
        return _Step(number, dict(options), spec, riders, arrays, order), p, g, state

    def step_tensor(self, number: int, tensor: Tensor, gradient: Memory) -> None:
        """Step one tensor. ``number``: its number in the plan."""
        step, p, g, state = self._loaded(tensor, gradient.array)
        rule, spec = tensor.rule, step.spec
        reference = rule.reference or element_by_element(rule)
        new_p, new_state = reference(p, g, state, step.number, **step.options)
        if isinstance(rule, MatrixRule):
            new_p, new_state = rule.checked((new_p, new_state), p, state)
        bits = random_bits(spec, (step.riders.key_high, step.riders.key_low), number, p.size)
        store_parameter(step.arrays, new_p, spec, step.riders, _laid_out(bits.get(0), p.shape, step.order))
        for stream, (memory, values) in enumerate(zip(tensor.states, new_state, strict=True), 2):
            _write(memory, values, bits.get(stream), step.order)


class _Step(NamedTuple):
    """What a tensor's step goes by."""

    number: int
    """The number of the step, from 1."""

    options: dict[str, Any]
    """The rule's hyper-parameters, and its running numbers and sums where it has some."""

    spec: Spec
    riders: Riders
    """In the compute type."""

    arrays: dict[str, np.ndarray]
    """Parameter, gradient and what the riders write, by the names of the spec's streams."""

    order: list[int]
    """The parameter's axes, outermost in memory first: its memory order."""


def _squares(gradient: np.ndarray, parameter: Memory) -> np.ndarray:
    """Return for every REDUCE_BLOCK elements the sum of the squares, and 0.0, or NaN where one is not finite."""
    values = _in_row(gradient, memory_order(parameter.shape, parameter.strides)).astype(np.float64)
    nonfinite = [
        0.0 if np.isfinite(values[first : first + REDUCE_BLOCK]).all() else np.nan
        for first in range(0, values.size, REDUCE_BLOCK)
    ]
    return np.stack([_lane_sums(values * values), np.array(nonfinite)], axis=1)


def _lane_sums(row: np.ndarray) -> np.ndarray:
    """Return for every REDUCE_BLOCK elements their sum in float64, added up in the order of the kernels."""
    sums = np.zeros(-(-row.size // REDUCE_BLOCK))
    for number, first in enumerate(range(0, row.size, REDUCE_BLOCK)):
        block = row[first : first + REDUCE_BLOCK].astype(np.float64)
        lanes = np.zeros((1 + -(-block.size // LANES), LANES))  # kernels start from zero: no sum is -0.0
        lanes[1:].reshape(-1)[: block.size] = block
        halves = np.cumsum(lanes, axis=0)[-1]  # one after the other, as numpy.sum does not promise
        while halves.size > 1:
            halves = halves[: halves.size // 2] + halves[halves.size // 2 :]
        sums[number] = halves[0]
    return sums


def _read(memory: Memory, order: Sequence[int]) -> np.ndarray:
    """The values of a state; those of a quantized one in float32."""
    if memory.scales is None:
        return np.asarray(memory.array)
    decoded = quantization.decode(_in_row(memory.array, order), memory.scales.array)
    return _out_of_row(decoded, memory.shape, order)


def _write(memory: Memory, values: np.ndarray, bits: np.ndarray | None, order: Sequence[int]) -> None:
    """Write a state, rounded or quantized. ``bits``: random ones, elements in the parameter's memory order."""
    if memory.scales is None:
        store(memory.array, values, _laid_out(bits, memory.shape, order))
        return
    signed = memory.dtype == np.int8
    codes, scales = quantization.encode(_in_row(values, order).astype(np.float32), signed, bits)
    memory.array[...] = _out_of_row(codes, memory.shape, order)
    memory.scales.array[...] = scales


def _in_row(values: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """The elements of an array in one row, in the parameter's memory order."""
    return np.ascontiguousarray(values.transpose(order) if values.ndim else values).reshape(-1)


def _out_of_row(values: np.ndarray, shape: Sequence[int], order: Sequence[int]) -> np.ndarray:
    """Undo :func:`_in_row`."""
    return values.reshape([shape[axis] for axis in order]).transpose(np.argsort(order)) if order else values.reshape(())


def _laid_out(bits: np.ndarray | None, shape: Sequence[int], order: Sequence[int]) -> np.ndarray | None:
    return None if bits is None else _out_of_row(bits, shape, order)


_MATH.fabs, _MATH.pow = np.fabs, np.power


def available() -> None:
    """Return None: numpy always runs."""


def make_engine(tensors: Sequence[Tensor], clock: np.ndarray, threads: int | None, strict: bool) -> ReferenceEngine:
    """Return the reference engine, which runs on the calling thread."""
    return ReferenceEngine(tensors, clock)
