"""Optimizers by name: ``"adam"``, ``"momentum"``, ``"SGD Nesterov"``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .catalogue import VARIANTS, Variant
from .core.validate import did_you_mean
from .optimizer import Optimizer

ALIASES = {"momentum": "sgd-momentum", "nesterov": "sgd-nesterov", "amsgrad": "adam-amsgrad"}
"""Short names of what has a longer one in :data:`schuss.catalogue.VARIANTS`."""

Factory = Callable[..., Optimizer]


def key(name: str) -> str:
    """The key in ``VARIANTS`` that a name means; case, spaces and underscores do not matter.

    Raises
    ------
    ValueError
        When there is no such optimizer, with the nearest name.

    >>> key("Adam"), key("momentum"), key("sgd_nesterov")
    ('adam', 'sgd-momentum', 'sgd-nesterov')
    """
    plain = name.strip().lower().replace(" ", "-").replace("_", "-")
    plain = ALIASES.get(plain, plain)
    if plain not in VARIANTS:
        known = (*VARIANTS, *ALIASES)
        raise ValueError(f"optimizer: unknown name {name!r}{did_you_mean(plain, known)} (known: {', '.join(known)})")
    return plain


def variant(name: str) -> Variant:
    """The row of ``VARIANTS`` that a name means; errors as of :func:`key`."""
    return VARIANTS[key(name)]


def factory(optimizer: Any) -> Factory:
    """What makes the optimizer: ``factory(params, **options)``.

    Parameters
    ----------
    optimizer
        A name (see :func:`key`), a class of optimizers, or any function that takes parameters and returns an optimizer
        on them.

    Raises
    ------
    TypeError, ValueError
        When it is none of these.
    """
    if isinstance(optimizer, str):
        return variant(optimizer).build
    if isinstance(optimizer, Optimizer):
        raise TypeError(
            "optimizer: expected a name, a class or a function of the parameters, got an optimizer that has its "
            f"parameters already ({optimizer!r}); pass its class"
        )
    if not callable(optimizer) or (isinstance(optimizer, type) and not issubclass(optimizer, Optimizer)):
        raise TypeError(f"optimizer: expected a name, a class or a function of the parameters, got {optimizer!r}")
    return optimizer


def make(name: str, params: Any, **options: Any) -> Optimizer:
    """An optimizer by its name.

    Parameters
    ----------
    name
        Such as ``"adamw"``, ``"sgd-nesterov"`` (:func:`schuss.optimizers` lists them), or the short names
        ``"momentum"``, ``"nesterov"``, ``"amsgrad"``; case, spaces and underscores do not matter.
    params, **options
        What its class takes.

    Raises
    ------
    ValueError
        When there is no such optimizer, with the nearest name.

    >>> import numpy as np, schuss
    >>> schuss.make("adamw", [np.ones(3, np.float32)], lr=1e-3)
    <AdamW: 1 tensors, 3 parameters, backend native>
    """
    return variant(name).build(params, **options)


def built(factory: Factory, params: Any, **options: Any) -> Optimizer:
    """The optimizer that a factory makes.

    Raises
    ------
    TypeError
        When it makes something else.
    """
    made = factory(params, **options)
    if not isinstance(made, Optimizer):
        raise TypeError(f"optimizer: expected a function that returns a schuss optimizer, got {made!r} from it")
    return made
