from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import ademamix

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class AdEMAMix(Optimizer):
    """AdEMAMix: AdamW with a second mean of the gradient that remembers ten thousands of steps.

    :mod:`schuss_kernels.rules.ademamix` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the fast mean, of the second moment and of the slow mean, each in [0, 1).
    alpha
        What the slow mean weighs, at least 0.
    t_alpha_beta3
        Steps over which alpha and the decay of the slow mean warm up, at least 0; 0: no warm-up. The paper takes the
        length of the training.
    eps, weight_decay
        At least 0.

    State: ``exp_avg``, ``exp_avg_slow``, ``exp_avg_sq``.

    References
    ----------
    Pagliardini, Ablin & Grangier 2024 (arXiv:2409.03137), Algorithm 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.AdEMAMix([w], lr=0.1, betas=(0.9, 0.999, 0.5), alpha=2.0).step([np.array([3.0, -4.0])])
    >>> w.round(6)
    array([0.8, 2.2])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999),
        alpha: float = 5.0,
        t_alpha_beta3: float = 0.0,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            ademamix.ADEMAMIX,
            lr=lr,
            betas=betas,
            alpha=alpha,
            t_alpha_beta3=t_alpha_beta3,
            eps=eps,
            weight_decay=weight_decay,
            **common,
        )


class SimplifiedAdEMAMix(Optimizer):
    """Simplified AdEMAMix: one sum of gradients, and the newest one once more, over Adam's root.

    The sum is ``1 / (1 - beta1)`` times a mean: lr is that much smaller than Adam's.
    :mod:`schuss_kernels.rules.ademamix` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the sum and of the second moment, each in [0, 1).
    alpha
        What the newest gradient weighs beside the sum, at least 0.
    eps
        At least 0.
    weight_decay
        At least 0: ``p *= 1 - lr * weight_decay``.

    State: ``momentum_buffer``, ``exp_avg_sq``.

    References
    ----------
    Morwani et al. 2025 (arXiv:2502.02431), as in Optax.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.SimplifiedAdEMAMix([w], lr=0.1, alpha=1.0).step([np.array([3.0, -4.0])])
    >>> w.round(6)
    array([0.8, 2.2])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-4,
        betas: tuple[float, float] = (0.99, 0.95),
        alpha: float = 0.0,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params, ademamix.SIMPLIFIED, lr=lr, betas=betas, alpha=alpha, eps=eps, weight_decay=weight_decay, **common
        )
