from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import signum

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class SignSGD(Optimizer):
    """SignSGD: a step of lr against the sign of the gradient: ``p = p * (1 - lr * weight_decay) - lr * sign(g)``.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    weight_decay
        At least 0; decoupled, as in the second paper.

    State: none.

    References
    ----------
    Bernstein et al. 2018 (arXiv:1802.04434), Algorithm 1; Bernstein et al. 2019 (arXiv:1810.05291), Algorithm 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.SignSGD([w], lr=0.5).step([np.array([3.0, -0.1])])
    >>> w
    array([0.5, 2.5])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-4,
        weight_decay: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(params, signum.SIGNSGD, lr=lr, weight_decay=weight_decay, **common)


class Signum(Optimizer):
    """Signum: SignSGD with momentum, a step of lr against the sign of the gradient's running mean.

    ``m = beta * m + (1 - beta) * g``; ``p = p * (1 - lr * weight_decay) - lr * sign(m)``.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    beta
        Decay of the mean, in [0, 1).
    weight_decay
        At least 0; decoupled, as in the second paper.

    State: ``exp_avg``.

    References
    ----------
    Bernstein et al. 2018 (arXiv:1802.04434), Algorithm 2; Bernstein et al. 2019 (arXiv:1810.05291), Algorithm 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.Signum([w], lr=0.25)
    >>> info = opt.step([np.array([3.0, -0.1])])
    >>> info = opt.step([np.array([-1.0, -0.1])])
    >>> w
    array([0.5, 2.5])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-4,
        beta: float = 0.9,
        weight_decay: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(params, signum.SIGNUM, lr=lr, beta=beta, weight_decay=weight_decay, **common)
