from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import ftrl

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class FTRL(Optimizer):
    """FTRL-Proximal: follow the regularized leader, with a learning rate for each element and weights of exactly zero.

    With ``n`` the sum of squared gradients and ``z`` a sum of gradients less what the changing rates took back, ``p =
    (sign(z) * l1 - z) / ((beta + sqrt(n)) / lr + l2)``, 0 where ``|z| <= l1``. The parameter follows from the two sums:
    an element without a gradient becomes 0.

    ========== ===== ==== ========================= =====================
    convention lr    beta initial_accumulator_value the denominator holds
    ========== ===== ==== ========================= =====================
    "paper"    0.1   1    0                         l2
    "keras"    0.001 0    0.1                       2 * l2
    ========== ===== ==== ========================= =====================

    The paper has no default for lr. :mod:`schuss_kernels.rules.ftrl` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made. None: the convention's. With 0 (as below
        1e-30) a step changes neither the parameters nor ``n`` and ``z``.
    l1, l2
        Strengths of the two penalties, at least 0.
    l2_shrinkage
        ``2 * l2_shrinkage * p`` is added to the gradient where it is summed, not where it is squared. At least 0.
    beta
        Keeps the first rates small, at least 0. None: the convention's.
    learning_rate_power
        The rates fall as ``n`` to this power, in [-1, 0). Other than -0.5 is slower: it takes two powers an element.
    initial_accumulator_value
        Where ``n`` starts, at least 0. None: the convention's.
    weight_decay
        ``p *= 1 - lr * weight_decay`` before the step; at least 0.
    convention
        Whose arithmetic and defaults: ``"paper"`` or ``"keras"``.

    State: ``accumulator`` (n), ``linear`` (z).

    References
    ----------
    McMahan et al. 2013 (KDD), Algorithm 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.zeros(3)
    >>> info = schuss.FTRL([w], lr=0.1, l1=1.0).step([np.array([3.0, -4.0, 0.5])])
    >>> w.round(4)
    array([-0.05,  0.06,  0.  ])
    """

    _conventions = ftrl.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] | None = None,
        l1: float = 0.0,
        l2: float = 0.0,
        l2_shrinkage: float = 0.0,
        beta: float | None = None,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float | None = None,
        weight_decay: float = 0.0,
        *,
        convention: str = "paper",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            ftrl.rule_for,
            lr=lr,
            l1=l1,
            l2=l2,
            l2_shrinkage=l2_shrinkage,
            beta=beta,
            learning_rate_power=learning_rate_power,
            initial_accumulator_value=initial_accumulator_value,
            weight_decay=weight_decay,
            convention=convention,
            **common,
        )
