from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import adan

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class Adan(Optimizer):
    """Adan: Adam with Nesterov's momentum, made of gradients and of the differences of successive ones.

    ========== ======== ======================= ==========================
    convention eps_root differences weigh       weight decay
    ========== ======== ======================= ==========================
    "paper"    0        beta2                   p /= 1 + lr * decay, after
    "optax"    1e-8     1 - beta2               p *= 1 - lr * decay
    ========== ======== ======================= ==========================

    Betas tell how much is kept, as in the authors' code and Optax; the paper's tell how much is new: its 0.08 is 0.92
    here. In the first step the difference is 0. :mod:`schuss_kernels.rules.adan` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the means of the gradient, of the difference and of the square, each in [0, 1).
    eps, eps_root, weight_decay
        At least 0. ``eps`` is added to the root, ``eps_root`` under it; None: the convention's.
    convention
        Whose arithmetic and defaults: ``"paper"`` (as in the authors' code) or ``"optax"``.

    State: ``exp_avg``, ``exp_avg_diff``, ``exp_avg_sq``, ``previous_grad``.

    References
    ----------
    Xie et al. 2022 (arXiv:2208.06677), Algorithm 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.Adan([w], lr=0.1).step([np.array([3.0, -4.0])])
    >>> w.round(6)
    array([0.9, 2.1])
    """

    _conventions = adan.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        eps_root: float | None = None,
        weight_decay: float = 0.0,
        *,
        convention: str = "paper",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            adan.CONVENTIONS.rule_for,
            lr=lr,
            betas=betas,
            eps=eps,
            eps_root=eps_root,
            weight_decay=weight_decay,
            convention=convention,
            **common,
        )
