"""Specs: what a kernel is compiled for, that is a rule, the storage of each of its arrays, and its riders."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..storage import quantization
from ..storage.dtypes import BY_NAME, CODES, F32, POSITIVE_CODES, REMAINDER, Storage

if TYPE_CHECKING:
    from ..lang.rule import Rule


def quantized_storages(rule: Rule) -> tuple[Storage, ...]:
    """Return the storage of each state of a rule where states are quantized to 8 bits and computed in float32."""
    return tuple(
        F32 if field in rule.weights else POSITIVE_CODES if field in rule.not_negative else CODES
        for field in rule.State._fields
    )


@dataclass(frozen=True)
class Stream:
    """One of the arrays that a kernel uses, and whether it reads and writes it.

    ``elements_per_entry``: how many elements of the tensor an entry of the array stands for: 1, or the size of a
    quantization block for an array of scales. ``state``: number of the state that the array has the values or the
    scales of; None for the other arrays, which a state may share a name with.
    """

    name: str
    storage: Storage
    reads: bool = True
    writes: bool = True
    elements_per_entry: int = 1
    state: int | None = None

    @property
    def bytes_per_element(self) -> float:
        """Bytes that a kernel reads and writes of this array for each element of the tensor."""
        return self.storage.itemsize * (self.reads + self.writes) / self.elements_per_entry


@dataclass(frozen=True)
class GradSquares:
    """What a kernel that adds up the squares of a gradient is compiled for.

    ``strided``: the kernel reads the tensor's strided layout.
    """

    gradient: Storage
    strided: bool = False

    @property
    def form(self) -> str:
        """Everything as text: the kernel's key."""
        return f"squares|{self.gradient.code}|{'strided' if self.strided else 'dense'}"


