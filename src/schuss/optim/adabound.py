from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import adabound

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class AdaBound(Optimizer):
    """AdaBound: Adam whose learning rate of each element is kept between bounds that close in on ``final_lr``.

    ``p -= clip(rate, lower, upper) * m``, ``rate`` being Adam's lr with both corrections over ``sqrt(v) + eps``;
    ``lower = final_lr * (1 - 1 / (gamma * step + 1))``, ``upper = final_lr * (1 + 1 / (gamma * step))``. It begins as
    Adam and ends as SGD with momentum. ``final_lr`` follows the schedule: it is scaled by lr over that of the first
    step.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the two means, each in [0, 1).
    final_lr
        What the bounds converge to, at least 0.
    gamma
        How fast, in [0, 1).
    eps
        Added to the root, at least 0.
    weight_decay
        Added to the gradient (L2), at least 0.
    amsbound
        Divide by the largest second moment so far.

    State: ``exp_avg``, ``exp_avg_sq``, with amsbound ``max_exp_avg_sq``; the first learning rate, one number a tensor.

    References
    ----------
    Luo et al. 2019 (arXiv:1902.09843), Algorithms 2 and 3, as in the authors' code.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.AdaBound([w], lr=0.1, betas=(0.0, 0.999), gamma=0.5).step([np.array([0.01, -4.0])])
    >>> w.round(6)
    array([0.997   , 2.133333])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        final_lr: float = 0.1,
        gamma: float = 1e-3,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsbound: bool = False,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            adabound.rule_for,
            lr=lr,
            betas=betas,
            final_lr=final_lr,
            gamma=gamma,
            eps=eps,
            weight_decay=weight_decay,
            amsbound=amsbound,
            **common,
        )
