from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import fromage

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class Fromage(Optimizer):
    """Fromage: steps as large as the weights they move, and a little shrinking that keeps their norm.

    ``p = (p - lr * ||p|| / ||g|| * g) / sqrt(1 + lr**2)``, norms of the tensor; the ratio is 1 where one is zero. No
    state; two passes over memory: the first only reads.

    ========== ========
    convention min_norm
    ========== ========
    "paper"    0
    "optax"    1e-6
    ========== ========

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    min_norm
        What the norms are taken as at least. None: the convention's.
    convention
        Whose default: ``"paper"`` or ``"optax"``.

    References
    ----------
    Bernstein et al. 2020 (arXiv:2002.03432), Algorithm 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([3.0, 4.0])
    >>> info = schuss.Fromage([w], lr=0.1).step([np.array([0.0, 2.0])])
    >>> w.round(4)
    array([2.9851, 3.4826])
    """

    _conventions = fromage.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-2,
        min_norm: float | None = None,
        *,
        convention: str = "paper",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params, fromage.CONVENTIONS.rule_for, lr=lr, min_norm=min_norm, convention=convention, **common
        )
