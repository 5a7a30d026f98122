from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import adamax

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class Adamax(Optimizer):
    """Adamax: a running mean of the gradient over the largest gradient of late, which is forgotten by and by.

    ``m = beta1 * m + (1 - beta1) * g``; ``u = max(beta2 * u, |g| + eps)``; ``p -= lr / (1 - beta1^t) * m / u``.

    ========== ===== ===== =================== ===================
    convention lr    eps   eps is added to     weight decay
    ========== ===== ===== =================== ===================
    "torch"    0.002 1e-8  the gradient's size added to g
    "keras"    0.001 1e-7  the divisor         p *= 1 - lr * decay
    "optax"    0.002 1e-8  the gradient's size added to g
    "paper"    0.002 0     the gradient's size added to g
    ========== ===== ===== =================== ===================

    Optax has no default for lr: torch's is taken. An element that has had no gradient, with eps = 0, stays where it is.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made. None: the convention's.
    betas
        Decay of the mean and of the largest gradient, each in [0, 1).
    eps, weight_decay
        At least 0. ``eps`` None: the convention's.
    convention
        Whose arithmetic and defaults: ``"torch"``, ``"keras"``, ``"optax"`` or ``"paper"``.

    State: ``exp_avg``, ``exp_inf``.

    References
    ----------
    Kingma & Ba 2015 (arXiv:1412.6980), Algorithm 2.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.Adamax([w], lr=0.5, eps=0.0).step([np.array([3.0, -4.0])])
    >>> w.round(6)
    array([0.5, 2.5])
    """

    _conventions = adamax.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float | None = None,
        weight_decay: float = 0.0,
        *,
        convention: str = "torch",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            adamax.CONVENTIONS.rule_for,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            convention=convention,
            **common,
        )


class AdamaxW(Optimizer):
    """Adamax with decoupled weight decay: ``p *= 1 - lr * weight_decay`` before the Adamax step.

    Optax's ``adamaxw``; torch and Keras have none.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the mean and of the largest gradient, each in [0, 1).
    eps, weight_decay
        At least 0.

    State: ``exp_avg``, ``exp_inf``.

    References
    ----------
    Kingma & Ba 2015 (arXiv:1412.6980), Algorithm 2; Loshchilov & Hutter 2019 (arXiv:1711.05101).

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.AdamaxW([w], lr=0.5, eps=0.0, weight_decay=0.5).step([np.array([3.0, -4.0])])
    >>> w.round(6)
    array([0.25, 2.  ])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-4,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(params, adamax.ADAMAXW, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, **common)
