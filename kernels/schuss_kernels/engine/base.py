"""The base of every engine: what a backend has to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..plan.riders import Floats
from ..plan.tensor import Origin, Tensor
from ..plan.two_pass import TwoPassTable
from ..storage.memory import Memory


class Engine(ABC):
    """Steps tensors. One subclass a backend."""

    name = ""
    two_pass_table: TwoPassTable | None = None
    """What is between two passes, for an engine that makes both in one call (:meth:`turn`)."""

    keeps_scalars = False
    """Whether what :meth:`prepare` has set holds until it is set anew."""

    stream: Any = None
    """The CUDA stream of the next step; host engines have none."""

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None) -> None:
        self.tensors = list(tensors)
        self.clip = self.zero = self.syncs = False
        self.clock = np.zeros(1, np.int64) if clock is None else clock
        """One int64: steps that moved tensors. Raised where they are moved, so that nothing (Ctrl-C) comes between."""

    @abstractmethod
    def set_slots(self, slots: Sequence[int | None]) -> None:
        """Give every tensor its slot of the scalars; None: it has no gradient in the steps to come."""

    @abstractmethod
    def prepare(
        self, slots: list[int], kinds: Sequence[np.dtype], riders: Floats, scalars: Floats, origin: Origin
    ) -> None:
        """Set the numbers of slots: the riders' (see :data:`RIDERS`) and a rule's scalars.

        ``origin``: what these were computed from, for an engine that has no scalars.
        """

    @abstractmethod
    def set_gradients(self, gradients: Sequence[Memory | None]) -> None:
        """Take the gradients of the next launch."""

    @abstractmethod
    def launch(self) -> None:
        """Step every tensor that has a gradient."""

    @abstractmethod
    def squares(self) -> tuple[float, bool]:
        """The sum of the squares of all gradients, in float64, and whether all of them are finite."""

    @abstractmethod
    def measure(self) -> list[tuple[float, ...]]:
        """What the rules measure of the gradients placed: every tensor's sums, none where its rule has no measure."""

    def step_two_pass(self) -> None:
        """Measure, finish and launch, in one call, where there are ``turns``."""
        raise RuntimeError(f"the engine {self.name!r} makes its passes one by one")

    def step(self, gradients: Sequence[Memory | None]) -> None:
        """Place and launch."""
        self.set_gradients(gradients)
        self.launch()

    def configure(self, clip: bool, zero: bool, look: bool) -> None:
        """Whether the next steps limit gradients to the clip value, set them to zero, and ask for :meth:`squares`."""
        self.clip, self.zero = clip, zero

    def sync_slow_weights(self, on: bool) -> None:
        """Whether the parameters of the next step meet their slow weights, after it."""
        self.syncs = on

    def try_step(self, gradients: list[Any]) -> bool:
        """Step straight from the caller's arrays if they are all as in the step before; False, nothing done, if not."""
        return False

    def try_set_gradients(self, gradients: list[Any]) -> bool:
        """The first half of :meth:`try_step`."""
        return False
