from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from schuss_kernels.rules import dadapt, prodigy

from ..core.storage_options import CommonOptions
from ..optimizer import Optimizer


class Prodigy(Optimizer):
    """Prodigy: Adam that finds its learning rate itself, as the distance from the start to the solution.

    The estimate d grows from ``d0``, by all tensors of a group: ``d = max(d, d_coef * n / ||s||_1)`` with the running
    means ``n`` of ``<g, p0 - p>`` and ``s`` of the gradients, both weighted by d. ``p -= d * lr * m / (sqrt(v) + d *
    eps)``. Two passes over memory: the first only reads. Leave lr at 1, or give it a schedule that starts there.

    Optax's is this with ``use_bias_correction=True``; its ``estim_lr0`` is ``d0``, its ``estim_lr_coef`` ``d_coef``.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        What multiplies d: 1, or a function of the number of steps made. At least 0.
    betas
        Decays of the moments, each in [0, 1).
    beta3
        Decay of n and s, in [0, 1); 0: the root of the second of ``betas``.
    eps
        Above 0.
    weight_decay
        At least 0: ``p *= 1 - d * lr * weight_decay``, or with ``decouple=False`` added to the gradient.
    use_bias_correction
        Adam's correction of the bias, multiplied into lr.
    safeguard_warmup
        Keep lr out of s, for schedules that start with a small one.
    d0
        What d starts from, above 0.
    d_coef
        Multiplies the estimate: the way to tune it. At least 0.
    growth_rate
        The most that d is multiplied by in a step, at least 1; 0: no limit.

    State: ``exp_avg``, ``exp_avg_sq``, ``grad_sum`` (s) and ``p0``, the parameter as it was when the optimizer was
    made. The running numbers ``d``, ``d_max`` and ``numerator`` (n) are in the state dict.

    References
    ----------
    Mishchenko & Defazio 2023 (arXiv:2306.06101), the Adam version; options as in the authors' code.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.Prodigy([w], d0=0.1)
    >>> for _ in range(30):
    ...     info = opt.step([2.0 * w])
    >>> opt.state_dict()["state"]["0"]["running"]["d"] > 0.1
    True
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        beta3: float = 0.0,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decouple: bool = True,
        use_bias_correction: bool = False,
        safeguard_warmup: bool = False,
        d0: float = 1e-6,
        d_coef: float = 1.0,
        growth_rate: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            prodigy.rule_for,
            lr=lr,
            betas=betas,
            beta3=beta3,
            eps=eps,
            weight_decay=weight_decay,
            decouple=decouple,
            use_bias_correction=use_bias_correction,
            safeguard_warmup=safeguard_warmup,
            d0=d0,
            d_coef=d_coef,
            growth_rate=growth_rate,
            **common,
        )


class DAdaptAdam(Optimizer):
    """Adam with D-Adaptation: it finds its learning rate itself, as the distance from the start to the solution.

    The estimate d grows from ``d0``, by all tensors of a group: ``d = max(d, n / ((1 - sqrt(beta2)) * ||s||_1))`` with
    running means ``s`` of the gradients and ``n`` of ``<g, s / (sqrt(v) + eps)>``, both weighted by d. ``m = beta1 * m
    + (1 - beta1) * d * lr * g``; ``p -= m / (sqrt(v) + eps)``. Two passes over memory: the first only reads. Leave lr
    at 1, or give it a schedule that starts there.

    Optax's ``dadapt_adamw`` is this with ``use_bias_correction=True`` and ``decouple=True``; its ``estim_lr0`` is
    ``d0``.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        What multiplies d: 1, or a function of the number of steps made. At least 0.
    betas
        Decays of the moments, each in [0, 1); s and n decay by the root of the second.
    eps
        Above 0.
    weight_decay
        At least 0: added to the gradient, or with ``decouple=True``, ``p *= 1 - d * lr * weight_decay``.
    use_bias_correction
        Adam's correction of the bias, multiplied into lr.
    d0
        What d starts from, above 0.
    growth_rate
        The most that d is multiplied by in a step, at least 1; 0: no limit.

    State: ``exp_avg``, ``exp_avg_sq``, ``grad_sum`` (s). The running numbers ``d`` and ``numerator`` (n) are in the
    state dict.

    References
    ----------
    Defazio & Mishchenko 2023 (arXiv:2301.07733), the Adam version; options as in the authors' code.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.DAdaptAdam([w], d0=0.01)
    >>> for _ in range(30):
    ...     info = opt.step([2.0 * w])
    >>> opt.state_dict()["state"]["0"]["running"]["d"] > 0.01
    True
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decouple: bool = False,
        use_bias_correction: bool = False,
        d0: float = 1e-6,
        growth_rate: float = 0.0,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            dadapt.rule_for,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            decouple=decouple,
            use_bias_correction=use_bias_correction,
            d0=d0,
            growth_rate=growth_rate,
            **common,
        )
