"""Optimizers that wrap another one, and are of its classes all the same."""

from __future__ import annotations

from abc import ABCMeta
from typing import Any


class Wrapper:
    """Passes on to ``optimizer``, the one that it wraps, whatever it does not have itself."""

    optimizer: Any

    def __getattr__(self, name: str) -> Any:
        if name == "optimizer":  # asked for before there is one
            raise AttributeError(name)
        return getattr(self.optimizer, name)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *dir(self.optimizer)})


class OptimizerType(ABCMeta):
    """The type of optimizer classes: a wrapper counts as an instance of the classes of the optimizer that it wraps.

    (Of ``ABCMeta``, so that an optimizer may have abstract bases.)
    """

    def __instancecheck__(cls, instance: Any) -> bool:
        if isinstance(instance, Wrapper):
            instance = instance.optimizer
        return super().__instancecheck__(instance)
