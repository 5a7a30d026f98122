from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import sgd

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class SGD(Optimizer):
    """Gradient descent: plain, with momentum, or Nesterov's.

    Without momentum ``p -= lr * g``; with it ``b = momentum * b + (1 - dampening) * g`` (the first step takes
    ``b = g``) and ``p -= lr * b``; Nesterov's ``p -= lr * (g + momentum * b)``. ``weight_decay`` adds
    ``weight_decay * p`` to the gradient.

    ========== ====== ================ =================== ========= =======================================
    convention lr     lr               weight decay        dampening with momentum
    ========== ====== ================ =================== ========= =======================================
    "torch"    0.001  times the buffer added to g          yes       as above
    "optax"    0.001  times the buffer added to g          no        as above
    "keras"    0.01   in the buffer    p *= 1 - lr * decay no        v = momentum * v - lr * g; p += v
    "paper"    0.001  in the buffer    added to g          no        v = momentum * v - lr * g; p += v
    ========== ====== ================ =================== ========= =======================================

    With lr in the buffer Nesterov's is ``p += momentum * v - lr * g``. Optax has no default for lr, the papers neither:
    torch's is taken. :mod:`schuss_kernels.rules.sgd` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made. None: the convention's.
    momentum, dampening
        At least 0; in [0, 1).
    weight_decay
        At least 0 (L2).
    nesterov
        Needs momentum above 0 and no dampening.
    convention
        Whose arithmetic and defaults: ``"torch"``, ``"keras"``, ``"optax"`` or ``"paper"``.

    State: none without momentum, else ``momentum_buffer``, with lr in the buffer ``velocity``.

    References
    ----------
    Robbins & Monro 1951; Polyak 1964; Sutskever, Martens, Dahl & Hinton 2013, section 2.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.SGD([w], lr=0.1, momentum=0.9)
    >>> info = opt.step([np.array([1.0, 1.0])])
    >>> w
    array([0.9, 1.9])
    """

    _conventions = sgd.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] | None = None,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        convention: str = "torch",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            sgd.rule_for,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            weight_decay=weight_decay,
            nesterov=nesterov,
            convention=convention,
            **common,
        )
