from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import novograd

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class NovoGrad(Optimizer):
    """NovoGrad: momentum on gradients divided by a running norm of their tensor; half the memory of Adam.

    ``v = beta2 * v + (1 - beta2) * ||g||**2``, one number a tensor; ``m = beta1 * m + g / (sqrt(v) + eps) +
    weight_decay * p``; ``p -= lr * m``. Two passes over memory: the first reads the gradients.

    ========== ============= ===== ======================
    convention betas         eps   first step divides by
    ========== ============= ===== ======================
    "paper"    (0.95, 0.98)  1e-8  ||g||
    "optax"    (0.9, 0.25)   1e-6  ||g|| + eps
    ========== ============= ===== ======================

    A tensor whose gradients have all been zero is moved by its decay alone. NVIDIA's code has the first row's numbers
    and the second row's first step.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decays of the first and the second moment, each in [0, 1). None: the convention's.
    eps, weight_decay
        At least 0. ``eps`` None: the convention's.
    grad_averaging
        Multiply what is added to the first moment by ``1 - beta1`` (NVIDIA's option).
    convention
        Whose arithmetic and defaults: ``"paper"`` or ``"optax"``.

    State: ``exp_avg``; for every tensor a number ``exp_avg_sq``, which the first step sets to ``||g||**2``.

    References
    ----------
    Ginsburg et al. 2019 (arXiv:1905.11286), Algorithm 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.NovoGrad([w], lr=0.1).step([np.array([3.0, -4.0])])
    >>> w.round(4)
    array([0.94, 2.08])
    """

    _conventions = novograd.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] | None = None,
        eps: float | None = None,
        weight_decay: float = 0.0,
        grad_averaging: bool = False,
        *,
        convention: str = "paper",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            novograd.CONVENTIONS.rule_for,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            grad_averaging=grad_averaging,
            convention=convention,
            **common,
        )
