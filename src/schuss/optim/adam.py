from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import adam

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class Adam(Optimizer):
    """Adam: a running mean of the gradient over the root of a running mean of its square, both bias-corrected.

    ========== ===== ============================= =================== =================================
    convention eps   divides by                    weight decay        amsgrad takes the maximum of
    ========== ===== ============================= =================== =================================
    "torch"    1e-8  sqrt(v / (1 - beta2^t)) + eps added to g          v
    "optax"    1e-8  sqrt(v / (1 - beta2^t)) + eps added to g          v / (1 - beta2^t)
    "keras"    1e-7  (sqrt(v) + eps) / sqrt(1 -    p *= 1 - lr * decay v
                     beta2^t)
    "paper"    1e-8  sqrt(v / (1 - beta2^t)) + eps added to g          v, and no bias is corrected
    ========== ===== ============================= =================== =================================

    The papers are Kingma & Ba's (Algorithm 1) and, with ``amsgrad``, Reddi, Kale & Kumar's.
    :mod:`schuss_kernels.rules.adam` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the two means, each in [0, 1).
    eps, weight_decay
        At least 0. ``eps`` None: the convention's.
    amsgrad
        Divide by the largest second moment so far (Reddi, Kale & Kumar 2018).
    convention
        Whose arithmetic and defaults: ``"torch"``, ``"keras"``, ``"optax"`` or ``"paper"``.

    State: ``exp_avg``, ``exp_avg_sq``, with amsgrad ``max_exp_avg_sq`` (Optax's ``max_corrected_sq``).

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

    _conventions = adam.ADAM_CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float | None = None,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        convention: str = "torch",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            adam.rule_for_adam,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            convention=convention,
            **common,
        )


class AdamW(Optimizer):
    """Adam with decoupled weight decay: ``p *= 1 - lr * weight_decay`` before the Adam step.

    ========== ===== ============ ============================= ================ ============================
    convention eps   weight_decay divides by                    p is decayed by  amsgrad takes the maximum of
    ========== ===== ============ ============================= ================ ============================
    "torch"    1e-8  0.01         sqrt(v / (1 - beta2^t)) + eps lr * decay       v
    "optax"    1e-8  0.0001       sqrt(v / (1 - beta2^t)) + eps lr * decay       v / (1 - beta2^t)
    "keras"    1e-7  0.004        (sqrt(v) + eps) / sqrt(1 -    lr * decay       v
                                  beta2^t)
    "paper"    1e-8  1e-5         sqrt(v / (1 - beta2^t)) + eps decay            v, and no bias is corrected
    ========== ===== ============ ============================= ================ ============================

    The paper multiplies its decay by the schedule alone, not by lr (where there is one, set ``weight_decay`` too); it
    gives no default, and 1e-5 is what torch's decays by. :mod:`schuss_kernels.rules.adam` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decay of the two means, each in [0, 1).
    eps, weight_decay
        At least 0. None: the convention's.
    amsgrad
        Divide by the largest second moment so far (Reddi, Kale & Kumar 2018).
    convention
        Whose arithmetic and defaults: ``"torch"``, ``"keras"``, ``"optax"`` or ``"paper"``.

    State: ``exp_avg``, ``exp_avg_sq``, with amsgrad ``max_exp_avg_sq`` (Optax's ``max_corrected_sq``).

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

    _conventions = adam.ADAMW_CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float | None = None,
        weight_decay: float | None = None,
        amsgrad: bool = False,
        *,
        convention: str = "torch",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            adam.rule_for_adamw,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            amsgrad=amsgrad,
            convention=convention,
            **common,
        )
