from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import qh

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class QHM(Optimizer):
    """QHM: a step along both the gradient and its running mean.

    ``b = momentum * b + (1 - momentum) * g``; ``p -= lr * ((1 - nu) * g + nu * b)``. As the mean is damped, lr is
    1 / (1 - momentum) times that of SGD with momentum. ``nu`` = momentum is Nesterov's momentum, ``nu`` = 1 momentum,
    ``nu`` = 0 plain descent.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    momentum
        Decay of the mean, in [0, 1).
    nu
        The mean's share of the step.
    weight_decay
        Added to the gradient (L2), at least 0.
    decoupled_weight_decay
        ``p *= 1 - lr * weight_decay`` instead.

    The defaults of momentum and nu are the paper's rule of thumb; it has none for lr.

    State: ``momentum_buffer``.

    References
    ----------
    Ma & Yarats 2019 (arXiv:1810.06801), section 3.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.QHM([w], lr=0.1, momentum=0.9, nu=0.7).step([np.array([3.0, -4.0])])
    >>> w.round(4)
    array([0.889, 2.148])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1.0,
        momentum: float = 0.999,
        nu: float = 0.7,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            qh.QHM,
            lr=lr,
            momentum=momentum,
            nu=nu,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            **common,
        )


class QHAdam(Optimizer):
    """QHAdam: Adam whose two means are averaged once more with the gradient and its square.

    ``p -= lr * ((1 - nu1) * g + nu1 * m) / (sqrt((1 - nu2) * g * g + nu2 * v) + eps)``, ``m`` and ``v`` being kept
    corrected of their bias. ``nus`` = (1, 1), the authors' default, is Adam; the paper recommends (0.7, 1.0) with betas
    (0.995, 0.999).

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the two means, each in [0, 1).
    nus
        The means' shares of the numerator and of what the root is taken of.
    eps
        Added to the root, at least 0.
    weight_decay
        Added to the gradient (L2), at least 0.
    decoupled_weight_decay
        ``p *= 1 - lr * weight_decay`` instead.

    State: ``exp_avg``, ``exp_avg_sq``; the weights of the means so far, one number a tensor.

    References
    ----------
    Ma & Yarats 2019 (arXiv:1810.06801), section 4.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.QHAdam([w], lr=0.1, nus=(0.7, 1.0), eps=0.0).step([np.array([3.0, -4.0])])
    >>> w.round(6)
    array([0.9, 2.1])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        nus: tuple[float, float] = (1.0, 1.0),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            qh.QHADAM,
            lr=lr,
            betas=betas,
            nus=nus,
            eps=eps,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            **common,
        )
