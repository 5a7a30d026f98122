from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import adopt

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class ADOPT(Optimizer):
    """ADOPT: the gradient over a root that does not know it yet, then averaged; it converges with any beta2.

    The first step only starts the second moment. In the later ones, the gradient over the root is limited to ``(step -
    1) ** 0.25``. The conventions differ in the first step: with ``"optax"``, a decoupled decay shrinks the parameter in
    it, with ``"paper"`` (as in the authors' code) nothing does. :mod:`schuss_kernels.rules.adopt` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the mean and of the second moment, each in [0, 1).
    eps
        At least 0: the least that is divided by.
    weight_decay
        At least 0.
    decoupled_weight_decay
        ``p *= 1 - lr * weight_decay`` instead of a decay that is added to the gradient.
    use_clipping
        False: no limit, as in the paper's first version.
    convention
        ``"paper"`` or ``"optax"``.

    State: ``exp_avg``, ``exp_avg_sq``.

    References
    ----------
    Taniguchi et al. 2024 (arXiv:2411.02853).

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.ADOPT([w], lr=0.1, betas=(0.5, 0.9999))
    >>> for _ in range(2):
    ...     info = opt.step([np.array([3.0, -4.0])])
    ...     print(w.round(6))
    [1. 2.]
    [0.95 2.05]
    """

    _conventions = adopt.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.9999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        use_clipping: bool = True,
        *,
        convention: str = "paper",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            adopt.CONVENTIONS.rule_for,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            decoupled_weight_decay=decoupled_weight_decay,
            use_clipping=use_clipping,
            convention=convention,
            **common,
        )
