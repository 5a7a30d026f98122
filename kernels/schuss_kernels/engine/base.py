"""The base class of every engine: what a backend has to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..plan.riders import Floats
from ..plan.tensor import Origin, ScalarTable, Tensor
from ..plan.two_pass import TwoPassTable
from ..storage.memory import Memory


class Engine(ABC):
    """Update tensors in steps. Each backend is a subclass.

    A step is: :meth:`prepare` for the slots whose numbers have changed, :meth:`set_gradients`, then :meth:`launch`.
    """

    name = ""
    """The backend's name."""

    two_pass_table: TwoPassTable | None = None
    """The table of what runs between measure pass and update pass; None where :meth:`step_two_pass` cannot be used."""

    scalars: ScalarTable | None = None
    """Where :meth:`prepare` stores numbers, which stay set for the steps after; None: it stores where they come from.
    """

    stream: Any = None
    """The CUDA stream of the next step; engines for host memory have none."""

    def __init__(self, tensors: Sequence[Tensor], clock: np.ndarray | None = None) -> None:
        self.tensors = list(tensors)
        self.clip = self.zero = self.syncs = False
        self.clock = np.zeros(1, np.int64) if clock is None else clock
        """The clock: number of steps made, an int64 array (1). The code that updates the tensors adds 1 to it, so that
        an interrupt (Ctrl-C) cannot come between the two."""

    @abstractmethod
    def set_slots(self, slots: Sequence[int | None]) -> None:
        """Set every tensor's slot in the table of scalars; None: the tensor has no gradient in the next steps."""

    def on_states_made(self, numbers: Sequence[int]) -> None:
        """Take in that these tensors, which had no gradient before, have states in memory now."""
        return None  # an engine that reads `tensors` in every step finds them there

    @abstractmethod
    def prepare(
        self, slots: list[int], dtypes: Sequence[np.dtype], riders: Floats, scalars: Floats, origin: Origin
    ) -> None:
        """Store the same numbers in each of the slots, for tensors that are computed in these dtypes.

        ``riders``: the riders' numbers (:mod:`.plan.riders`). ``scalars``: a rule's ``Scalars``. ``origin``: what the
        scalars were computed from, for an engine that uses none.
        """

    @abstractmethod
    def set_gradients(self, gradients: Sequence[Memory | None]) -> None:
        """Set every tensor's gradient for the next launch; None: the tensor has none and is left as it is."""

    @abstractmethod
    def launch(self) -> None:
        """Update every tensor that has a gradient, and add 1 to the clock."""

    @abstractmethod
    def grad_squares(self) -> tuple[float, bool]:
        """Return the sum of the squares of all gradients, in float64, and whether all of them are finite."""

    @abstractmethod
    def measure(self) -> list[tuple[float, ...]]:
        """Run the measure pass over the gradients that are set. Return for every tensor the sums of its rule's measure.

        The sums are an empty tuple where the rule has no measure.
        """

    def step_two_pass(self) -> None:
        """Run measure pass, ``finish`` and update pass in one call. Only where there is a ``two_pass_table``."""
        raise RuntimeError(f"the engine {self.name!r} makes its passes one by one")

    def step(self, gradients: Sequence[Memory | None]) -> None:
        """Set the gradients and launch."""
        self.set_gradients(gradients)
        self.launch()

    def configure(self, clip: bool, zero: bool, grad_norm: bool) -> None:
        """Set whether the next steps limit gradients to the clip value, set them to zero, and use the gradient norm.

        Only with ``grad_norm`` may :meth:`grad_squares` be called.
        """
        self.clip, self.zero = clip, zero

    def sync_slow_weights(self, on: bool) -> None:
        """Set whether the next step is a sync step of Lookahead, which ends by syncing parameters and slow weights."""
        self.syncs = on

    def try_step(self, gradients: list[Any]) -> bool:
        """Make a step with the caller's arrays if all have the dtypes and layouts of the step before.

        Return whether the step was made. If not, nothing was changed.
        """
        return False

    def try_set_gradients(self, gradients: list[Any]) -> bool:
        """Set the gradients as :meth:`try_step` does, without a launch. Return whether they were set."""
        return False

    def try_other_plans(self, gradients: list[Any]) -> bool:
        """Do as :meth:`try_set_gradients` does with plans that were built for gradients of other dtypes and layouts."""
        return False
