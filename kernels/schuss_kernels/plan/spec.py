"""What a kernel is compiled for: a rule, the storage of each stream, and what else it does in the pass."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..storage import quantization

if TYPE_CHECKING:
    from ..lang.rule import Rule
from ..storage.dtypes import BY_NAME, CODES, F32, POSITIVE_CODES, REMAINDER, Storage


def quantized_storages(rule: Rule) -> tuple[Storage, ...]:
    """What the states of a rule are kept in where they are kept in 8 bits (and computed in float32)."""
    return tuple(
        F32 if field in rule.weights else POSITIVE_CODES if field in rule.not_negative else CODES
        for field in rule.State._fields
    )


@dataclass(frozen=True)
class Stream:
    """One of the arrays that a kernel walks, and whether it is read and written. ``share``: elements to one entry."""

    name: str
    storage: Storage
    reads: bool = True
    writes: bool = True
    share: int = 1

    @property
    def bytes_per_element(self) -> float:
        return self.storage.itemsize * (self.reads + self.writes) / self.share


@dataclass(frozen=True)
class Squares:
    """What a kernel that adds up the squares of gradients is compiled for."""

    gradient: Storage
    strided: bool = False

    @property
    def form(self) -> str:
        return f"squares|{self.gradient.code}|{'strided' if self.strided else 'dense'}"


@dataclass(frozen=True)
class Spec:
    """What a kernel is compiled for: a rule, the storage of each stream, and what else it does in the pass.

    ``strided``: the tensor is gone through by its walk. ``master``: ``"float32"`` or ``"remainder"``, what holds the
    master weight of a 16-bit parameter. ``stochastic``: 16-bit parameters (without a master) and states are rounded at
    random. ``clip``: gradients are limited to the clip value. ``zero``: gradients are set to zero. ``ema``: the moving
    average of the parameters is updated. ``copy``: the storage of a copy of the parameters that is written.
    ``measure``: nothing is written, the rule's measure is added up. ``lookahead``: the parameters meet their slow
    weights.
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
        return self.parameter.compute

    def measuring(self) -> Spec:
        """What adds up the rule's measure of the same tensor.

        Moving average and copy stay where scales of 8-bit states come after them in a row of the plan.
        """
        ema, copy = (self.ema, self.copy) if self.quantized_states else (False, None)
        return replace(self, stochastic=False, zero=False, ema=ema, copy=copy, measure=True, lookahead=False)

    @functools.cached_property
    def streams(self) -> tuple[Stream, ...]:
        """Parameter, gradient, the states, then what is there of master weight, moving average and copy, then the
        scales of the states in blocks, then the slow weights."""
        fields = zip(self.rule.State._fields, self.states, strict=True)
        made = [
            Stream("parameter", self.parameter, reads=self.master != "float32"),
            Stream("gradient", self.gradient, writes=self.zero),
            *(Stream(name, storage) for name, storage in fields),
        ]
        if self.master:
            made.append(Stream("master", F32 if self.master == "float32" else REMAINDER))
        if self.ema:
            made.append(Stream("ema", BY_NAME[self.compute.name]))
        if self.copy is not None:
            made.append(Stream("copy", self.copy, reads=False))
        made += [
            Stream(f"{self.rule.State._fields[number]} scale", F32, share=quantization.QUANT_BLOCK)
            for number in self.quantized_states
        ]
        if self.lookahead:
            made.append(Stream("slow", BY_NAME[self.compute.name]))
        return tuple(made)

    @property
    def scales(self) -> slice:
        """Where the scales of the states in blocks stand among the streams after the gradient."""
        last = len(self.streams) - 2 - self.lookahead
        return slice(last - len(self.quantized_states), last)

    @functools.cached_property
    def quantized_states(self) -> tuple[int, ...]:
        """Numbers of the states that are kept in blocks of 8-bit codes."""
        return tuple(number for number, storage in enumerate(self.states) if storage.is_quantized)

    @functools.cached_property
    def at_random(self) -> tuple[int, ...]:
        """The streams that are rounded at random: what has 16 bits or 8, and nothing beside it that keeps the rest."""
        if not self.stochastic:
            return ()
        last = 2 + len(self.states)
        return tuple(
            number
            for number, stream in enumerate(self.streams[:last])
            if stream.storage.itemsize <= 2 and number != 1 and not (number == 0 and self.master)
        )

    def number(self, name: str) -> int:
        """The number of the stream called ``name`` (for the riders, whose names no state has)."""
        return next(n for n, stream in reversed(list(enumerate(self.streams))) if stream.name == name)

    @property
    def bytes_per_element(self) -> float:
        """Bytes one element moves in the pass. What the rule does not look at, or leaves as it is, moves none."""
        return sum(stream.bytes_per_element for stream in self.moved())

    def moved(self) -> tuple[Stream, ...]:
        """The streams, read and written as far as the rule does so."""
        from ..lang.traffic import GRADIENT, PARAMETER, traffic  # here: it needs the reference, and that this module

        used, made = traffic(self.rule), []
        read = used.measured if self.measure else used.read
        for stream in self.streams:
            name = PARAMETER if stream.name == "master" else stream.name.removesuffix(" scale")
            if name in (PARAMETER, GRADIENT, *self.rule.State._fields):
                # What is kept in fewer bits than it is computed in is rounded, and so written, in any case.
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
        """Everything but the rule, as text."""
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
