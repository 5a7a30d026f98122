"""The engine without a compiler: each rule's numpy reference, tensor by tensor.

Slow, and the statement of what every kernel has to produce, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..lang.interpret import _MATH, element_by_element, measured_element_by_element
from ..lang.matrix_rule import MatrixRule
from ..plan.chunk_table import BLOCK
from ..plan.reduce import LANES, folded, total
from ..plan.riders import CLIP, EMA_ADD, EMA_KEEP, KEY_HIGH, KEY_LOW, SCALE, SLOW_STEP, Floats
from ..plan.spec import Spec
from ..plan.tensor import Origin, Tensor
from ..storage import quantization, stochastic_rounding
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
        self, slots: list[int], kinds: Sequence[np.dtype], riders: Floats, scalars: Floats, origin: Origin
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

    def squares(self) -> tuple[float, bool]:
        return total(np.concatenate([np.zeros((0, 2)), *self.block_squares()]))

    def block_squares(self) -> list[np.ndarray]:
        """For every tensor the sums of the squares of its gradient by blocks; none where it has no gradient."""
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
        _, p, g, state, (step, options, _) = self._loaded(tensor, gradient)
        options.pop("sums", None)
        rule = tensor.rule
        measure = rule.reference_measure or measured_element_by_element(rule)
        order = memory_order(p.shape, tensor.parameter.strides)
        sums = [_lane_sums(_in_row(values, order)) for values in measure(p, g, state, step, **options)]
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

    def _loaded(self, tensor: Tensor, gradient: np.ndarray) -> tuple[Spec, np.ndarray, np.ndarray, Any, Any]:
        """What a rule is given: parameter, gradient (scaled, limited) and state in the compute type."""
        step, options, riders = self._slots[tensor.slot]
        spec = tensor.spec(False, self.clip, self.zero)
        kind = spec.compute.type
        p = _parameter(tensor, spec)
        g = gradient.astype(spec.compute) * kind(riders[SCALE])
        if self.clip:
            most = kind(riders[CLIP])
            g = np.where(g > most, most, g)  # not numpy.clip: a NaN stays one here too, but -0.0 may not
            g = np.where(g < -most, -most, g)
        order = memory_order(p.shape, tensor.parameter.strides)
        state = tensor.rule.State(*(_read(memory, order).astype(spec.compute) for memory in tensor.states))
        if tensor.rule.matrix:  # the order that numbers are added up in is then always the same
            p, g, *arrays = (np.asarray(array, order="C") for array in (p, g, *state))
            state = tensor.rule.State(*arrays)
        return spec, p, g, state, (step, dict(options), riders)

    def step_tensor(self, number: int, tensor: Tensor, gradient: Memory) -> None:
        """Step one of the tensors."""
        spec, p, g, state, (step, options, riders) = self._loaded(tensor, gradient.array)
        rule, kind, others = tensor.rule, spec.compute.type, tensor.others
        order = memory_order(p.shape, tensor.parameter.strides)
        reference = rule.reference or element_by_element(rule)
        if isinstance(rule, MatrixRule):
            moved, state = rule.checked(reference(p, g, state, step, **options), p, state)
        else:
            moved, state = reference(p, g, state, step, **options)

        if self.syncs:
            slow = others["slow"].array
            moved = slow + kind(riders[SLOW_STEP]) * (moved - slow)
            slow[...] = moved

        halves = int(riders[KEY_HIGH]), int(riders[KEY_LOW])
        streams = spec.at_random
        draws = (
            dict(zip(streams, stochastic_rounding.draws(halves, number, p.size, len(streams)), strict=True))
            if streams
            else {}
        )
        if spec.master == "remainder":
            high, low = stochastic_rounding.split(moved)
            tensor.parameter.array[...] = high.view(tensor.parameter.dtype)
            others["master"].array[...] = low
        else:
            _write(tensor.parameter, moved, draws.get(0), order)
            if spec.master:
                others["master"].array[...] = moved
        for stream, (memory, value) in enumerate(zip(tensor.states, state, strict=True), 2):
            _write(memory, value, draws.get(stream), order)
        if self.zero:
            gradient.array[...] = 0.0
        if "ema" in others:
            mean = others["ema"].array
            mean[...] = kind(riders[EMA_KEEP]) * mean + kind(riders[EMA_ADD]) * moved
        if "copy" in others:
            _write(others["copy"], moved, None, order)


def _squares(gradient: np.ndarray, parameter: Memory) -> np.ndarray:
    """For every BLOCK elements the sum of the squares, and 0.0 or, where one is not finite, NaN."""
    values = _in_row(gradient, memory_order(parameter.shape, parameter.strides)).astype(np.float64)
    odd = [
        0.0 if np.isfinite(values[first : first + BLOCK]).all() else np.nan for first in range(0, values.size, BLOCK)
    ]
    return np.stack([_lane_sums(values * values), np.array(odd)], axis=1)


def _lane_sums(row: np.ndarray) -> np.ndarray:
    """For every BLOCK elements their sum in float64, added up as the kernels do."""
    sums = np.zeros(-(-row.size // BLOCK))
    for number, first in enumerate(range(0, row.size, BLOCK)):
        block = row[first : first + BLOCK].astype(np.float64)
        lanes = np.zeros((1 + -(-block.size // LANES), LANES))  # kernels start from zero: no sum is -0.0
        lanes[1:].reshape(-1)[: block.size] = block
        halves = np.cumsum(lanes, axis=0)[-1]  # one after the other, as numpy.sum does not promise
        while halves.size > 1:
            halves = halves[: halves.size // 2] + halves[halves.size // 2 :]
        sums[number] = halves[0]
    return sums


def _parameter(tensor: Tensor, spec: Spec) -> np.ndarray:
    """The parameter in the compute type, or its master weight."""
    array = tensor.parameter.array
    if spec.master == "float32":
        return tensor.others["master"].array.copy()
    if spec.master:
        return stochastic_rounding.joined(array.view(np.uint16), tensor.others["master"].array)
    return array.astype(spec.compute)


def _read(memory: Memory, order: Sequence[int]) -> np.ndarray:
    """What the memory holds."""
    if memory.scales is None:
        return np.asarray(memory.array)
    decoded = quantization.decode(_in_row(memory.array, order), memory.scales.array)
    return _out_of_row(decoded, memory.shape, order)


def _in_row(values: np.ndarray, order: Sequence[int]) -> np.ndarray:
    """Values one after the other, in the order of the walk."""
    return np.ascontiguousarray(values.transpose(order) if values.ndim else values).reshape(-1)


def _out_of_row(values: np.ndarray, shape: Sequence[int], order: Sequence[int]) -> np.ndarray:
    """The other way round."""
    return values.reshape([shape[axis] for axis in order]).transpose(np.argsort(order)) if order else values.reshape(())


def _write(memory: Memory, values: np.ndarray, draw: np.ndarray | None, order: Sequence[int]) -> None:
    """Round values to what the memory holds; ``draw``: at random, its bits in the order of the walk."""
    if memory.scales is not None:
        signed = memory.dtype == np.int8
        codes, scales = quantization.encode(_in_row(values, order).astype(np.float32), signed, draw)
        memory.array[...] = _out_of_row(codes, memory.shape, order)
        memory.scales.array[...] = scales
        return
    if draw is None:
        memory.array[...] = (
            values if values.dtype.itemsize < 8 or memory.dtype.itemsize > 2 else values.astype(np.float32)
        )
        return
    made = stochastic_rounding.rounded(_in_row(values, order), memory.dtype, draw)
    memory.array[...] = _out_of_row(made, memory.shape, order)


_MATH.fabs, _MATH.pow = np.fabs, np.power
