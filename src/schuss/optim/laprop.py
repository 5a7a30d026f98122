from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import laprop

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class LaProp(Optimizer):
    """LaProp: Adam that averages scaled gradients instead of scaling averaged ones.

    lr stands outside the mean, as in the paper; the authors' code has it inside. :mod:`schuss_kernels.rules.laprop` has
    the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the mean of scaled gradients and of the second moment, each in [0, 1).
    eps
        At least 0.
    weight_decay
        At least 0: ``p *= 1 - lr * weight_decay``.

    State: ``exp_avg``, ``exp_avg_sq``.

    References
    ----------
    Ziyin, Wang & Ueda 2020 (arXiv:2002.04839).

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.LaProp([w], lr=0.1).step([np.array([3.0, -4.0])])
    >>> w.round(6)
    array([0.9, 2.1])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 4e-4,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-15,
        weight_decay: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(params, laprop.LAPROP, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **common)
