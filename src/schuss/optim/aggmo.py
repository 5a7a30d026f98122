from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import aggmo

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class AggMo(Optimizer):
    """AggMo: three momentum buffers with different decays; the step is their mean.

    ``b = beta * b + g`` for every beta; ``p -= lr * mean(b)``. With the first beta 0, as it is by default, its buffer
    is the gradient, and none is kept.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decays of the three buffers, each in [0, 1).
    weight_decay
        Added to the gradient (L2), at least 0.

    The authors have no default for lr.

    State: ``momentum_buffer_2``, ``momentum_buffer_3``, and ``momentum_buffer_1`` if its beta is not 0.

    References
    ----------
    Lucas et al. 2019 (arXiv:1804.00325), equation 4.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> optimizer = schuss.AggMo([w], lr=0.1)
    >>> for _ in range(2):
    ...     info = optimizer.step([np.array([3.0, -3.0])])
    >>> w.round(4)
    array([0.211, 2.789])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 0.1,
        betas: tuple[float, float, float] = (0.0, 0.9, 0.99),
        weight_decay: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(params, aggmo.rule_for, lr=lr, betas=betas, weight_decay=weight_decay, **common)
