from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules.cautious import CAUTIOUS_ADAMW, CAUTIOUS_LION

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class CautiousAdamW(Optimizer):
    """AdamW without the elements that it would move against their gradient; the others go further.

    ``u`` is AdamW's step and ``mask`` 1 where ``u * g > 0``, else 0; ``p -= lr * u * mask / max(mean(mask), 1e-3)``,
    the mean over the tensor. Weight decay is decoupled and goes on everywhere. As in the authors' code, eps is added
    before the bias of the root is corrected: ``u = sqrt(1 - beta2**t) / (1 - beta1**t) * m / (sqrt(v) + eps)``. Two
    passes over memory: the first only reads.

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
    Liang, Chen, Liu & Liu 2024 (arXiv:2411.16085), Algorithm 1. The defaults are the authors' code's.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.CautiousAdamW([w], lr=0.1)
    >>> info = opt.step([np.array([3.0, -4.0])])
    >>> w.round(4)
    array([0.9, 2.1])
    >>> info = opt.step([np.array([-1.0, -4.0])])
    >>> w.round(4)
    array([0.9, 2.3])
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
        super().__init__(params, CAUTIOUS_ADAMW, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **common)


class CautiousLion(Optimizer):
    """Lion without the elements that it would move against their gradient; the others go further.

    ``u = sign(beta1 * m + (1 - beta1) * g)``, ``mask`` is 1 where ``u * g > 0``, else 0; ``p -= lr * u * mask /
    max(mean(mask), 1e-3)``, the mean over the tensor; ``m = beta2 * m + (1 - beta2) * g``. Weight decay is decoupled
    and goes on everywhere. Two passes over memory: the first only reads.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        What the moment counts for in the step, and its decay, each in [0, 1).
    weight_decay
        At least 0.

    State: ``exp_avg``.

    References
    ----------
    Liang, Chen, Liu & Liu 2024 (arXiv:2411.16085), Algorithm 1; Lion is Chen et al.'s (arXiv:2302.06675).

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.CautiousLion([w], lr=0.1).step([np.array([3.0, 0.0])])
    >>> w.round(4)
    array([0.8, 2. ])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(params, CAUTIOUS_LION, lr=lr, betas=betas, weight_decay=weight_decay, **common)
