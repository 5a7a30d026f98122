"""Problems that gradient descent is taught with, and the descent on them.

    problem = schuss.problems.sigmoid_neuron("A")
    history = schuss.problems.train(problem, "momentum", lr=0.5, epochs=200)

Each function here that makes a problem has exact gradients and says where it comes from; :func:`names` lists them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..core.validate import did_you_mean
from .blobs import blobs_network
from .digits import digits_mlp
from .lines import bids_roi, linear_regression, logistic_regression
from .neuron import sigmoid_neuron
from .problem import Params, Problem
from .surfaces import quadratic, ripples, rosenbrock, sine_parabola
from .training import History, train

__all__ = [
    "History",
    "Params",
    "Problem",
    "bids_roi",
    "blobs_network",
    "digits_mlp",
    "linear_regression",
    "logistic_regression",
    "make",
    "names",
    "quadratic",
    "ripples",
    "rosenbrock",
    "sigmoid_neuron",
    "sine_parabola",
    "train",
]

_MAKERS: dict[str, Callable[..., Problem]] = {
    "bids_roi": bids_roi,
    "bids_roi_100": partial(bids_roi, points=100),
    "sine_parabola": sine_parabola,
    "sigmoid_neuron": sigmoid_neuron,
    "sigmoid_neuron_b": partial(sigmoid_neuron, set="B"),
    "quadratic": quadratic,
    "ripples": ripples,
    "rosenbrock": rosenbrock,
    "linear_regression": linear_regression,
    "logistic_regression": logistic_regression,
    "blobs_network": blobs_network,
    "digits_mlp": digits_mlp,
}


def names() -> tuple[str, ...]:
    """The names of all problems, the small ones first."""
    return tuple(_MAKERS)


def make(name: str, **options: Any) -> Problem:
    """The problem of a name, with the options of its function; case, spaces and dashes do not matter.

    Raises
    ------
    ValueError
        When there is no such problem, with the nearest name.
    ImportError
        When it needs a package that is not installed.
    """
    plain = name.strip().lower().replace(" ", "_").replace("-", "_") if isinstance(name, str) else ""
    if plain not in _MAKERS:
        raise ValueError(f"problem: unknown name {name!r}{did_you_mean(plain, _MAKERS)} (known: {', '.join(_MAKERS)})")
    return _MAKERS[plain](**options)
