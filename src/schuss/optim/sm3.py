from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import sm3

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class SM3(Optimizer):
    """SM3: Adagrad that keeps a sum for each index of each axis, in place of one for each element.

    ``v = min over the axes of their sums + g * g``; ``p -= lr * m``, ``m`` the running mean of ``g / sqrt(v + eps)``;
    the sums of an axis become the largest ``v`` along it. A matrix of m by n elements has m + n sums. Whole arrays by
    NumPy: there is no kernel.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`. The sums are always kept in the type that is computed in.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    momentum
        Decay of the running mean, in [0, 1); 0: none is kept.
    eps
        At least 0. (Optax has 1e-8; the paper none.)

    State: ``accumulators``, one axis's after the other's; with momentum ``momentum_buffer``.

    References
    ----------
    Anil, Gupta, Koren & Singer 2019 (arXiv:1901.11150), Algorithm SM3-II.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.ones((2, 2))
    >>> info = schuss.SM3([w], lr=0.1, momentum=0.0).step([np.array([[3.0, -4.0], [0.0, 1.0]])])
    >>> w
    array([[0.9, 1.1],
           [1. , 0.9]])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 0.1,
        momentum: float = 0.9,
        eps: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(params, sm3.rule_for, lr=lr, momentum=momentum, eps=eps, **common)
