from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import sgd

from ..common import Common
from ..optimizer import Optimizer


class SGD(Optimizer):
    """Gradient descent: plain, with momentum, or Nesterov's.

    Without momentum ``p -= lr * g``; with it ``b = momentum * b + (1 - dampening) * g`` (the first step takes
    ``b = g``) and ``p -= lr * b``; Nesterov's ``p -= lr * (g + momentum * b)``. ``weight_decay`` adds
    ``weight_decay * p`` to the gradient. Torch's convention: lr outside the buffer;
    :mod:`schuss_kernels.rules.sgd` says how others differ.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    momentum, dampening
        At least 0; in [0, 1).
    weight_decay
        At least 0 (L2).
    nesterov
        Needs momentum above 0 and no dampening.

    State: none without momentum, else ``momentum_buffer``.

    References
    ----------
    Robbins & Monro 1951; Polyak 1964; Sutskever, Martens, Dahl & Hinton 2013, section 2.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.SGD([w], lr=0.1, momentum=0.9)
    >>> info = opt.step([np.array([1.0, 1.0])])
    >>> w
    array([0.9, 1.9])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params, sgd.select, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
            nesterov=nesterov, **common,
        )  # fmt: skip
