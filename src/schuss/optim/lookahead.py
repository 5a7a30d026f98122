from __future__ import annotations

from typing import Any

from ..core.step_options import StepInfo
from ..core.validate import number, whole
from ..core.wrapper import Wrapper
from ..optimizer import Optimizer
from .schedule_free import ScheduleFree


class Lookahead(Wrapper):
    """Lookahead: k steps of an optimizer forward, then back to a point on the way there.

    Beside every parameter stands its slow weight, which starts as the parameter. After every k-th step the slow weight
    goes a share of its way to the parameter, ``slow += alpha * (p - slow)``, and the parameter goes back to it, ``p =
    slow``: in the same pass over memory as the step itself, bit for bit the reference. All other steps are the
    optimizer's own.

    What else a step does sees the parameter as it is after both: a moving average (``ema=``), a copy (``copy_to=``), a
    master weight. A tensor that has no gradient in the k-th step is left alone, as always: it syncs with its slow
    weight k steps later.

    Parameters
    ----------
    optimizer
        Any optimizer of schuss that is not free of schedules (that one has an average of its own). It goes on from
        where it is; all that it has (``param_groups``, ``accumulate()``, ``use_ema()``, ``state_dict()``, ...) this has
        too. Steps of either are steps of both.
    k
        Steps from one sync to the next, a whole number of at least 1.
    alpha
        How far the slow weights go, above 0 and at most 1.

    State: ``slow`` of every parameter, in the type that is computed in. ``state_dict()`` has it, and the steps since
    the last sync.

    Raises
    ------
    TypeError, ValueError
        For what is no optimizer, is one that has slow weights already, or for other numbers.

    References
    ----------
    Zhang, Lucas, Hinton & Ba 2019 (arXiv:1907.08610), Algorithm 1.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.array([1.0, 2.0])
    >>> opt = schuss.Lookahead(schuss.SGD([w], lr=0.1), k=2)
    >>> for _ in range(2):
    ...     info = opt.step([np.array([1.0, -1.0])])
    >>> w
    array([0.9, 2.1])
    """

    def __init__(self, optimizer: Any, k: int = 5, alpha: float = 0.5) -> None:
        if isinstance(optimizer, Lookahead):
            raise ValueError(f"Lookahead: expected an optimizer without slow weights, got {optimizer!r}")
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"Lookahead: expected an optimizer of schuss, got {optimizer!r}")
        if isinstance(optimizer, ScheduleFree):
            raise ValueError(
                f"Lookahead: {type(optimizer).__name__} has an average of its own, which slow weights would take apart"
            )
        try:
            steps = whole(k)
        except (TypeError, ValueError) as error:
            raise type(error)(f"Lookahead: k: {error}, got {k!r}") from None
        if steps < 1:
            raise ValueError(f"Lookahead: k: expected a whole number of at least 1, got {k!r}")
        try:
            share = number(alpha)
        except TypeError as error:
            raise TypeError(f"Lookahead: alpha: {error}, got {alpha!r}") from None
        if not 0.0 < share <= 1.0:
            raise ValueError(f"Lookahead: alpha: expected a number above 0 and at most 1, got {alpha!r}")
        optimizer._stepper.add_slow_weights(steps, share)
        self.optimizer = optimizer
        self.k, self.alpha = steps, share

    def step(self, *args: Any, **kwargs: Any) -> StepInfo:
        """Make a step of the optimizer; parameters and slow weights sync after every k-th."""
        info: StepInfo = self.optimizer.step(*args, **kwargs)
        return info

    @property
    def slow_params(self) -> Any:
        """The slow weights, in the structure of the parameters: the arrays themselves."""
        optimizer = self.optimizer
        return optimizer._parameters.build(memory.array for memory in optimizer._stepper.slow_weights())

    def __repr__(self) -> str:
        return f"<Lookahead, k={self.k}, alpha={self.alpha:g}: {self.optimizer!r}>"

    def __reduce__(self) -> Any:
        return self.optimizer.__reduce__()
