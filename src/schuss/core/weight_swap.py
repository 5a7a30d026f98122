"""Other values in the parameters for a while: their moving averages, or the means of their iterates."""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from schuss_kernels.engine.interrupts import DeferInterrupt
from schuss_kernels.storage.memory import Memory

from . import arrays

Block = weakref.ref[Any]
"""A :class:`SwapBlock` that was entered: dead once it was left."""


class WeightSwap:
    """Puts other values into parameters, and later what they held before.

    Attributes
    ----------
    reason
        Says why the parameters do not hold what is trained; empty where they do.
    block
        The ``with`` block that the values are there for; None where :meth:`swap_back` alone ends it.
    """

    def __init__(self, parameters: Sequence[Memory]) -> None:
        self._parameters = parameters
        self._held: list[np.ndarray] = []
        self.reason = ""
        self.block: Block | None = None

    def refuse(self, what: str) -> None:
        """Refuse a method, ``what``, where the parameters do not hold what is trained.

        Raises
        ------
        RuntimeError
            With the method and the reason.
        """
        self.settle()
        if self.reason:
            raise RuntimeError(f"{what} {self.reason}")

    def settle(self) -> None:
        """Swap back where the block that the values were there for was left, but something came in between."""
        if self.block is not None and self.block() is None:
            self.swap_back()

    def swap_in(self, values: Sequence[np.ndarray], reason: str, block: Block | None = None) -> None:
        """Save what the parameters hold, and write ``values``, one array a parameter, into them."""
        with DeferInterrupt():
            self._held = [arrays.read(parameter) for parameter in self._parameters]
            self.reason, self.block = reason, block
            for parameter, value in zip(self._parameters, values, strict=True):
                arrays.write(parameter, value)

    def swap_back(self) -> None:
        """Write what was saved back into the parameters; do nothing where no other values were swapped in."""
        if not self.reason:
            return
        with DeferInterrupt():
            for parameter, value in zip(self._parameters, self._held, strict=True):
                arrays.write(parameter, value)
            self._held, self.reason, self.block = [], "", None


class _Exit:
    """``__exit__`` of a :class:`SwapBlock`: every ``with`` statement gets an object of its own, and holds it alone."""

    def __get__(self, block: SwapBlock | None, owner: type[SwapBlock]) -> Callable[..., None]:
        if block is None:  # contextlib.ExitStack asks the class
            return owner.leave
        block.given = functools.partial(block.leave)  # in no variable, which a debugger might keep
        block.statement = weakref.ref(block.given)
        return vars(block).pop("given")


class SwapBlock(contextlib.ContextDecorator):
    """A ``with`` block for whose length parameters hold other values. However it is left, they are swapped back.

    Python calls signal handlers when a function begins, too: one that raises may end ``__exit__`` before its first
    line. But then the ``with`` statement no longer holds what it took for ``__exit__``, and a weak reference tells.

    Parameters
    ----------
    swap, lock
        The parameters' swap, and the lock that is held while it writes.
    begin
        Swaps in other values for the block that it is given, or does nothing; called with each entering.
    """

    __exit__ = _Exit()
    given: Callable[..., None]
    """What a statement is given for ``__exit__``, for a moment."""

    def __init__(self, swap: WeightSwap, lock: Any, begin: Callable[[Block], None]) -> None:
        self._swap, self._lock, self._begin = swap, lock, begin
        self.statement: Callable[[], Any] = lambda: None  # what the statement that enters now has for __exit__
        self._block: Block | None = None

    def __enter__(self) -> None:
        end = functools.partial(_end, self._swap, self._lock)
        self._block = weakref.ref(self.statement() or self, end)  # in no variable, which a traceback would keep
        self._begin(self._block)

    def leave(self, *error: Any) -> None:
        """Swap back what entering the block swapped in."""
        block, self._block = self._block, None  # the swap holds it, until it is done
        _end(self._swap, self._lock, block)


def _end(swap: WeightSwap, lock: Any, block: Block | None) -> None:
    with lock:
        if block is not None and swap.block is block:
            swap.swap_back()