@dataclass(frozen=True)
class Spec:
    """What a kernel is compiled for.

    Attributes
    ----------
    rule
        The rule whose ``update`` or ``measure`` it computes.
    parameter, gradient, states
        The storage of each of these arrays.
    strided
        Parameter or gradient is not dense: the kernel reads the tensor's strided layout.
    master
        What holds the master weight of a 16-bit parameter: ``"float32"``, ``"remainder"`` (the lower 16 bits), or
        ``""`` where there is none.
    stochastic
        16-bit parameters without a master weight, and states of 16 or 8 bits, are rounded stochastically.
    clip
        Gradients are limited to the clip value.
    zero
        Gradients are set to zero.
    ema
        The moving average of the parameters is updated.
    copy
        The storage of a copy of the parameters that is written; None where there is none.
    measure
        The kernel writes nothing but the sums of the rule's measure.
    lookahead
        The slow weights move towards the parameters, and the parameters are set to them.
    """

    rule: Rule
    parameter: Storage
    gradient: Storage
    states: tuple[Storage, ...]
    strided: bool = False
    master: str = ""
    stochastic: bool = False
    clip: bool = False
    zero: bool = False
    ema: bool = False
    copy: Storage | None = None
    measure: bool = False
    lookahead: bool = False

    @property
    def compute(self) -> np.dtype:
        """The dtype that the rule is computed in: float32 or float64."""
        return self.parameter.compute

    def measure_spec(self) -> Spec:
        """Return the spec of the kernel that adds up the rule's measure of the same tensor."""
        return replace(self, stochastic=False, zero=False, ema=False, copy=None, measure=True, lookahead=False)

    @functools.cached_property
    def streams(self) -> tuple[Stream, ...]:
        """The arrays in their order, in kernels as in the rows of a plan: see :func:`_streams`."""
        return _streams(self)

    @property
    def scales(self) -> slice:
        """Where the scales of the quantized states stand among the streams after the gradient."""
        first = len(self.states) + bool(self.master)
        return slice(first, first + len(self.quantized_states))

    @functools.cached_property
    def quantized_states(self) -> tuple[int, ...]:
        """Numbers of the states that are stored as 8-bit codes with one scale for each quantization block."""
        return tuple(number for number, storage in enumerate(self.states) if storage.is_quantized)

    @functools.cached_property
    def stochastic_streams(self) -> tuple[int, ...]:
        """Numbers of the streams that are rounded stochastically.

        They are the states of 16 or 8 bits, and a 16-bit parameter that has no master weight.
        """
        if not self.stochastic:
            return ()
        last = 2 + len(self.states)
        return tuple(
            number
            for number, stream in enumerate(self.streams[:last])
            if stream.storage.itemsize <= 2 and number != 1 and not (number == 0 and self.master)
        )

    def stream_index(self, name: str) -> int:
        """Return the index of the stream ``name`` that is none of a state's."""
        return next(n for n, stream in enumerate(self.streams) if stream.name == name and stream.state is None)

    @property
    def bytes_per_element(self) -> float:
        """Bytes that the kernel reads and writes for each element, less what the rule ignores or leaves unchanged."""
        return sum(stream.bytes_per_element for stream in self.moved_streams())

    def moved_streams(self) -> tuple[Stream, ...]:
        """Return the streams, each marked as read and written only as far as the rule does so."""
        from ..lang.traffic import GRADIENT, PARAMETER, traffic  # here: a step does not need it

        used, made = traffic(self.rule), []
        read = used.measured if self.measure else used.read
        for stream in self.streams:
            name = stream.name if stream.state is None else self.rule.State._fields[stream.state]
            if stream.state is None and name == "master":
                name = PARAMETER
            if stream.state is not None or name in (PARAMETER, GRADIENT):
                # A value stored in fewer bits than it is computed in is rounded, and so written, in any case.
                changed = name in used.written or name == GRADIENT or stream.storage.dtype != self.compute
                writes = stream.writes and changed and not self.measure
                stream = replace(stream, reads=stream.reads and name in read, writes=writes)
            elif self.measure:
                stream = replace(stream, reads=False, writes=False)
            made.append(stream)
        return tuple(made)

    def __str__(self) -> str:
        return f"{self.rule.key}|{self.form}"

    @functools.cached_property
    def form(self) -> str:
        """Everything but the rule, as text: part of the kernel's key."""
        states = ",".join(storage.code for storage in self.states)
        riders = [
            name
            for name, there in (
                (f"master-{self.master}", self.master),
                ("stochastic", self.stochastic),
                ("clip", self.clip),
                ("zero", self.zero),
                ("ema", self.ema),
                (f"copy-{self.copy.code}" if self.copy else "", self.copy),
                ("measure", self.measure),
                ("lookahead", self.lookahead),
            )
            if there
        ]
        return "|".join(
            (self.parameter.code, self.gradient.code, states, "strided" if self.strided else "dense", *riders)
        )


@functools.lru_cache(maxsize=1024)
def _streams(spec: Spec) -> tuple[Stream, ...]:
    """List the arrays of a spec. The one place that says which column of a plan's row has which array.

    They are parameter, gradient, states, master weight and scales of the quantized states; then what only riders
    write: moving average, copy, slow weights. A tensor's row serves several kernels: those that measure it, update it,
    and update it in a sync step. Their specs differ in the riders' arrays, which stand last and in this order, so that
    the streams of each are the first columns of the row.
    """
    rule, compute = spec.rule, BY_NAME[spec.compute.name]
    fields = zip(rule.State._fields, spec.states, strict=True)
    made = [
        Stream("parameter", spec.parameter, reads=spec.master != "float32"),
        Stream("gradient", spec.gradient, writes=spec.zero),
        *(Stream(name, storage, state=number) for number, (name, storage) in enumerate(fields)),
    ]
    if spec.master:
        made.append(Stream("master", F32 if spec.master == "float32" else REMAINDER))
    made += [
        Stream(f"{rule.State._fields[number]} scale", F32, elements_per_entry=quantization.QUANT_BLOCK, state=number)
        for number in spec.quantized_states
    ]
    if spec.ema:
        made.append(Stream("ema", compute))
    if spec.copy is not None:
        made.append(Stream("copy", spec.copy, reads=False))
    if spec.lookahead:
        made.append(Stream("slow", compute))
    return tuple(made)
