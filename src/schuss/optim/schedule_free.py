from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Unpack

import numpy as np
from schuss_kernels.rules import schedule_free

from ..core import arrays
from ..core.param_groups import ParamGroup
from ..core.storage_options import CommonOptions
from ..core.weight_swap import Block, SwapBlock
from ..optimizer import Optimizer

_EVALUATING = "in evaluation mode: the parameters hold the mean x; call train() first"


class ScheduleFree(Optimizer):
    """What the schedule-free optimizers share: the parameters hold y while training, and x for evaluation.

    The gradient is taken at y, steps go from z (a state), and x is the weighted mean of the z, to be evaluated. A new
    optimizer is in training mode.
    """

    def eval(self) -> None:
        """Have the parameters hold x, the mean, until :meth:`train`; a second time does nothing.

        x comes out of y (the master weight, where there is one) and z in the type that they are computed in, and is
        rounded to the parameters' own. What is written into the parameters in evaluation mode is lost. ``step``,
        ``accumulate``, ``use_ema``, ``state_dict`` and ``load_state_dict`` are refused meanwhile.

        Raises
        ------
        RuntimeError
            Inside :meth:`use_ema`.
        """
        with self._stepper.locked("eval()"):
            self._evaluate("eval()", None)

    def train(self) -> None:
        """Have the parameters hold y again, to the last bit what they held before :meth:`eval`.

        A second time does nothing.
        """
        swap = self._parameters.swap
        with self._stepper.locked("train()"):
            if swap.reason == _EVALUATING:
                swap.swap_back()

    def averaged(self) -> AbstractContextManager[None]:
        """Evaluation mode for the length of a ``with`` block; after it, the mode that was there before.

        Whatever ends the block, as in :meth:`use_ema`.
        """
        return SwapBlock(self._parameters.swap, self._stepper.lock, self._begin_averaged)

    def _begin_averaged(self, block: Block) -> None:
        with self._stepper.locked("averaged()"):
            self._evaluate("averaged()", block)

    def _evaluate(self, what: str, block: Block | None) -> None:
        """Put x into the parameters, until :meth:`train` or the end of ``block``; do nothing where it is there."""
        swap = self._parameters.swap
        swap.settle()
        if swap.reason != _EVALUATING:
            swap.refuse(what)
            tensors = range(len(self._parameters.names))
            swap.swap_in([self._mean(number) for number in tensors], _EVALUATING, block)

    def _mean(self, number: int) -> np.ndarray:
        """Compute x of one tensor, in its compute dtype: ``y + (1 - 1 / beta) * (z - y)``."""
        parameters, stepper = self._parameters, self._stepper
        y = stepper.exact(number)
        if not stepper.stored.made[number]:
            return y  # no step has moved it
        z = arrays.read(stepper.stored.states[number]["z"])
        beta = self._beta(parameters.groups[parameters.group_of[number]])
        with np.errstate(all="ignore"):
            x: np.ndarray = y + y.dtype.type(1.0 - 1.0 / beta) * (z - y)
        return x

    @staticmethod
    def _beta(group: ParamGroup) -> float:
        """Return how near y is to x."""
        return float(group["betas"][0])


class ScheduleFreeSGD(ScheduleFree):
    """Schedule-Free SGD: the mean of the iterates in place of momentum and of a learning rate schedule.

    ``z -= lr * g``; ``x = (1 - c) * x + c * z``; ``y = (1 - momentum) * z + momentum * x``. The parameters hold y,
    where the gradient is to be taken, while training, and x, which is what to evaluate (and to keep), between
    :meth:`eval` and :meth:`train`. ``c = w / sum(w)``, ``w = step**r * max(lr so far)**weight_lr_power``.

    ========== ====================================== ===
    convention warm-up                                r
    ========== ====================================== ===
    "authors"  lr * step / warmup_steps               any
    "optax"    that in w; z moves by the step before's 0
    ========== ====================================== ===

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`. ``ema`` and ``copy_to`` are of y.
    lr
        Learning rate, at least 0, or a function of the number of steps made. It should not fall.
    momentum
        How near y is to x, above 0 and below 1.
    weight_decay
        At least 0. Added to the gradient, of y.
    warmup_steps
        Steps over which lr grows evenly; 0: none.
    r, weight_lr_power
        What weights the mean, at least 0.
    convention
        Whose arithmetic: ``"authors"`` (their code) or ``"optax"``.

    State: ``z``, a copy of the parameter at first. The running numbers ``weight_sum`` and ``lr_max`` are in the state
    dict, which is to be taken in training mode, with the parameters.

    References
    ----------
    Defazio et al. 2024 (arXiv:2405.15682); options as in the authors' code.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.ScheduleFreeSGD([w], lr=0.1, momentum=0.5)
    >>> for _ in range(2):
    ...     info = opt.step([np.array([1.0, -1.0])])
    >>> w
    array([0.825, 2.175])
    >>> with opt.averaged():
    ...     print(w)
    [0.85 2.15]
    """

    _conventions = schedule_free.SGD_CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1.0,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        warmup_steps: float = 0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        *,
        convention: str = "authors",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            schedule_free.rule_for_sgd,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            warmup_steps=warmup_steps,
            r=r,
            weight_lr_power=weight_lr_power,
            convention=convention,
            **common,
        )

    @staticmethod
    def _beta(group: ParamGroup) -> float:
        return float(group["momentum"])


