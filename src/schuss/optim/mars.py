from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import mars

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class MARS(Optimizer):
    """MARS-AdamW: AdamW on a gradient that the change since the last step corrects.

    ``c = g + gamma * beta1 / (1 - beta1) * (g - last_grad)``, divided by its norm where that is above 1 (norm of the
    tensor); then AdamW with ``c`` for ``g``. In the first step ``c = g``, as in the paper; the authors' code takes the
    gradient before it for zero. Two passes over memory: the first only reads. The authors use AdamW for parameters of
    one dimension.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decays of the moments, each in [0, 1).
    eps, weight_decay
        At least 0.
    gamma
        How much of the correction is made, at least 0.

    State: ``exp_avg``, ``exp_avg_sq``, ``last_grad``.

    References
    ----------
    Yuan et al. 2024 (arXiv:2411.10438), Algorithm 2, with the gradient of the last batch (MARS-approx). The defaults
    are the authors' code's.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.MARS([w], lr=0.1).step([np.array([3.0, -4.0])])
    >>> w.round(4)
    array([0.9, 2.1])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 3e-3,
        betas: tuple[float, float] = (0.95, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        gamma: float = 0.025,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params, mars.MARS, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, gamma=gamma, **common
        )


class MARSLion(Optimizer):
    """MARS-Lion: the sign of a running mean of gradients that the change since the last step corrects.

    ``c`` is that of :class:`MARS`; ``m = beta * m + (1 - beta) * c``; ``p -= lr * (sign(m) + weight_decay * p)``.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    beta
        Decay of the moment, in [0, 1).
    weight_decay
        At least 0.
    gamma
        How much of the correction is made, at least 0.

    State: ``exp_avg``, ``last_grad``.

    References
    ----------
    Yuan et al. 2024 (arXiv:2411.10438), Algorithm 3. The defaults are the authors' code's.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.MARSLion([w], lr=0.1).step([np.array([3.0, -4.0])])
    >>> w.round(4)
    array([0.9, 2.1])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 3e-3,
        beta: float = 0.95,
        weight_decay: float = 0.0,
        gamma: float = 0.025,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(params, mars.MARS_LION, lr=lr, beta=beta, weight_decay=weight_decay, gamma=gamma, **common)
