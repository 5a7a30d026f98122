from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import rmsprop

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class RMSprop(Optimizer):
    """RMSprop: the gradient over a running root mean square of itself, optionally centered, with momentum.

    ``square_avg = alpha * square_avg + (1 - alpha) * g * g``; ``p -= lr * g / (sqrt(square_avg) + eps)``. Centered
    takes the variance, ``square_avg - grad_avg**2``, under the root.

    ========== ===== ===== ===== ======================= ================ ===================
    convention lr    alpha eps   divides by              lr               weight decay
    ========== ===== ===== ===== ======================= ================ ===================
    "torch"    0.01  0.99  1e-8  sqrt(square_avg) + eps  times the buffer added to g
    "keras"    0.001 0.9   1e-7  sqrt(square_avg + eps)  in the buffer    p *= 1 - lr * decay
    "optax"    0.01  0.9   1e-8  sqrt(square_avg + eps)  in the buffer    added to g
    "paper"    1e-4  0.95  1e-4  sqrt(square_avg + eps)  in the buffer    added to g
    ========== ===== ===== ===== ======================= ================ ===================

    The paper is Graves 2013; the lecture has alpha = 0.9 and no eps. Optax has no default for lr: torch's is taken.
    :mod:`schuss_kernels.rules.rmsprop` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made. None: the convention's.
    alpha
        Decay of the averages, in [0, 1). None: the convention's.
    eps, weight_decay, momentum
        At least 0. ``eps`` None: the convention's.
    centered
        Divide by the standard deviation instead.
    convention
        Whose arithmetic and defaults: ``"torch"``, ``"keras"``, ``"optax"`` or ``"paper"``.

    State: ``square_avg``, with ``grad_avg`` when centered and with momentum ``momentum_buffer``, with lr in the buffer
    ``velocity``.

    References
    ----------
    Tieleman & Hinton 2012, lecture 6.5; Graves 2013 (arXiv:1308.0850), equations 38-45.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.RMSprop([w], lr=0.1, alpha=0.0, eps=0.0).step([np.array([3.0, -4.0])])
    >>> w
    array([0.9, 2.1])
    """

    _conventions = rmsprop.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] | None = None,
        alpha: float | None = None,
        eps: float | None = None,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        convention: str = "torch",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            rmsprop.rule_for,
            lr=lr,
            alpha=alpha,
            eps=eps,
            weight_decay=weight_decay,
            momentum=momentum,
            centered=centered,
            convention=convention,
            **common,
        )
