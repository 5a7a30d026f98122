from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import adabelief

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class AdaBelief(Optimizer):
    """AdaBelief: Adam that divides by how far gradients are from their running mean, not by how large they are.

    ``s = beta2 * s + (1 - beta2) * (g - m)**2 + eps_root`` takes the place of Adam's second moment. The paper has one
    eps: set ``eps_root`` to the same. :mod:`schuss_kernels.rules.adabelief` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the mean and of the variance, each in [0, 1).
    eps, eps_root
        At least 0: added to the root, and to the variance in every step.
    weight_decay
        At least 0.
    decoupled_weight_decay
        ``p *= 1 - lr * weight_decay``, as in the authors' code; False: the decay is added to the gradient.

    State: ``exp_avg``, ``exp_avg_var``.

    References
    ----------
    Zhuang et al. 2020 (arXiv:2010.07468), Algorithm 2.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.AdaBelief([w], lr=0.1, betas=(0.5, 0.999)).step([np.array([3.0, -4.0])])
    >>> w.round(6)
    array([0.8, 2.2])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        eps_root: float = 1e-16,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = True,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            adabelief.ADABELIEF,
            lr=lr,
            betas=betas,
            eps=eps,
            eps_root=eps_root,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            **common,
        )


class ACProp(Optimizer):
    """ACProp: the gradient over AdaBelief's root as it was before this gradient came.

    As Optax does it: ``betas[0]`` is the decay of the mean that gradients are compared with; the step is the gradient
    itself, in the first step over 1. :mod:`schuss_kernels.rules.adabelief` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the mean and of the variance, each in [0, 1).
    eps, eps_root
        At least 0: added to the root, and to the variance in every step.
    weight_decay
        At least 0: ``p *= 1 - lr * weight_decay``.

    State: ``exp_avg``, ``exp_avg_var``.

    References
    ----------
    Zhuang et al. 2021 (arXiv:2110.05454).

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.ACProp([w], lr=0.1)
    >>> for _ in range(2):
    ...     info = opt.step([np.array([3.0, -4.0])])
    ...     print(w.round(6))
    [0.7 2.4]
    [0.6 2.5]
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-16,
        eps_root: float = 1e-16,
        weight_decay: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            adabelief.ACPROP,
            lr=lr,
            betas=betas,
            eps=eps,
            eps_root=eps_root,
            weight_decay=weight_decay,
            **common,
        )
