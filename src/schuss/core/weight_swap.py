"""Other values in the parameters for a while: moving averages, or means of the iterates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from schuss_kernels.engine.interrupts import DeferInterrupt
from schuss_kernels.storage.memory import Memory

from . import arrays


class WeightSwap:
    """Puts values into parameters, and what they held back."""

    def __init__(self, parameters: Sequence[Memory]) -> None:
        self._parameters = parameters
        self._held: list[np.ndarray] = []
        self.why = ""
        """Why the parameters are not what is trained; empty where they are."""

    def refuse(self, what: str) -> None:
        """Raise where the parameters are not what is trained.

        Raises
        ------
        RuntimeError
            Which says why they are not.
        """
        if self.why:
            raise RuntimeError(f"{what} {self.why}")

    def put(self, values: Sequence[np.ndarray], why: str) -> None:
        """Keep what the parameters hold, and give them these values."""
        with DeferInterrupt():
            self._held = [arrays.read(parameter) for parameter in self._parameters]
            self.why = why
            for parameter, value in zip(self._parameters, values, strict=True):
                arrays.write(parameter, value)

    def back(self) -> None:
        """Give the parameters what they held, where they hold something else."""
        if not self.why:
            return
        with DeferInterrupt():
            for parameter, value in zip(self._parameters, self._held, strict=True):
                arrays.write(parameter, value)
            self._held, self.why = [], ""