class ScheduleFreeAdamW(ScheduleFree):
    """Schedule-Free AdamW: Adam's step, the mean of the iterates in place of momentum and of a schedule.

    ``u = g / (sqrt(v) + eps) + weight_decay * y`` with the bias-corrected second moment; ``z -= lr * u``; ``x = (1 - c)
    * x + c * z``; ``y = (1 - beta1) * z + beta1 * x``. The parameters hold y, where the gradient is to be taken, while
    training, and x, which is what to evaluate (and to keep), between :meth:`eval` and :meth:`train`. ``c = w /
    sum(w)``, ``w = step**r * max(lr so far)**weight_lr_power``.

    ========== =============== ==================== ============================== ===========================
    convention weight_lr_power bias correction      warm-up                        weight decay
    ========== =============== ==================== ============================== ===========================
    "authors"  2               of v                 step / warmup_steps            of z, by y
    "optax"    2               of v                 that in w; z: the step before's of z, by y
    "keras"    0, so c = 1/step of v                 step / warmup_steps            ``y *= 1 - lr * decay``
    "paper"    2               lr, in w too, no v's step / warmup_steps            of z, by y
    ========== =============== ==================== ============================== ===========================

    Optax and Keras have no ``r``.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`. ``ema`` and ``copy_to`` are of y.
    lr
        Learning rate, at least 0, or a function of the number of steps made. It should not fall.
    betas
        How near y is to x, above 0 and below 1; decay of the second moment, in [0, 1).
    eps, weight_decay
        At least 0.
    warmup_steps
        Steps over which lr grows evenly; 0: none.
    r, weight_lr_power
        What weights the mean, at least 0. ``weight_lr_power`` None: the convention's.
    convention
        Whose arithmetic: ``"authors"`` (their code), ``"optax"``, ``"keras"`` or ``"paper"``.

    State: ``z``, a copy of the parameter at first, and ``exp_avg_sq``. The running numbers ``weight_sum`` and
    ``lr_max`` are in the state dict, which is to be taken in training mode, with the parameters.

    References
    ----------
    Defazio et al. 2024 (arXiv:2405.15682), Algorithm 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.ScheduleFreeAdamW([w], lr=0.1, betas=(0.5, 0.9))
    >>> for _ in range(2):
    ...     info = opt.step([np.array([1.0, -1.0])])
    >>> w.round(4)
    array([0.825, 2.175])
    >>> with opt.averaged():
    ...     print(w.round(4))
    [0.85 2.15]
    """

    _conventions = schedule_free.ADAMW_CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 2.5e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        warmup_steps: float = 0,
        r: float = 0.0,
        weight_lr_power: float | None = None,
        *,
        convention: str = "authors",
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            schedule_free.rule_for_adamw,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            warmup_steps=warmup_steps,
            r=r,
            weight_lr_power=weight_lr_power,
            convention=convention,
            **common,
        )


class ScheduleFreeRAdam(ScheduleFree):
    """Schedule-Free RAdam: :class:`ScheduleFreeAdamW` with RAdam's rectified lr in place of a warm-up.

    lr is multiplied by the rectification, which grows from 0 towards 1 as the second moment becomes certain. The
    parameters hold y while training, and x, which is what to evaluate, between :meth:`eval` and :meth:`train`.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`. ``ema`` and ``copy_to`` are of y.
    lr
        Learning rate, at least 0, or a function of the number of steps made. It should not fall.
    betas
        How near y is to x, above 0 and below 1; decay of the second moment, in [0, 1).
    eps, weight_decay
        At least 0.
    r, weight_lr_power
        What weights the mean, at least 0.
    silent_sgd_phase
        Do not move in the first steps, where the second moment is too uncertain; else they are steps of SGD.

    State: ``z``, a copy of the parameter at first, and ``exp_avg_sq``. The running numbers ``weight_sum`` and
    ``lr_max`` are in the state dict, which is to be taken in training mode, with the parameters.

    References
    ----------
    Defazio et al. 2024 (arXiv:2405.15682), the authors' code; Liu et al. 2020 (ICLR), Algorithm 2.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.ScheduleFreeRAdam([w], lr=0.1)
    >>> for _ in range(6):
    ...     info = opt.step([np.array([1.0, -1.0])])
    >>> with opt.averaged():
    ...     print(w.round(4))
    [0.9965 2.0035]
    """

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 2.5e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        r: float = 0.0,
        weight_lr_power: float = 2.0,
        silent_sgd_phase: bool = True,
        **common: Unpack[CommonOptions],
    ) -> None:
        super().__init__(
            params,
            schedule_free.rule_for_radam,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            r=r,
            weight_lr_power=weight_lr_power,
            silent_sgd_phase=silent_sgd_phase,
            **common,
        )
