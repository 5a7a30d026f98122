from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import adafactor

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class Adafactor(Optimizer):
    """Adafactor: second moments kept as a row and a column for each matrix, steps relative to the size of the weights.

    ``v = row * col / mean(row)``, ``u = g / sqrt(v)``, scaled down to a root mean square of ``d`` where it is larger;
    ``p -= max(eps[1], rms(p)) * min(lr, 1 / sqrt(step)) * u``. Arrays of more than two axes are taken as many matrices;
    vectors have a second moment for each element. Whole arrays by NumPy: there is no kernel.

    ========== ===== ============= ======= ================================ ======================
    convention lr    eps           min_dim eps[0]                           weight decay
    ========== ===== ============= ======= ================================ ======================
    "torch"    0.01  (0, 1e-3)     0       a floor; 0: the dtype's spacing  p *= 1 - lr * decay
    "keras"    0.001 (1e-30, 1e-3) 0       added to g * g                   p *= 1 - lr * decay first
    "optax"    0.01  (1e-30, 1e-3) 128     added to g * g                   p *= 1 - decay
    "paper"    0.01  (1e-30, 1e-3) 0       added to g * g                   none (Keras's)
    ========== ===== ============= ======= ================================ ======================

    Optax takes lr as it is, not limited by ``1 / sqrt(step)``, and factors the two largest axes, the others the last
    two; it has no default for lr: the paper's is taken. :mod:`schuss_kernels.rules.adafactor` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`. The rows and columns are always kept in the type that is computed in.
    lr
        Learning rate, at least 0, or a function of the number of steps made. None: the convention's.
    beta2_decay
        At most 0: the second moment's decay is ``1 - step ** beta2_decay``.
    eps
        Two numbers of at least 0: of the second moment, and the least size of the weights. None: the convention's.
    d
        Largest root mean square of a step before it is scaled, above 0.
    weight_decay
        At least 0.
    scale_parameter
        Whether steps are relative to the size of the weights.
    momentum
        Decay of a running mean of the steps, in [0, 1); 0: none is kept.
    min_dim
        Least extent of both axes of a matrix that is factored. None: the convention's.
    convention
        Whose arithmetic and defaults: ``"torch"``, ``"keras"``, ``"optax"`` or ``"paper"``.

    State: ``row_var`` and ``col_var``, or ``variance`` where nothing is factored; with momentum ``exp_avg``.

    References
    ----------
    Shazeer & Stern 2018 (arXiv:1804.04235), Algorithms 4 and 5.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.ones((2, 2))
    >>> info = schuss.Adafactor([w], lr=0.1).step([np.array([[1.0, 2.0], [2.0, 4.0]])])
    >>> w.round(4)
    array([[0.9, 0.9],
           [0.9, 0.9]])
    """

    _conventions = adafactor.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] | None = None,
        beta2_decay: float = -0.8,
        eps: tuple[float, float] | None = None,
        d: float = 1.0,
        weight_decay: float = 0.0,
        scale_parameter: bool = True,
        momentum: float = 0.0,
        min_dim: float | None = None,
        *,
        convention: str = "torch",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            adafactor.rule_for,
            lr=lr,
            beta2_decay=beta2_decay,
            eps=eps,
            d=d,
            weight_decay=weight_decay,
            scale_parameter=scale_parameter,
            momentum=momentum,
            min_dim=min_dim,
            convention=convention,
            **common,
        )
