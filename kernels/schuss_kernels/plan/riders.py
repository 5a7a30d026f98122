"""Riders: what a step does beside the rule's update, in the same pass over memory.

The gradient is scaled and clipped before the rule sees it. Of the new parameter, slow weights are synced with it
(lookahead), master weight, moving average and copy are written; what has 16 bits may be rounded stochastically; and the
gradient is set to zero. This is the numpy form, on whole arrays; ``lowering.element`` is the same in LLVM, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..storage import stochastic_rounding
from .spec import Spec

Floats = tuple[float, ...]


class Riders(NamedTuple):
    """The numbers that stand in a slot of the scalars before the rule's own."""

    scale: float = 1.0
    """What gradients are multiplied by."""

    clip: float = 0.0
    """The absolute value that gradients are clipped to, where a kernel clips."""

    ema_keep: float = 0.0
    """The moving average's factor."""

    ema_add: float = 0.0
    """The factor of the parameter that is added to the moving average."""

    key_high: float = 0.0
    key_low: float = 0.0
    """The key of the step's random bits: two integers below 2**24, see :func:`.stochastic_rounding.key`."""

    slow_step: float = 0.0
    """The fraction of the way to the parameters that slow weights go."""

    unused: float = 0.0
    """Fills the slot, so that the rule's scalars are aligned."""


RIDERS = len(Riders._fields)


def scaled_gradient(gradient: np.ndarray, spec: Spec, riders: Riders) -> Any:
    """The gradient in the compute type, scaled and, where the spec says so, clipped. ``riders``: in that type."""
    g = gradient.astype(spec.compute) * riders.scale
    if spec.clip:  # not numpy.clip: a NaN stays one there too, but -0.0 may not
        g = np.where(g > riders.clip, riders.clip, g)
        g = np.where(g < -riders.clip, -riders.clip, g)
    return g


def load_parameter(arrays: Mapping[str, np.ndarray], spec: Spec) -> np.ndarray:
    """A copy of the parameter in the compute type: its master weight, where it has one.

    ``arrays``: by the names of the spec's streams.
    """
    parameter = arrays["parameter"]
    if spec.master == "float32":
        return arrays["master"].copy()
    if spec.master:
        return stochastic_rounding.joined(parameter.view(np.uint16), arrays["master"])
    return parameter.astype(spec.compute)


def random_bits(spec: Spec, key: tuple[float, float], tensor: int, size: int) -> dict[int, np.ndarray]:
    """For each stream that is rounded stochastically 16 random bits an element, in the parameter's memory order.

    ``key``: the riders' two numbers. ``tensor``: its number in the plan.
    """
    streams = spec.stochastic_streams
    if not streams:
        return {}
    drawn = stochastic_rounding.draws((int(key[0]), int(key[1])), tensor, size, len(streams))
    return dict(zip(streams, drawn, strict=True))


def store(array: np.ndarray, values: Any, bits: np.ndarray | None = None) -> None:
    """Write values into an array, rounded to nearest even, or stochastically with 16 random ``bits`` for each."""
    if bits is not None:
        array[...] = stochastic_rounding.rounded(values, array.dtype, bits)
    elif values.dtype.itemsize == 8 and array.dtype.itemsize <= 2:
        array[...] = values.astype(np.float32)  # from float64 to 16 bits by way of float32
    else:
        array[...] = values


def store_parameter(
    arrays: Mapping[str, np.ndarray], values: Any, spec: Spec, riders: Riders, bits: np.ndarray | None
) -> None:
    """Write a new parameter and all that follows from it, and set the gradient to zero where the spec says so.

    ``arrays``: by the names of the spec's streams; ``values`` and ``riders``: in the compute type; ``bits``: random
    ones for the parameter, where it is rounded stochastically.
    """
    parameter = arrays["parameter"]
    if spec.lookahead:
        slow = arrays["slow"]
        values = slow + riders.slow_step * (values - slow)
        slow[...] = values
    if spec.master == "remainder":
        high, low = stochastic_rounding.split(values)
        parameter[...] = high.view(parameter.dtype)
        arrays["master"][...] = low
    else:
        store(parameter, values, bits)
        if spec.master:
            arrays["master"][...] = values
    if spec.zero:
        arrays["gradient"][...] = 0.0
    if spec.ema:
        mean = arrays["ema"]
        mean[...] = riders.ema_keep * mean + riders.ema_add * values
    if spec.copy is not None:
        store(arrays["copy"], values)
