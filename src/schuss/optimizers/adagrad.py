from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import adagrad

from ..common import Common
from ..optimizer import Optimizer


class Adagrad(Optimizer):
    """AdaGrad: ``sum += g * g``; ``p -= lr / (1 + (step - 1) * lr_decay) * g / (sqrt(sum) + eps)``.

    Torch's convention: eps outside the root; :mod:`schuss_kernels.rules.adagrad` says how Keras and Optax differ.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    lr_decay, weight_decay, initial_accumulator_value, eps
        At least 0. ``weight_decay`` adds ``weight_decay * p`` to the gradient (L2).

    State: ``sum``.

    References
    ----------
    Duchi, Hazan & Singer 2011 (JMLR 12), Figure 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.Adagrad([w], lr=0.5).step([np.array([3.0, -4.0])])
    >>> w
    array([0.5, 2.5])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params, adagrad.ADAGRAD, lr=lr, lr_decay=lr_decay, weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value, eps=eps, **common,
        )  # fmt: skip
