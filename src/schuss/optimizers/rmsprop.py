from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import rmsprop

from ..common import Common
from ..optimizer import Optimizer


class RMSprop(Optimizer):
    """RMSprop: the gradient over a running root mean square of itself, optionally centered, with momentum.

    ``square_avg = alpha * square_avg + (1 - alpha) * g * g``; ``p -= lr * g / (sqrt(square_avg) + eps)``. Centered
    takes the variance, ``square_avg - grad_avg**2``, under the root. Torch's convention: eps outside the root, lr
    outside the momentum buffer; :mod:`schuss_kernels.rules.rmsprop` says how Keras, Optax and the papers differ.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    alpha
        Decay of the averages, in [0, 1).
    eps, weight_decay, momentum
        At least 0. ``weight_decay`` adds ``weight_decay * p`` to the gradient (L2).
    centered
        Divide by the standard deviation instead.

    State: ``square_avg``, with ``grad_avg`` when centered and ``momentum_buffer`` with momentum.

    References
    ----------
    Tieleman & Hinton 2012, lecture 6.5; Graves 2013 (arXiv:1308.0850), equations 38-45.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.RMSprop([w], lr=0.1, alpha=0.0, eps=0.0).step([np.array([3.0, -4.0])])
    >>> w
    array([0.9, 2.1])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params, rmsprop.select, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum,
            centered=centered, **common,
        )  # fmt: skip
