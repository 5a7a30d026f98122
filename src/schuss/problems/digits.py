"""Handwritten digits and a network that learns to read them."""

from __future__ import annotations

import itertools

import numpy as np

from ..core.optional import need
from ..optim.registry import VARIANTS
from . import network
from .problem import Params, Problem

SIZES = (64, 96, 48, 10)
"""Pixels, the units of the hidden layers, classes."""


def digits_mlp(seed: int = 0) -> Problem:
    """A network of 64-96-48-10 units (ReLU, softmax; 11,386 parameters, float32) on scikit-learn's digits.

    The images, 8 x 8 pixels in [0, 1], are put in an order that ``seed`` gives; the first quarter is kept for
    ``score``, the share of those read rightly. The weights are He's normal ones, from the same seed, the biases zero.
    The loss is the mean cross entropy of the rows; gradients are means too.

    Raises
    ------
    ImportError
        Without scikit-learn.
    """
    data = need("sklearn.datasets", "scikit-learn", "digits_mlp").load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    images, digits = (data.data[order] / 16.0).astype(np.float32), data.target[order]
    held = len(digits) // 4
    X, y = images[held:], digits[held:]

    def start() -> Params:
        rng = np.random.default_rng(seed)
        params = {}
        for layer, (inputs, outputs) in enumerate(itertools.pairwise(SIZES), 1):
            scale = np.float32(np.sqrt(2.0 / inputs))
            params[f"W{layer}"] = rng.standard_normal((inputs, outputs), np.float32) * scale
            params[f"b{layer}"] = np.zeros(outputs, np.float32)
        return params

    def loss(params: Params, X: np.ndarray = X, y: np.ndarray = y) -> float:
        return network.cross_entropy(network.forward(params, X, network.RELU)[-1], y)[0]

    def gradient(params: Params, X: np.ndarray = X, y: np.ndarray = y) -> Params:
        return network.gradients(params, X, y, network.RELU)

    def score(params: Params) -> float:
        return network.accuracy(params, images[:held], digits[:held], network.RELU)

    return Problem(
        name="digits_mlp",
        title="handwritten digits, a network 64-96-48-10",
        source="Alpaydin & Kaynak 1998, Optical Recognition of Handwritten Digits (UCI), as in scikit-learn; "
        "initial weights: He, Zhang, Ren & Sun 2015 (arXiv:1502.01852)",
        start=start,
        loss=loss,
        gradient=gradient,
        X=X,
        y=y,
        score=score,
        lrs={key: variant.demo_lr for key, variant in VARIANTS.items()},
        epochs=20,
        strategy="mini-batch",
        batch_size=64,
    )
