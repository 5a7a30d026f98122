from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import madgrad

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class MADGRAD(Optimizer):
    """MADGRAD: dual averaging from the starting point, divided by the cube root of summed squares, with momentum.

    With ``w = (lr + eps) * sqrt(step)``: ``s += w * g``; ``v += w * g * g``; ``z = x0 - s / (cbrt(v) + eps)``; ``p =
    momentum * p + (1 - momentum) * z``. It needs less weight decay than others, often none.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    momentum
        What stays of the parameter, in [0, 1).
    eps
        Added to the cube root and, as in the authors' code, to lr where that is not 0. At least 0.
    weight_decay
        Added to the gradient (L2), at least 0.

    State: ``grad_sum_sq`` (v), ``grad_sum`` (s), ``x0``: where the parameter started.

    References
    ----------
    Defazio & Jelassi 2021 (arXiv:2101.11075), Algorithm 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.MADGRAD([w], lr=1e-3, momentum=0.0, eps=0.0).step([np.array([8.0, -1.0])])
    >>> w.round(6)
    array([0.98, 2.01])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-2,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        eps: float = 1e-6,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params, madgrad.MADGRAD, lr=lr, momentum=momentum, weight_decay=weight_decay, eps=eps, **common
        )
