"""Which data a step sees: all of it, one sample, or a few of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..core.validate import did_you_mean, whole

STRATEGIES = ("batch", "stochastic", "mini-batch")

BATCH_SIZE = 64
"""Rows of a mini-batch where the caller does not say how many, and there are so many."""


def batches(
    X: Any,
    y: Any = None,
    strategy: str = "mini-batch",
    batch_size: int | None = None,
    shuffle: bool = True,
    seed: Any = 0,
    drop_last: bool = False,
) -> Iterator[tuple[Any, Any]]:
    """The data of an epoch, in the portions that the steps of gradient descent take.

    Parameters
    ----------
    X, y
        Arrays of any dtype with the same number of rows, at least one; ``y`` may be None. Lists are made arrays; what
        has a shape and takes a slice or an array of integers in brackets (torch's tensors, SciPy's CSR) stays itself.
    strategy
        ``"batch"``: everything in one portion. ``"stochastic"``: one row a portion. ``"mini-batch"``: ``batch_size``
        rows a portion, the last one shorter where they do not divide the data.
    batch_size
        From 1 to the number of rows; None for 64, or all rows where there are fewer. The other two strategies do not
        look at it.
    shuffle
        Go through the rows in a random order; otherwise, from first to last. (A batch is not put in another order.)
    seed
        Of the order: whatever ``np.random.default_rng`` takes. The same seed gives the same order. A
        ``np.random.Generator`` goes on from where it is, and so gives each epoch another order; so does the seed
        ``(seed, epoch)``.
    drop_last
        Leave out a last portion that is shorter.

    Returns
    -------
    Iterator
        Pairs ``(X_rows, y_rows)``, with None for a ``y`` that is None. They are views of ``X`` and ``y`` unless rows
        in a random order come together (``"mini-batch"`` with ``shuffle`` and more than one row), which takes a copy.

    Raises
    ------
    TypeError, ValueError
        At the call: for lengths that differ, no rows, an unknown strategy, a batch size that cannot be.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> X, y = np.arange(10.0).reshape(5, 2), np.arange(5)
    >>> [rows.tolist() for _, rows in schuss.batches(X, y, batch_size=2, shuffle=False)]
    [[0, 1], [2, 3], [4]]
    >>> sum(len(rows) for _, rows in schuss.batches(X, y, "stochastic", seed=1))
    5
    """
    check(strategy)
    X = _rows("X", X)
    y = None if y is None else _rows("y", y)
    count = X.shape[0]
    if count == 0:
        raise ValueError(f"X: expected at least one row, got shape {tuple(X.shape)}")
    if y is not None and y.shape[0] != count:
        raise ValueError(f"X and y: expected the same number of rows, got {count} and {y.shape[0]}")
    size = {"batch": count, "stochastic": 1}.get(strategy) or _size(batch_size, count)
    order = generator(seed).permutation(count) if shuffle and size < count else None
    stop = count - count % size if drop_last else count
    return _portions(X, y, size, order, stop)


def check(strategy: Any) -> None:
    """Raise ValueError unless this is the name of a strategy."""
    if not isinstance(strategy, str) or strategy not in STRATEGIES:
        near = did_you_mean(strategy, STRATEGIES) if isinstance(strategy, str) else ""
        raise ValueError(f"strategy: expected one of {', '.join(map(repr, STRATEGIES))}, got {strategy!r}{near}")


def _portions(X: Any, y: Any, size: int, order: np.ndarray | None, stop: int) -> Iterator[tuple[Any, Any]]:
    for first in range(0, stop, size):
        rows: Any = slice(first, min(first + size, stop))
        if order is not None:
            rows = order[rows]
            if size == 1:
                rows = slice(rows.item(), rows.item() + 1)
        yield X[rows], None if y is None else y[rows]


def _rows(name: str, data: Any) -> Any:
    # A pandas table has a shape too, but takes columns in brackets.
    if not hasattr(data, "shape") or hasattr(data, "iloc"):
        try:
            data = np.asarray(data)
        except ValueError as error:  # rows of different lengths
            raise ValueError(f"{name}: expected an array, got something that makes none: {error}") from None
    if len(data.shape) == 0:
        raise ValueError(f"{name}: expected an array with rows, got {data!r}")
    return data


def _size(batch_size: Any, count: int) -> int:
    if batch_size is None:
        return min(BATCH_SIZE, count)
    try:
        size = whole(batch_size)
    except (TypeError, ValueError) as error:
        raise type(error)(f"batch_size: {error}, got {batch_size!r}") from None
    if not 1 <= size <= count:
        raise ValueError(f"batch_size: expected a whole number from 1 to the {count} rows there are, got {batch_size}")
    return size


def generator(seed: Any) -> np.random.Generator:
    """What draws the order of the rows.

    Raises
    ------
    TypeError, ValueError
        For a seed that ``np.random.default_rng`` does not take.
    """
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(f"seed: expected what np.random.default_rng takes, got {seed!r}: {error}") from None
