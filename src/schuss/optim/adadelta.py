from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import adadelta

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class Adadelta(Optimizer):
    """Adadelta: the gradient times the root mean square of the last steps over that of the last gradients.

    ``square_avg = rho * square_avg + (1 - rho) * g * g``; ``d = sqrt(acc_delta + eps) / sqrt(square_avg + eps) * g``;
    ``acc_delta = rho * acc_delta + (1 - rho) * d * d``; ``p -= lr * d``.

    ========== ===== ==== ===== ===================
    convention lr    rho  eps   weight decay
    ========== ===== ==== ===== ===================
    "torch"    1     0.9  1e-6  added to g
    "keras"    0.001 0.95 1e-7  p *= 1 - lr * decay
    "optax"    1     0.9  1e-6  added to g
    "paper"    1     0.95 1e-6  added to g
    ========== ===== ==== ===== ===================

    The paper has no lr and no decay; Optax has no default for lr: torch's is taken.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made. None: the convention's.
    rho
        Decay of the averages, in [0, 1). None: the convention's.
    eps, weight_decay
        At least 0. ``eps`` None: the convention's.
    convention
        Whose arithmetic and defaults: ``"torch"``, ``"keras"``, ``"optax"`` or ``"paper"``.

    State: ``square_avg``, ``acc_delta``.

    References
    ----------
    Zeiler 2012 (arXiv:1212.5701), Algorithm 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.Adadelta([w], rho=0.75, eps=0.25).step([np.array([1.0, -3.0])])
    >>> w.round(4)
    array([0.2929, 2.9487])
    """

    _conventions = adadelta.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] | None = None,
        rho: float | None = None,
        eps: float | None = None,
        weight_decay: float = 0.0,
        *,
        convention: str = "torch",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            adadelta.CONVENTIONS.rule_for,
            lr=lr,
            rho=rho,
            eps=eps,
            weight_decay=weight_decay,
            convention=convention,
            **common,
        )
