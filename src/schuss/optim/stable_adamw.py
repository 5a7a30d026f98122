from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules.stable_adamw import STABLE_ADAMW

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class StableAdamW(Optimizer):
    """AdamW with update clipping: smaller steps where a tensor's second moments lag behind its gradients.

    ``rms = sqrt(mean(g**2 / max(v, eps**2)))`` of the tensor; ``eta = lr / max(1, rms)``; ``p -= eta * (m / (sqrt(v) +
    eps) + weight_decay * p)``. The moments are averages whose decays grow with the steps, so that they have no bias.
    Two passes over memory: the first only reads.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decays of the moments, each in [0, 1).
    eps, weight_decay
        At least 0.

    State: ``exp_avg``, ``exp_avg_sq``.

    References
    ----------
    Wortsman et al. 2023 (arXiv:2304.13013), Algorithm 2. The defaults are the authors' code's.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.StableAdamW([w], lr=0.1, weight_decay=0.0)
    >>> info = opt.step([np.array([3.0, -4.0])])
    >>> w.round(4)
    array([0.9, 2.1])
    >>> info = opt.step([np.array([30.0, -40.0])])
    >>> w.round(4)
    array([0.8426, 2.1574])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 2e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-6,
        weight_decay: float = 0.2,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(params, STABLE_ADAMW, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **common)
