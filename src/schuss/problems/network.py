"""Small networks in plain NumPy: layers of weights and biases, a softmax at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .problem import Params


@dataclass(frozen=True)
class Activation:
    """What a hidden unit puts out, and the slope of that, as functions of its input and of its output."""

    output: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]


def sigmoid(z: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-z))`` without an overflow, in the dtype of ``z``."""
    small = np.exp(-np.abs(z))
    return np.where(z >= 0.0, 1.0, small) / (1.0 + small)


RELU = Activation(lambda z: np.maximum(z, 0.0), lambda output: output > 0.0)
SIGMOID = Activation(sigmoid, lambda output: output * (1.0 - output))


def forward(params: Params, X: np.ndarray, hidden: Activation) -> list[np.ndarray]:
    """The input, what each hidden layer puts out, last the logits. Weights are ``W1``, ``W2``, biases ``b1``, ..."""
    outputs, layers = [X], len(params) // 2
    for layer in range(1, layers + 1):
        z = outputs[-1] @ params[f"W{layer}"] + params[f"b{layer}"]
        outputs.append(hidden.output(z) if layer < layers else z)
    return outputs


def cross_entropy(logits: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean of minus the logarithm of the softmax at the classes ``y``, and its gradient in the logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponential = np.exp(shifted)
    total = exponential.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = float((np.log(total[:, 0]) - shifted[rows, y]).mean())
    gradient = exponential / total
    gradient[rows, y] -= 1.0
    gradient /= len(y)
    return loss, gradient


def gradients(params: Params, X: np.ndarray, y: np.ndarray, hidden: Activation) -> Params:
    """The gradient of the mean cross entropy: backpropagation."""
    outputs = forward(params, X, hidden)
    _, delta = cross_entropy(outputs.pop(), y)
    grads = {}
    for layer in range(len(outputs), 0, -1):
        grads[f"W{layer}"] = outputs[layer - 1].T @ delta
        grads[f"b{layer}"] = delta.sum(axis=0)
        if layer > 1:
            delta = (delta @ params[f"W{layer}"].T) * hidden.slope(outputs[layer - 1])
    return {name: grads[name] for name in params}


def accuracy(params: Params, X: np.ndarray, y: np.ndarray, hidden: Activation) -> float:
    """The share of rows whose largest logit is that of their class."""
    return float((forward(params, X, hidden)[-1].argmax(axis=1) == y).mean())
