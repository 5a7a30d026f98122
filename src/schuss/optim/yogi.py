from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import yogi

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class Yogi(Optimizer):
    """Yogi: Adam whose second moment goes up and down by ``(1 - beta2) * g * g``, whatever it is itself.

    ========== ============================= =================== ===========================
    convention averages start at             bias                eps
    ========== ============================= =================== ===========================
    "paper"    m: 0, v: the initial value, 0 not corrected       added to sqrt(v)
    "optax"    both: the initial value, 1e-6 corrected as Adam's added to the corrected root
    ========== ============================= =================== ===========================

    :mod:`schuss_kernels.rules.yogi` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the mean, and 1 less the speed of the second moment, each in [0, 1).
    eps
        At least 0.
    initial_accumulator_value
        At least 0: what the second moment (Optax: and the mean) starts at. None: the convention's.
    weight_decay
        At least 0: ``p *= 1 - lr * weight_decay``, which neither the paper nor Optax has.
    convention
        Whose arithmetic and defaults: ``"paper"`` or ``"optax"``.

    State: ``exp_avg``, ``exp_avg_sq``.

    References
    ----------
    Zaheer et al. 2018, "Adaptive Methods for Nonconvex Optimization", Algorithm 2.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> info = schuss.Yogi([w], lr=0.1, betas=(0.0, 0.75), eps=0.0).step([np.array([3.0, -4.0])])
    >>> w.round(6)
    array([0.8, 2.2])
    """

    _conventions = yogi.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-3,
        initial_accumulator_value: float | None = None,
        weight_decay: float = 0.0,
        *,
        convention: str = "paper",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            yogi.CONVENTIONS.rule_for,
            lr=lr,
            betas=betas,
            eps=eps,
            initial_accumulator_value=initial_accumulator_value,
            weight_decay=weight_decay,
            convention=convention,
            **common,
        )
