from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import lars

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class LARS(Optimizer):
    """LARS: momentum with a learning rate for every tensor, in proportion to its weights over its gradient.

    ``v = momentum * v + rate * (g + weight_decay * p)``; ``p -= v``. Two passes over memory: the first only reads.

    ========== ================================================================================
    convention rate
    ========== ================================================================================
    "paper"    lr * trust_coefficient * ||p|| / (||g|| + weight_decay * ||p|| + eps)
    "optax"    lr * trust_coefficient * ||p|| / (||g + weight_decay * p|| + eps)
    ========== ================================================================================

    Where a norm is zero the rate is lr. With ``clip`` this is LARC: ``rate = min(lr, trust_coefficient * ||p|| /
    (...))``, as in NVIDIA Apex, whose defaults are ``trust_coefficient=0.02, eps=1e-8``. lr is inside the velocity, as
    in both sources (Apex has it outside: the same for a constant lr).

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    momentum, weight_decay, trust_coefficient, eps
        At least 0.
    nesterov
        Nesterov's momentum, which needs momentum above 0.
    clip
        Let lr be the largest rate instead of a factor.
    convention
        Whose norm: ``"paper"`` or ``"optax"``.

    State: ``velocity``.

    References
    ----------
    You, Gitman & Ginsburg 2017 (arXiv:1708.03888), Algorithm 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([3.0, 4.0])
    >>> info = schuss.LARS([w], lr=1.0, trust_coefficient=0.1).step([np.array([0.0, 2.0])])
    >>> w.round(4)
    array([3. , 3.5])
    """

    _conventions = lars.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust_coefficient: float = 0.001,
        eps: float = 0.0,
        nesterov: bool = False,
        clip: bool = False,
        *,
        convention: str = "paper",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            lars.rule_for,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            trust_coefficient=trust_coefficient,
            eps=eps,
            nesterov=nesterov,
            clip=clip,
            convention=convention,
            **common,
        )
