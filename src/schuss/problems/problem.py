"""What a problem is: parameters, a loss, its exact gradient, and what is known of the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Params = dict[str, np.ndarray]
Span = tuple[float, float]


@dataclass(frozen=True)
class Problem:
    """Something to descend on (or to ascend).

    ``start()`` makes the parameters, fresh arrays at each call: a dict of names and arrays of at least one axis,
    float64 unless the problem says otherwise. ``loss(params)`` is a float, ``gradient(params)`` a dict of the same
    names and shapes; both leave the parameters as they are. Where there is data, ``loss(params, X, y)`` and
    ``gradient(params, X, y)`` are those of some of its rows.

    Attributes
    ----------
    name, title, source
        The function in :mod:`schuss.problems` that makes it; a line to show; where it comes from.
    start, loss, gradient
        As above.
    X, y
        The data, one row a sample, or None.
    answer
        The known minimum (maximum), or None. ``start()`` need not lead to it where there are several.
    maximize
        Whether to go up.
    view
        Limits for a picture. For two numbers: those of the first and of the second. For one number: its own and those
        of the loss.
    score
        ``score(params)``: what a network is for: its share of right answers on data that it has not seen.
    lrs
        A learning rate that does well here for each optimizer (keys of :data:`schuss.optim.registry.VARIANTS`).
    epochs, strategy, batch_size
        How long, and with which data in a step, ``lrs`` were found.
    """

    name: str
    title: str
    source: str
    start: Callable[[], Params]
    loss: Callable[..., float]
    gradient: Callable[..., Params]
    X: np.ndarray | None = None
    y: np.ndarray | None = None
    answer: Params | None = None
    maximize: bool = False
    view: tuple[Span, Span] | None = None
    score: Callable[[Params], float] | None = None
    lrs: Mapping[str, float] = field(default_factory=dict)
    epochs: int = 100
    strategy: str = "batch"
    batch_size: int = 64

    def vector(self, params: Mapping[str, Any]) -> np.ndarray:
        """All parameters (or a gradient, or an answer) end to end in one new array."""
        return np.concatenate([np.ravel(params[name]) for name in self.start()])

    def params(self, vector: np.ndarray) -> Params:
        """What :meth:`vector` made one array of, in new arrays of the vector's own float dtype (others: float64).

        Raises
        ------
        ValueError
            When there are too few or too many numbers.
        """
        vector = np.asarray(vector)
        vector = vector if vector.dtype.kind == "f" else vector.astype(np.float64)
        like = self.start()
        size = sum(array.size for array in like.values())
        if vector.shape != (size,):
            raise ValueError(f"vector: expected shape ({size},), got {vector.shape}")
        parts = np.split(vector, np.cumsum([array.size for array in like.values()])[:-1])
        return {name: part.reshape(array.shape).copy() for part, (name, array) in zip(parts, like.items(), strict=True)}

    def fun(self, vector: np.ndarray, *data: Any) -> float:
        """The loss at the parameters in a vector: with :meth:`jac`, what ``minimize`` of SciPy and schuss take."""
        return self.loss(self.params(vector), *data)

    def jac(self, vector: np.ndarray, *data: Any) -> np.ndarray:
        """The gradient at the parameters in a vector, as a vector."""
        return self.vector(self.gradient(self.params(vector), *data))

    def __repr__(self) -> str:
        return f"<Problem {self.name}: {self.title}>"
