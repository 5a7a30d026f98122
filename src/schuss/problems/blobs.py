"""Four clouds of points and a network of two hidden units that tells them apart."""

from __future__ import annotations

import numpy as np

from ..core.optional import need
from . import network
from .problem import Params, Problem
from .rates import RATES


def blobs_network() -> Problem:
    """A 2-2-4 network (sigmoid, softmax; 18 parameters) on four clouds of points in the plane.

    The data is ``make_blobs(1000, centers=4, n_features=2, random_state=0)``, split into 750 rows to train on and 250
    for ``score``, the share of those named rightly, with ``random_state=0`` and each class in proportion. Weights start
    at ``np.random.seed(0)``'s ``W1 = randn(2, 2)``, ``W2 = randn(2, 4)``, biases at zero. The loss is the mean cross
    entropy of the rows; gradients are means too.

    Raises
    ------
    ImportError
        Without scikit-learn.
    """
    datasets = need("sklearn.datasets", "scikit-learn", "blobs_network")
    selection = need("sklearn.model_selection", "scikit-learn", "blobs_network")
    points, classes = datasets.make_blobs(1000, centers=4, n_features=2, random_state=0)
    X, test_x, y, test_y = selection.train_test_split(points, classes, stratify=classes, random_state=0)

    def start() -> Params:
        rng = np.random.RandomState(0)  # what np.random.seed(0) sets
        return {"W1": rng.randn(2, 2), "b1": np.zeros(2), "W2": rng.randn(2, 4), "b2": np.zeros(4)}

    def loss(params: Params, X: np.ndarray = X, y: np.ndarray = y) -> float:
        return network.cross_entropy(network.forward(params, X, network.SIGMOID)[-1], y)[0]

    def gradient(params: Params, X: np.ndarray = X, y: np.ndarray = y) -> Params:
        return network.gradients(params, X, y, network.SIGMOID)

    return Problem(
        name="blobs_network",
        title="four clouds of points, a network 2-2-4",
        source="an exercise of courses on deep learning, on scikit-learn's make_blobs",
        start=start,
        loss=loss,
        gradient=gradient,
        X=X,
        y=y,
        score=lambda params: network.accuracy(params, test_x, test_y, network.SIGMOID),
        lrs=RATES["blobs_network"],
        epochs=100,
        strategy="mini-batch",
        batch_size=64,
    )
