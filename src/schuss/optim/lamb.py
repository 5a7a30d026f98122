from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import lamb

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class LAMB(Optimizer):
    """LAMB: Adam's step (with decoupled decay), scaled tensor by tensor to the size of the weights.

    ``u = m' / (sqrt(v') + eps) + weight_decay * p`` with the bias-corrected moments; ``p -= lr * trust * u``, ``trust =
    ||p|| / ||u||`` of the tensor, 1 where either is zero. Two passes over memory: the first only reads.

    ========== ===== ===================================
    convention eps   weight decay
    ========== ===== ===================================
    "paper"    1e-6  in ``u``
    "optax"    1e-6  in ``u``
    "keras"    1e-7  ``p *= 1 - lr * decay`` before all
    ========== ===== ===================================

    The variants of NVIDIA's and timm's code are options: ``clip=True`` is LAMBC, ``always_adapt=False`` their default,
    and their limit of the gradients' norm over all tensors is ``step(..., clip_norm=1.0)``.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decays of the moments, each in [0, 1).
    eps, weight_decay
        At least 0. ``eps`` None: the convention's.
    clip
        Let the trust be at most 1.
    always_adapt
        False: the trust is 1 in groups without weight decay.
    convention
        Whose arithmetic and defaults: ``"paper"``, ``"optax"`` or ``"keras"``.

    State: ``exp_avg``, ``exp_avg_sq``.

    References
    ----------
    You et al. 2020 (arXiv:1904.00962), Algorithm 2.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([3.0, 4.0])
    >>> info = schuss.LAMB([w], lr=0.1).step([np.array([1.0, -1.0])])
    >>> w.round(4)
    array([2.6464, 4.3536])
    """

    _conventions = lamb.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float | None = None,
        weight_decay: float = 0.0,
        clip: bool = False,
        always_adapt: bool = True,
        *,
        convention: str = "paper",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            lamb.CONVENTIONS.rule_for,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            clip=clip,
            always_adapt=always_adapt,
            convention=convention,
            **common,
        )
