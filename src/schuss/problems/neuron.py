"""One sigmoid neuron."""

from __future__ import annotations

import numpy as np

from .network import sigmoid
from .problem import Params, Problem
from .rates import RATES

SETS = {
    "A": ((3.5, 0.35, 3.2, -2.0, 1.5, -0.5), (0.5, 0.5, 0.5, 0.5, 0.1, 0.3), (-6.0, 4.0)),
    "B": ((0.5, 2.5), (0.2, 0.9), (-2.0, -2.0)),
}
"""Inputs, wanted outputs, and where w and b start."""


def sigmoid_neuron(set: str = "A", mean: bool = False) -> Problem:
    """A neuron y = sigmoid(w x + b) that is to put out given numbers; half the squared error, summed over the rows.

    Set ``"A"`` has six points that no neuron meets and flat plains around its valley; set ``"B"`` (in
    :func:`schuss.problems.names`: ``sigmoid_neuron_b``) two points, met at w = 1.791759, b = -2.282174.

    On A with ``lr=0.5``, 200 epochs: plain descent on the mean gradient ends at w = -6.252984, b = 3.220149; momentum
    0.9 on the summed one at -0.033476, -0.396938; AdaGrad, summed, at 0.020341, -0.426267.

    Parameters
    ----------
    set
        ``"A"`` or ``"B"``.
    mean
        Divide loss and gradient by the number of rows.

    Raises
    ------
    ValueError
        For another set.
    """
    key = set.upper() if isinstance(set, str) else ""
    if key not in SETS:
        raise ValueError(f"set: expected 'A' or 'B', got {set!r}")
    x, y, (w, b) = (np.array(numbers) for numbers in SETS[key])

    def share(rows: np.ndarray) -> float:
        return 1.0 / len(rows) if mean else 1.0

    def loss(params: Params, X: np.ndarray = x[:, None], y: np.ndarray = y) -> float:
        error = sigmoid(params["w"] * X[:, 0] + params["b"]) - y
        return float(np.square(error).sum() / 2.0 * share(y))

    def gradient(params: Params, X: np.ndarray = x[:, None], y: np.ndarray = y) -> Params:
        output = sigmoid(params["w"] * X[:, 0] + params["b"])
        delta = (output - y) * output * (1.0 - output) * share(y)
        return {"w": np.array([delta @ X[:, 0]]), "b": delta.sum(keepdims=True)}

    answer = {"w": np.array([0.02034063]), "b": np.array([-0.42626681])}  # by BFGS, from many starts
    if key == "B":
        met = np.log(y / (1.0 - y))  # what the neuron has to sum to
        slope = (met[1] - met[0]) / (x[1] - x[0])
        answer = {"w": np.array([slope]), "b": np.array([met[0] - slope * x[0]])}
    name = "sigmoid_neuron" if key == "A" else "sigmoid_neuron_b"
    return Problem(
        name=name,
        title=f"one sigmoid neuron, toy set {key}",
        source="an exercise of courses on deep learning: gradient descent and its variants on two parameters",
        start=lambda: {"w": np.full(1, w), "b": np.full(1, b)},
        loss=loss,
        gradient=gradient,
        X=x[:, None],
        y=y,
        answer=answer,
        view=((-7.0, 5.0), (-5.0, 5.0)) if key == "A" else ((-4.0, 6.0), (-5.0, 3.0)),
        lrs=RATES[name],
        epochs=200 if key == "A" else 1000,
    )
