from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import padam

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class PAdam(Optimizer):
    """PAdam: AMSGrad that divides by a smaller power than the root, between Adam and SGD with momentum.

    ``p -= lr' * m / (sqrt(max_v) + eps) ** (2 * partial)``, lr' with Adam's two corrections as in the authors' code.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the two means, each in [0, 1).
    eps
        Added to the root, at least 0.
    weight_decay
        Added to the gradient (L2), at least 0.
    partial
        The power of the second moment, above 0, at most 0.5, which is AMSGrad. The authors' code has 0.25.

    State: ``exp_avg``, ``exp_avg_sq``, ``max_exp_avg_sq``.

    References
    ----------
    Chen et al. 2018 (arXiv:1806.06763), Algorithm 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.PAdam([w], lr=0.1, partial=0.25, eps=0.0).step([np.array([4.0, -9.0])])
    >>> w.round(4)
    array([0.9644, 2.0533])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 0.1,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        partial: float = 0.125,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params, padam.rule_for, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, partial=partial, **common
        )
