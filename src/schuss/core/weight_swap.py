"""Other values in the parameters for a while: their moving averages, or the means of their iterates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from schuss_kernels.engine.interrupts import DeferInterrupt
from schuss_kernels.storage.memory import Memory

from . import arrays


class WeightSwap:
    """Puts other values into parameters, and later what they held before."""

    def __init__(self, parameters: Sequence[Memory]) -> None:
        self._parameters = parameters
        self._held: list[np.ndarray] = []
        self.reason = ""
        """Says why the parameters do not hold what is trained; empty where they do."""

    def refuse(self, what: str) -> None:
        """Refuse a method, ``what``, where the parameters do not hold what is trained.

        Raises
        ------
        RuntimeError
            With the method and the reason.
        """
        if self.reason:
            raise RuntimeError(f"{what} {self.reason}")

    def swap_in(self, values: Sequence[np.ndarray], reason: str) -> None:
        """Save what the parameters hold, and write ``values``, one array a parameter, into them."""
        with DeferInterrupt():
            self._held = [arrays.read(parameter) for parameter in self._parameters]
            self.reason = reason
            for parameter, value in zip(self._parameters, values, strict=True):
                arrays.write(parameter, value)

    def swap_back(self) -> None:
        """Write what was saved back into the parameters; do nothing where no other values were swapped in."""
        if not self.reason:
            return
        with DeferInterrupt():
            for parameter, value in zip(self._parameters, self._held, strict=True):
                arrays.write(parameter, value)
            self._held, self.reason = [], ""
