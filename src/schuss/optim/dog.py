from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Unpack

from schuss_kernels.rules import dog

from ..core.param_groups import Select
from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class DoG(Optimizer):
    """DoG: SGD whose learning rate is the distance from the start over the gradients met; nothing is to be tuned.

    ``r = max(r, ||p - x0||)``, ``G += ||g||**2``, ``p -= lr * r / sqrt(G + eps) * g``, the norms over all tensors of a
    group. Two passes over memory: the first only reads. The authors evaluate a mean of the iterates, not the last one:
    see ``ema=`` and :meth:`use_ema`.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        What multiplies the estimated learning rate: 1, or a function of the number of steps made. At least 0.
    reps_rel
        The distance that r starts from, against ``1 + ||x0||``. The authors advise 1e-4 where there are batch norms. At
        least 0.
    init_eta
        Learning rate of the first step, in place of the one from ``reps_rel``; 0: not given.
    init_dist
        The distance that r starts from, in place of the one from ``reps_rel``; 0: not given.
    eps, weight_decay
        At least 0. The decay is added to the gradient.

    State: ``x0``, the parameter as it was when the optimizer was made. The running numbers ``max_dist`` (r) and
    ``gradients`` (G) are in the state dict.

    References
    ----------
    Ivgi, Hinder & Carmon 2023 (arXiv:2302.12022); options as in the authors' code.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([3.0, 4.0])
    >>> info = schuss.DoG([w], reps_rel=0.1).step([np.array([0.0, 2.0])])
    >>> w.round(4)
    array([3. , 3.4])
    """

    _select: ClassVar[Select] = staticmethod(dog.rule_for)

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1.0,
        reps_rel: float = 1e-6,
        init_eta: float = 0.0,
        init_dist: float = 0.0,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            self._select,
            lr=lr,
            reps_rel=reps_rel,
            init_eta=init_eta,
            init_dist=init_dist,
            eps=eps,
            weight_decay=weight_decay,
            **common,
        )


class LDoG(DoG):
    """LDoG: :class:`DoG` with a learning rate of its own for every tensor, from its own distance and gradients.

    Parameters and state are those of :class:`DoG`.

    References
    ----------
    Ivgi, Hinder & Carmon 2023 (arXiv:2302.12022), the layer-wise version.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = {"a": np.array([3.0, 4.0]), "b": np.array([1.0])}
    >>> info = schuss.LDoG(w, reps_rel=0.1).step({"a": np.array([0.0, 2.0]), "b": np.array([5.0])})
    >>> w["a"].round(4), w["b"].round(4)
    (array([3. , 3.4]), array([0.8]))
    """

    _select: ClassVar[Select] = staticmethod(dog.rule_for_ldog)


class DoWG(Optimizer):
    """DoWG: like :class:`DoG`, the gradients weighted by the distance gone when they were met.

    ``r2 = max(r2, ||p - x0||**2)``, ``G += r2 * ||g||**2``, ``p -= lr * r2 / (sqrt(G) + eps) * g``, the norms over all
    tensors of a group. Two passes over memory: the first only reads.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        What multiplies the estimated learning rate: 1, or a function of the number of steps made. At least 0.
    init_estim_sq_dist
        The square of the distance that it starts from; 0: ``eps``.
    eps, weight_decay
        At least 0. The decay is added to the gradient.

    State: ``x0``, the parameter as it was when the optimizer was made. The running numbers ``max_sq_dist`` (r2) and
    ``gradients`` (G) are in the state dict.

    References
    ----------
    Khaled, Mishchenko & Jin 2023 (arXiv:2305.16284), Algorithm 1; eps as in the authors' code and in Optax.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([3.0, 4.0])
    >>> info = schuss.DoWG([w], init_estim_sq_dist=0.25, eps=0.0).step([np.array([0.0, 2.0])])
    >>> w.round(4)
    array([3. , 3.5])
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1.0,
        init_estim_sq_dist: float = 0.0,
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            dog.DOWG,
            lr=lr,
            init_estim_sq_dist=init_estim_sq_dist,
            eps=eps,
            weight_decay=weight_decay,
            **common,
        )
