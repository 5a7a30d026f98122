from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import muon
from schuss_kernels.rules.muon import COEFFICIENTS

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class Muon(Optimizer):
    """Muon: matrices move along the running mean of their gradients, made orthogonal; AdamW for all other arrays.

    ``m = momentum * m + (1 - momentum) * g``; ``p = p * (1 - lr * weight_decay) - lr * scale * newton_schulz(m)``,
    which makes all singular values about 1. Matrices by NumPy, whole arrays; the other arrays by AdamW's kernel, in the
    same step.

    ========== ============ ========= ===== ======== ================= ===================================
    convention weight_decay rms_scale eps   adam_eps adam_weight_decay the iteration, and scale
    ========== ============ ========= ===== ======== ================= ===================================
    "torch"    0.1          0         1e-7  1e-8     0.01              bfloat16; sqrt(max(1, rows / columns))
    "keras"    0.004        0.2       1e-7  1e-7     0.004             the parameter's type
    "optax"    0            0         1e-8  1e-8     0                 its type; sqrt(max(1, columns / rows))
    ========== ============ ========= ===== ======== ================= ===================================

    Arrays of more than two axes are matrices for ``"torch"`` (the first axis by all others, as in the authors' code;
    torch itself refuses them), and go to AdamW for the others. Embeddings and the last layer should go to AdamW too:
    put them into a group with ``only_adam=True``. :mod:`schuss_kernels.rules.muon` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    momentum
        In [0, 1).
    nesterov
        Whether the mean looks one step ahead.
    weight_decay
        Of the matrices, at least 0. None: the convention's.
    rms_scale
        At least 0. Above 0: steps are scaled by ``rms_scale * sqrt(max(rows, columns))``, so that those of all matrices
        have about this root mean square, 0.2 being AdamW's. None: the convention's.
    ns_steps
        Iterations, a whole number.
    ns_coefficients
        Three numbers: what the iteration makes of x, x^3 and x^5 of a singular value.
    eps
        Of the norm, at least 0. None: the convention's.
    betas, adam_eps, adam_weight_decay
        Those of AdamW. None: the convention's.
    adam_lr_ratio
        AdamW's learning rate is lr times this.
    only_adam
        AdamW for all arrays (of a group).
    convention
        Whose arithmetic and defaults: ``"torch"``, ``"keras"`` or ``"optax"``.

    State: ``momentum_buffer`` of a matrix, ``exp_avg`` and ``exp_avg_sq`` of other arrays.

    References
    ----------
    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Liu et al. 2025 (arXiv:2502.16982).

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w, b = np.zeros((2, 2)), np.zeros(2)
    >>> info = schuss.Muon([w, b], lr=0.1).step([np.array([[5.0, 0.0], [0.0, 3.0]]), np.array([1.0, -1.0])])
    >>> w.round(1), b.round(1)
    (array([[-0.1,  0. ],
           [ 0. , -0.1]]), array([-0.1,  0.1]))
    """

    _conventions = muon.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-3,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float | None = None,
        rms_scale: float | None = None,
        ns_steps: float = 5,
        ns_coefficients: tuple[float, float, float] = COEFFICIENTS,
        eps: float | None = None,
        betas: tuple[float, float] = (0.9, 0.999),
        adam_eps: float | None = None,
        adam_weight_decay: float | None = None,
        adam_lr_ratio: float = 1.0,
        only_adam: bool = False,
        *,
        convention: str = "torch",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            muon.rule_for,
            lr=lr,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            rms_scale=rms_scale,
            ns_steps=ns_steps,
            ns_coefficients=ns_coefficients,
            eps=eps,
            betas=betas,
            adam_eps=adam_eps,
            adam_weight_decay=adam_weight_decay,
            adam_lr_ratio=adam_lr_ratio,
            only_adam=only_adam,
            convention=convention,
            **common,
        )
