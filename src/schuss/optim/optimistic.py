from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import optimistic

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class OGD(Optimizer):
    """Optimistic gradient descent: the last change of the gradient is expected once more; for games of two players.

    ``p -= lr * ((alpha + beta) * g - beta * previous_gradient)``; the first step is ``lr * alpha * g``.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    alpha, beta
        What multiplies the gradient, and its change.
    weight_decay
        Added to the gradient (L2), at least 0.

    Optax has no default for lr.

    State: ``previous_gradient``.

    References
    ----------
    Mokhtari et al. 2019 (arXiv:1901.08511), section 5; Optax's ``optimistic_gradient_descent``.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> optimizer = schuss.OGD([w], lr=0.1)
    >>> for g in ([3.0, -4.0], [2.0, -4.0]):
    ...     info = optimizer.step([np.array(g)])
    >>> w.round(6)
    array([0.6, 2.8])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-2,
        alpha: float = 1.0,
        beta: float = 1.0,
        weight_decay: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(params, optimistic.OGD, lr=lr, alpha=alpha, beta=beta, weight_decay=weight_decay, **common)


class OptimisticAdam(Optimizer):
    """Optimistic Adam: the last change of Adam's direction is expected once more.

    ``p -= lr * ((alpha + beta) * r - beta * previous_update)`` with ``r`` Adam's direction, by default with Nesterov's
    momentum as in NAdam; the first step is ``lr * alpha * r``.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    alpha, beta
        What multiplies the direction, and its change.
    betas
        Decay of the two means, each in [0, 1).
    eps, eps_root
        Added outside and inside the root; at least 0.
    weight_decay
        Added to the gradient (L2), at least 0.
    nesterov
        Look ahead in the first mean, as Optax does; the paper does not.

    Optax has no default for lr.

    State: ``exp_avg``, ``exp_avg_sq``, ``previous_update``.

    References
    ----------
    Daskalakis et al. 2018 (arXiv:1711.00141), Algorithm 1; Optax's ``optimistic_adam_v2``.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.OptimisticAdam([w], lr=0.1, nesterov=False, eps=0.0).step([np.array([3.0, -4.0])])
    >>> w.round(6)
    array([0.9, 2.1])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        alpha: float = 1.0,
        beta: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        eps_root: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = True,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            optimistic.OPTIMISTIC_ADAM,
            lr=lr,
            alpha=alpha,
            beta=beta,
            betas=betas,
            eps=eps,
            eps_root=eps_root,
            weight_decay=weight_decay,
            nesterov=nesterov,
            **common,
        )
