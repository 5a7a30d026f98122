from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import adagrad

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class Adagrad(Optimizer):
    """AdaGrad: ``sum += g * g``; ``p -= lr / (1 + (step - 1) * lr_decay) * g / (sqrt(sum) + eps)``.

    ========== ===== ===== =========================== ================ =================== =============
    convention lr    eps   initial_accumulator_value   divides by       weight decay        lr_decay
    ========== ===== ===== =========================== ================ =================== =============
    "torch"    0.01  1e-10 0                           sqrt(sum) + eps  added to g          yes
    "paper"    0.01  1e-10 0                           sqrt(sum) + eps  added to g          no
    "keras"    0.001 1e-7  0.1                         sqrt(sum + eps)  p *= 1 - lr * decay no
    "optax"    0.01  1e-7  0.1                         sqrt(sum + eps)  added to g          no
    ========== ===== ===== =========================== ================ =================== =============

    Where Optax or the paper has no default, torch's is taken. :mod:`schuss_kernels.rules.adagrad` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made. None: the convention's.
    lr_decay, weight_decay, initial_accumulator_value, eps
        At least 0; None: the convention's.
    convention
        Whose arithmetic and defaults: ``"torch"``, ``"keras"``, ``"optax"`` or ``"paper"``.

    State: ``sum``.

    References
    ----------
    Duchi, Hazan & Singer 2011 (JMLR 12), Figure 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.Adagrad([w], lr=0.5).step([np.array([3.0, -4.0])])
    >>> w
    array([0.5, 2.5])
    """

    _conventions = adagrad.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] | None = None,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float | None = None,
        eps: float | None = None,
        *,
        convention: str = "torch",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            adagrad.rule_for,
            lr=lr,
            lr_decay=lr_decay,
            weight_decay=weight_decay,
            initial_accumulator_value=initial_accumulator_value,
            eps=eps,
            convention=convention,
            **common,
        )
