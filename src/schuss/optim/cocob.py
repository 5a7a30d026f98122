from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import cocob

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class COCOB(Optimizer):
    """COCOB: bets on every element with what it has won so far; no learning rate.

    ``p = x0 + theta / (L * max(G + L, alpha * L)) * (L + reward)``: ``theta`` is minus the sum of the gradients, ``G``
    that of their sizes, ``L`` the largest size, ``reward`` the money won.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Multiplies the gradient, not the step: 1 by itself. At least 0, or a function of the number of steps made.
    alpha
        Bounds the first bets to 1 / alpha of the wealth, at least 0.
    eps
        Where ``L`` starts, at least 0.
    weight_decay
        Added to the gradient (L2), at least 0.

    State: ``scale`` (L), ``subgradients`` (G), ``reward``, ``cumulative_gradients`` (theta), ``x0``.

    References
    ----------
    Orabona & Tommasi 2017 (arXiv:1705.07795), Algorithm 2; Optax's ``contrib.cocob``.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.COCOB([w]).step([np.array([3.0, -4.0])])
    >>> w.round(6)
    array([0.99, 2.01])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1.0,
        alpha: float = 100.0,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(params, cocob.COCOB, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, **common)
