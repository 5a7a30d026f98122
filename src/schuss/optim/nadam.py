from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import nadam

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class NAdam(Optimizer):
    """NAdam: Adam with Nesterov's look ahead, and a momentum that grows from beta1 / 2 to beta1.

    With ``mu(t) = beta1 * (1 - 0.5 * 0.96^(t * momentum_decay))`` and their product ``P(t)``, ``n = mu(t+1) * m / (1 -
    P(t+1)) + (1 - mu(t)) * g / (1 - P(t))``; ``p -= lr * n / (sqrt(v / (1 - beta2^t)) + eps)``.

    ========== ===== ===== ================= =========================== ===============================
    convention lr    eps   momentum_decay    weight decay                besides
    ========== ===== ===== ================= =========================== ===============================
    "torch"    0.002 1e-8  0.004             added to g, or decoupled    P is rounded to float32
    "keras"    0.001 1e-7  1                 p *= 1 - lr * decay, always
    "optax"    0.002 1e-8  0                 added to g, or decoupled    mu is beta1 at every step
    "paper"    0.002 1e-8  0.004             added to g, or decoupled    m decays with mu; beta2 * v
    ========== ===== ===== ================= =========================== ===============================

    Optax's ``nadamw`` is ``"optax"`` with ``decoupled_weight_decay``; where Optax or the paper has no default, torch's
    is taken. :mod:`schuss_kernels.rules.nadam` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made. None: the convention's.
    betas
        Decay of the two means, each in [0, 1).
    eps, weight_decay
        At least 0. ``eps`` None: the convention's.
    momentum_decay
        How fast the momentum grows, at least 0; with ``"optax"``, where it does not, 0. None: the convention's.
    decoupled_weight_decay
        ``p *= 1 - lr * weight_decay`` in place of a decay that is added to the gradient.
    convention
        Whose arithmetic and defaults: ``"torch"``, ``"keras"``, ``"optax"`` or ``"paper"``.

    State: ``exp_avg``, ``exp_avg_sq``, and the number ``mu_product``.

    References
    ----------
    Dozat 2016 (ICLR workshop), Algorithm 2.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.NAdam([w], lr=0.1).step([np.array([3.0, -4.0])])
    >>> w.round(4)
    array([0.8944, 2.1056])
    """

    _conventions = nadam.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float | None = None,
        weight_decay: float = 0.0,
        momentum_decay: float | None = None,
        decoupled_weight_decay: bool = False,
        *,
        convention: str = "torch",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            nadam.rule_for,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            momentum_decay=momentum_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            convention=convention,
            **common,
        )
