from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import lion

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class Lion(Optimizer):
    """Lion: lr in the direction of the sign of a mean of the gradients, with one state.

    ``p -= lr * sign(beta1 * m + (1 - beta1) * g)``; the mean ``m`` itself has the slower decay ``beta2``.

    ========== ===== ============
    convention lr    weight_decay
    ========== ===== ============
    "paper"    1e-4  0
    "keras"    1e-3  0
    "optax"    1e-4  1e-3
    ========== ===== ============

    The arithmetic is the same in all of them. Optax has no default for lr: the authors' is taken.
    :mod:`schuss_kernels.rules.lion` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made; 3 to 10 times smaller than AdamW's. None:
        the convention's.
    betas
        What the mean weighs in the step, and the decay of the mean, each in [0, 1).
    weight_decay
        At least 0: ``p *= 1 - lr * weight_decay``. None: the convention's.
    convention
        Whose defaults: ``"paper"``, ``"keras"`` or ``"optax"``.

    State: ``exp_avg``.

    References
    ----------
    Chen et al. 2023 (arXiv:2302.06675), Algorithm 2.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.Lion([w], lr=0.1).step([np.array([3.0, -4.0])])
    >>> w
    array([0.9, 2.1])
    """

    _conventions = lion.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] | None = None,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float | None = None,
        *,
        convention: str = "paper",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            lion.CONVENTIONS.rule_for,
            lr=lr,
            betas=betas,
            weight_decay=weight_decay,
            convention=convention,
            **common,
        )


class Tiger(Optimizer):
    """Tiger: lr in the direction of the sign of the gradients' mean; Lion with one beta.

    The author's code chooses lr and decay by the names and sizes of tensors as well; parameter groups can do so here.
    :mod:`schuss_kernels.rules.lion` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    beta
        Decay of the mean, in [0, 1).
    weight_decay
        At least 0: ``p *= 1 - lr * weight_decay``.

    State: ``exp_avg``.

    References
    ----------
    Su 2023, "Tiger: A Tight-fisted Optimizer" (https://kexue.fm/archives/9512).

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.Tiger([w], lr=0.1, weight_decay=0.0).step([np.array([3.0, -4.0])])
    >>> w
    array([0.9, 2.1])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        beta: float = 0.965,
        weight_decay: float = 0.01,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(params, lion.TIGER, lr=lr, beta=beta, weight_decay=weight_decay, **common)
