from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import asgd

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class ASGD(Optimizer):
    """ASGD: gradient descent with a falling learning rate, and the average of the parameters beside it.

    ``p = p * (1 - lambd * eta) - eta * g`` with ``eta = lr / (1 + lambd * lr * t)^alpha`` of the step before (lr in the
    first). The average, :attr:`averaged_params`, is that of steps ``t0 + 2`` and later, and until then the parameter.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    lambd
        Decay of the parameters with the learning rate, and how fast that falls; at least 0.
    alpha
        Power by which the learning rate falls, at least 0.
    t0
        After how many steps the average begins.
    weight_decay
        At least 0; added to the gradient.

    State: ``ax``, kept as it is computed in any ``state_dtype``, and the numbers ``eta`` and ``mu``.

    References
    ----------
    Polyak & Juditsky 1992 (SIAM J. Control Optim. 30); Bottou 2010 (COMPSTAT), section 5.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.ASGD([w], lr=0.5, lambd=0.0, t0=0.0)
    >>> for _ in range(3):
    ...     info = opt.step([np.array([1.0, -1.0])])
    >>> w, opt.averaged_params[0]
    (array([-0.5,  3.5]), array([-0.25,  3.25]))
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(params, asgd.ASGD, lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay, **common)

    @property
    def averaged_params(self) -> Any:
        """The averages of the parameters, in the structure of the parameters: the arrays themselves (``ax``)."""
        stepper = self._stepper
        with stepper.lock:
            stepper.make_states(range(len(stepper.stored.states)))
        return self._parameters.build(states["ax"].array for states in stepper.stored.states)
