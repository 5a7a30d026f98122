from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import adam

from ..common import Common
from ..optimizer import Optimizer


class Adam(Optimizer):
    """Adam: a running mean of the gradient over the root of a running mean of its square, both bias-corrected.

    Torch's convention, the paper's Algorithm 1: eps outside the root, after the correction.
    :mod:`schuss_kernels.rules.adam` has the equations and how Keras and Optax differ.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the two means, each in [0, 1).
    eps, weight_decay
        At least 0. ``weight_decay`` adds ``weight_decay * p`` to the gradient (L2); :class:`AdamW` decouples it.
    amsgrad
        Divide by the largest second moment so far (Reddi, Kale & Kumar 2018).

    State: ``exp_avg``, ``exp_avg_sq``, with amsgrad ``max_exp_avg_sq``.

    References
    ----------
    Kingma & Ba 2015 (arXiv:1412.6980), Algorithm 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.Adam([w], lr=0.1, eps=0.0).step([np.array([3.0, -4.0])])
    >>> w.round(6)
    array([0.9, 2.1])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params, adam.select_adam, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
            **common,
        )  # fmt: skip


class AdamW(Optimizer):
    """Adam with decoupled weight decay: ``p *= 1 - lr * weight_decay`` before the Adam step.

    Torch's convention (the decay is multiplied by lr); :mod:`schuss_kernels.rules.adam` has the equations and how the
    paper, Keras and Optax differ.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the two means, each in [0, 1).
    eps, weight_decay
        At least 0.
    amsgrad
        Divide by the largest second moment so far (Reddi, Kale & Kumar 2018).

    State: ``exp_avg``, ``exp_avg_sq``, with amsgrad ``max_exp_avg_sq``.

    References
    ----------
    Loshchilov & Hutter 2019 (arXiv:1711.05101), Algorithm 2.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> params = {"w": np.ones((2, 2), np.float32), "b": np.zeros(2, np.float32)}
    >>> opt = schuss.AdamW(params, lr=1e-3)
    >>> info = opt.step({"w": np.ones((2, 2), np.float32), "b": None})
    >>> params["w"].round(4)
    array([[0.999, 0.999],
           [0.999, 0.999]], dtype=float32)
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params, adam.select_adamw, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
            **common,
        )  # fmt: skip
