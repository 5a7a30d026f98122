from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Unpack

import numpy as np
from schuss_kernels.engine.base import Engine
from schuss_kernels.engine.interrupts import DeferInterrupt
from schuss_kernels.plan.riders import Riders
from schuss_kernels.plan.tensor import Tensor
from schuss_kernels.rules import sophia
from schuss_kernels.storage.memory import Memory
from schuss_kernels.storage.stochastic_rounding import key as random_key

from ..core import states
from ..core.overlap import overlap
from ..core.step_options import StepInfo, StepOptions
from ..core.storage_options import CommonOptions
from ..optimizer import ACCUMULATED, Optimizer


class Sophia(Optimizer):
    """Sophia: momentum over the diagonal of the Hessian, every element's step limited to lr.

    ``m = beta1 * m + (1 - beta1) * g``; ``p -= lr * clip(m / max(gamma * h, eps), clip_threshold)``. What h is the
    running mean of is yours to estimate, every 10 steps or so: ``opt.step(grads, hessian=estimate)``, or
    :meth:`update_hessian` by itself. Before the first estimate every step is lr times the sign of m.

    ========== ============= ===== ============ ====================== ===========================
    convention betas         eps   weight_decay m is                   the estimate of a step
    ========== ============= ===== ============ ====================== ===========================
    "paper"    0.96, 0.99    1e-12 0.2          as it is               counts in that step
    "optax"    0.965, 0.99   1e-8  1e-4         over 1 - beta1**step   counts from the next step on
    ========== ============= ===== ============ ====================== ===========================

    The authors' Sophia-G code has rho times the batch size for gamma, ``betas=(0.965, 0.99)`` and ``weight_decay=0.1``.

    Parameters
    ----------
    params, **common
        See :class:`schuss.Optimizer`.
    lr
        Learning rate, at least 0, or a function of the number of steps made.
    betas
        Decays of m and of h, each in [0, 1). None: the convention's.
    gamma
        Scale of h, at least 0. The paper has 0.01 for Hutchinson's estimates (Sophia-H), 0.05 for Gauss-Newton-Bartlett
        ones (Sophia-G); 10 to 50 percent of the elements should not be at their limit.
    eps
        Above 0. None: the convention's.
    weight_decay
        At least 0, decoupled: ``p *= 1 - lr * weight_decay``. None: the convention's.
    clip_threshold
        The limit, at least 0.
    convention
        Whose arithmetic and defaults: ``"paper"`` or ``"optax"``.

    State: ``exp_avg``, ``hessian``.

    References
    ----------
    Liu et al. 2023 (arXiv:2305.14342), Algorithm 3.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.Sophia([w], lr=0.1, betas=(0.5, 0.5), gamma=1.0, weight_decay=0.0)
    >>> info = opt.step([np.array([1.0, -8.0])], hessian=[np.array([4.0, 4.0])])
    >>> w
    array([0.975, 2.1  ])
    """

    _conventions = sophia.CONVENTIONS

    def __init__(
        self,
        params: Any,
        lr: float | Callable[[int], float] = 1e-4,
        betas: tuple[float, float] | None = None,
        gamma: float = 0.01,
        eps: float | None = None,
        weight_decay: float | None = None,
        clip_threshold: float = 1.0,
        *,
        convention: str = "paper",
        **common: Unpack[CommonOptions],
    ) -> None:
        self._given = threading.local()  # the estimate on its way from step() to where the lock is held
        self._hessians: tuple[Any, Engine] | None = None  # what it was made for, and the engine
        super().__init__(
            params,
            sophia.rule_for,
            lr=lr,
            betas=betas,
            gamma=gamma,
            eps=eps,
            weight_decay=weight_decay,
            clip_threshold=clip_threshold,
            convention=convention,
            **common,
        )

    def step(
        self,
        grads: Any = ACCUMULATED,
        *,
        hessian: Any = None,
        grad_scale: float | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
        skip_nonfinite: bool = False,
        zero_grad: bool = False,
        stream: Any = None,
    ) -> StepInfo:
        """Move every parameter by one step, in place; see :meth:`schuss.Optimizer.step` for the arguments.

        ``hessian``: an estimate of the Hessian's diagonal, as for :meth:`update_hessian`. With the convention
        ``"paper"`` it counts in this step, with ``"optax"`` from the next one on. A step that is skipped skips it too.
        """
        before = getattr(self._given, "estimate", None)  # of a step that this one is called in the middle of
        self._given.estimate = hessian
        try:
            return super().step(
                grads,
                grad_scale=grad_scale,
                clip_norm=clip_norm,
                clip_value=clip_value,
                skip_nonfinite=skip_nonfinite,
                zero_grad=zero_grad,
                stream=stream,
            )
        finally:
            self._given.estimate = before

    def update_hessian(self, hessian: Any, *, stream: Any = None) -> None:
        """Take an estimate of the Hessian's diagonal into its running mean: ``h = beta2 * h + (1 - beta2) * estimate``.

        Parameters
        ----------
        hessian
            The structure of the parameters, as gradients in :meth:`step`: arrays of their shapes; None in place of an
            array leaves that tensor's mean alone. It is of what is minimized (with ``maximize``: of the negative), and
            none of the gradients' scaling and clipping is done to it.
        stream
            As in :meth:`step`.

        Raises
        ------
        TypeError, ValueError
            When the structure or an array does not fit. Nothing is changed then.
        """
        stepper = self._stepper
        with stepper.locked("update_hessian()"):
            self._parameters.swap.refuse("update_hessian()")
            memories = self._check_estimates(hessian)
            if stepper.seen_edits != stepper.edits.count:
                stepper.take_in_edits()
            stepper.use_stream(stream)
            self._update_hessians(memories)

    def _step(self, gradients: list[Any], options: StepOptions) -> StepInfo:
        estimate = getattr(self._given, "estimate", None)
        if estimate is None:
            return super()._step(gradients, options)
        parameters = self._parameters
        memories = self._check_estimates(estimate)
        late = [parameters.groups[group]["convention"] == "optax" for group in parameters.group_of]
        after = [memory if wait else None for memory, wait in zip(memories, late, strict=True)]
        if options.zero_grad:
            self._refuse_zeroed(gradients, after)
        before: list[Memory | None] = [None if wait else memory for memory, wait in zip(memories, late, strict=True)]

        def before_update() -> None:
            pending, before[:] = list(before), [None] * len(before)
            self._update_hessians(pending)

        with DeferInterrupt():
            info = self._stepper.step_after(gradients, options, before_update)
            if not info.skipped:
                before_update()  # where no tensor had a gradient
                self._update_hessians(after)
        return info

    def _check_estimates(self, hessian: Any) -> list[Memory | None]:
        """Find where the arrays of an estimate lie, checked as gradients are."""
        given = self._parameters.match(hessian, "hessian")
        try:
            return self._parameters.check_gradients(given)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace("gradient", "hessian estimate")) from None

    def _refuse_zeroed(self, gradients: list[Any], after: Sequence[Memory | None]) -> None:
        """Raise where an estimate that is read after the step shares memory with a gradient that is zeroed in it."""
        parameters = self._parameters
        matched = gradients if parameters.flat_type is None else parameters.match(gradients)
        found = [memory for memory in parameters.check_gradients(matched, True) if memory is not None]
        for name, memory in zip(parameters.names, after, strict=True):
            if memory is not None and any(overlap(memory, gradient) for gradient in found):
                raise ValueError(
                    f"zero_grad: the hessian estimate of {name!r} shares memory with a gradient; pass a copy"
                )

    def _hessian_engine(self) -> Engine:
        """Return the engine that updates the running means: another one once the states may be others."""
        parameters, stepper = self._parameters, self._stepper
        made_for = stepper.engine, stepper.stored.times_made
        if self._hessians is None or self._hessians[0] != made_for:
            tensors = [
                Tensor(
                    name,
                    sophia.SOPHIA_HESSIAN,
                    parameter,
                    (tensor.states[tensor.rule.State._fields.index("hessian")],),
                    *states.expected_gradient(parameter),
                    stochastic=stepper.storage.stochastic,
                )
                for name, parameter, tensor in zip(
                    parameters.names, parameters.memories, stepper.engine.tensors, strict=True
                )
            ]
            self._hessians = made_for, stepper.make_engine(tensors, np.zeros(1, np.int64))
        return self._hessians[1]

    def _update_hessians(self, memories: Sequence[Memory | None]) -> None:
        """Take estimates, one a tensor, into the running means: one launch, which leaves all else as it is."""
        if all(memory is None for memory in memories):
            return
        parameters, stepper = self._parameters, self._stepper
        stepper.make_states(number for number, memory in enumerate(memories) if memory is not None)
        engine = self._hessian_engine()
        engine.stream = stepper.engine.stream
        slots: dict[int, int] = {}  # of every parameter group with an estimate
        dtypes: dict[int, list[np.dtype]] = {}
        for number, (memory, group) in enumerate(zip(memories, parameters.group_of, strict=True)):
            if memory is not None:
                slots.setdefault(group, number)
                dtypes.setdefault(group, []).append(states.compute_dtype(parameters.memories[number]))
        engine.set_slots(
            [None if m is None else slots[group] for m, group in zip(memories, parameters.group_of, strict=True)]
        )
        high, low = random_key(stepper.storage.seed, -1 - self.steps)  # other bits than those of any step
        for group, slot in slots.items():
            options = {"betas": parameters.groups[group]["betas"]}
            riders = Riders(key_high=float(high), key_low=float(low))
            rule, computed = sophia.SOPHIA_HESSIAN, list(dict.fromkeys(dtypes[group]))
            engine.prepare([slot], computed, riders, rule.begin(1, options)[0], (rule, 1, options, None, None))
        engine.step(list(memories))
