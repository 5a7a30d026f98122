from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import radam

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class RAdam(Optimizer):
    """RAdam: the mean of the gradient alone for the first steps, then Adam with steps that grow to Adam's.

    Until the second moment is an average over enough steps (``rho > 5``: from the sixth step on with ``beta2`` 0.999),
    ``p -= lr * m / (1 - beta1^t)``; then ``p -= lr * r * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)``.

    ========== ============== ================================
    convention rectified from eps is added to
    ========== ============== ================================
    "torch"    rho > 5        sqrt(v), before it is corrected
    "optax"    rho > 5        sqrt(v / (1 - beta2^t))
    "paper"    rho > 4        as "torch" (the paper has no eps)
    ========== ============== ================================

    :mod:`schuss_kernels.rules.radam` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the two means, each in [0, 1). With a ``beta2`` of 2 / 3 or less no step is ever rectified.
    eps, weight_decay
        At least 0.
    decoupled_weight_decay
        ``p *= 1 - lr * weight_decay`` in place of a decay that is added to the gradient.
    convention
        Whose arithmetic: ``"torch"``, ``"optax"`` or ``"paper"``. The defaults are the same.

    State: ``exp_avg``, ``exp_avg_sq``.

    References
    ----------
    Liu et al. 2020 (arXiv:1908.03265), Algorithm 2.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.RAdam([w], lr=0.125).step([np.array([2.0, -4.0])])
    >>> w.round(6)
    array([0.75, 2.5 ])
    """

    _conventions = radam.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        convention: str = "torch",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            radam.CONVENTIONS.rule_for,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            convention=convention,
            **common,
        )
