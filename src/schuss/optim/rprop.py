from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import rprop

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class Rprop(Optimizer):
    """Rprop: steps against the sign of the gradient, in a size of every element's own.

    The size is multiplied by ``etas[1]`` while the gradient keeps its sign, and by ``etas[0]`` where it has changed.
    For gradients of all the data; those of batches change their signs too often.

    ========== ===== ==========================================================================
    convention lr    where the sign has changed
    ========== ===== ==========================================================================
    "torch"    0.01  p stays for this step (iRprop-)
    "optax"    0.01  p stays for this step and the next; every step comes one call of step late
    "paper"    0.1   the last step is taken back
    ========== ===== ==========================================================================

    Optax has no default for lr: torch's is taken. :mod:`schuss_kernels.rules.rprop` has the equations.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        The size of a tensor's first step, at least 0 (or a function of the number of steps made), as it is when the
        tensor first has a gradient. What is set later changes nothing, unless it was 0: nothing moves then before the
        first step with a rate above 0, which is the size. None: the convention's.
    etas
        What the size is multiplied by, below 1 and above 1.
    step_sizes
        The smallest and the largest size, at least 0.
    convention
        Whose arithmetic and defaults: ``"torch"``, ``"optax"`` or ``"paper"``.

    State: ``prev``, ``step_size``; with ``"optax"`` ``pending``, ``step_size``.

    References
    ----------
    Riedmiller & Braun 1993 (ICNN); Igel & Huesken 2003 (Neurocomputing 50), iRprop-.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.Rprop([w], lr=0.5, etas=(0.5, 2.0))
    >>> info = opt.step([np.array([3.0, -0.1])])
    >>> info = opt.step([np.array([-1.0, -0.1])])
    >>> w
    array([0.5, 3.5])
    """

    _conventions = rprop.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] | None = None,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        convention: str = "torch",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params, rprop.rule_for, lr=lr, etas=etas, step_sizes=step_sizes, convention=convention, **common
        )
