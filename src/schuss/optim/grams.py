from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import grams

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class Grams(Optimizer):
    """Grams: as far as Adam would go, but in the direction of the newest gradient's sign.

    :mod:`schuss_kernels.rules.grams` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the mean and of the second moment, each in [0, 1).
    eps
        At least 0: added to the corrected root.
    weight_decay
        At least 0: ``p *= 1 - lr * weight_decay``.

    State: ``exp_avg``, ``exp_avg_sq``.

    References
    ----------
    Cao, Li & Song 2024 (arXiv:2412.17107).

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.Grams([w], lr=0.1, eps=0.0).step([np.array([3.0, -4.0])])
    >>> w.round(6)
    array([0.9, 2.1])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(params, grams.GRAMS, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **common)
