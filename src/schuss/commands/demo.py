"""What ``schuss demo`` runs: a small network in plain NumPy, trained by every optimizer."""

from __future__ import annotations

import importlib
import itertools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import console, workloads
from .console import Column, CommandError
from .workloads import Variant

HIDDEN = (96, 48)
"""Units of the hidden layers."""

Params = dict[str, np.ndarray]


@dataclass(frozen=True)
class Digits:
    """8 x 8 images of digits as rows of 64 float32 numbers in [0, 1], and what they show."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


@dataclass(frozen=True)
class Outcome:
    """What training came to. Times are medians over the steps; accuracy in [0, 1]."""

    accuracy: float
    loss: float
    step_s: float
    optimizer_s: float


def load_digits(seed: int) -> Digits:
    """Scikit-learn's digits, a quarter of them kept for the test.

    Raises
    ------
    CommandError
        When scikit-learn is not installed.
    """
    try:
        datasets = importlib.import_module("sklearn.datasets")
    except ImportError:
        raise CommandError("the demo needs scikit-learn: pip install 'schuss[demo]'") from None
    data = datasets.load_digits()
    order = np.random.default_rng(seed).permutation(len(data.target))
    x, y = (data.data[order] / 16.0).astype(np.float32), data.target[order]
    count = len(y) // 4
    return Digits(x[count:], y[count:], x[:count], y[:count])


def network(seed: int, sizes: Sequence[int]) -> Params:
    """Weights (He's initialisation) and biases of a network with one layer between each two sizes."""
    rng = np.random.default_rng(seed)
    params = {}
    for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        params[f"w{number}"] = rng.standard_normal((inputs, outputs), np.float32) * np.float32(np.sqrt(2.0 / inputs))
        params[f"b{number}"] = np.zeros(outputs, np.float32)
    return params


def forward(params: Params, x: np.ndarray) -> list[np.ndarray]:
    """The input, what each hidden layer puts out (ReLU), and last the logits."""
    outputs, layers = [x], len(params) // 2
    for number in range(layers):
        z = outputs[-1] @ params[f"w{number}"] + params[f"b{number}"]
        outputs.append(np.maximum(z, 0.0) if number < layers - 1 else z)
    return outputs


def cross_entropy(logits: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean softmax cross entropy, and its gradient with respect to the logits."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponential = np.exp(shifted)
    total = exponential.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = float((np.log(total[:, 0]) - shifted[rows, y]).mean())
    gradient = exponential / total
    gradient[rows, y] -= 1.0
    gradient /= len(y)
    return loss, gradient


def gradients(params: Params, x: np.ndarray, y: np.ndarray) -> Params:
    """The gradient of the loss with respect to every parameter."""
    outputs = forward(params, x)
    _, delta = cross_entropy(outputs.pop(), y)
    grads = {}
    for number in reversed(range(len(outputs))):
        grads[f"w{number}"] = outputs[number].T @ delta
        grads[f"b{number}"] = delta.sum(axis=0)
        if number > 0:
            delta = (delta @ params[f"w{number}"].T) * (outputs[number] > 0.0)
    return grads


def train(
    variant: Variant, data: Digits, *, epochs: int, batch_size: int, seed: int, progress: console.Progress | None = None
) -> Outcome:
    """Train a new network with one optimizer; compiling is not in the times."""
    params = network(seed, (data.train_x.shape[1], *HIDDEN, 10))
    spare = {name: array.copy() for name, array in params.items()}
    first_grads = gradients(spare, data.train_x[:batch_size], data.train_y[:batch_size])
    variant.build(spare, lr=variant.demo_lr).step(first_grads)

    optimizer = variant.build(params, lr=variant.demo_lr)
    rng = np.random.default_rng(seed)
    steps, inside = [], []
    for epoch in range(epochs):
        order = rng.permutation(len(data.train_y))
        for first in range(0, len(order), batch_size):
            batch = order[first : first + batch_size]
            x, y = data.train_x[batch], data.train_y[batch]
            start = time.perf_counter()
            grads = gradients(params, x, y)
            before = time.perf_counter()
            optimizer.step(grads)
            end = time.perf_counter()
            steps.append(end - start)
            inside.append(end - before)
        if progress is not None:
            correct = accuracy(params, data.test_x, data.test_y)
            progress.show(f"{variant.title}: epoch {epoch + 1} of {epochs}, test accuracy {correct:.1%}")
    loss, _ = cross_entropy(forward(params, data.train_x)[-1], data.train_y)
    return Outcome(
        accuracy(params, data.test_x, data.test_y), loss, statistics.median(steps), statistics.median(inside)
    )


def accuracy(params: Params, x: np.ndarray, y: np.ndarray) -> float:
    """The share of images the network names rightly."""
    return float((forward(params, x)[-1].argmax(axis=1) == y).mean())


COLUMNS = (
    Column("\noptimizer", 26, left=True),
    Column("\nlr", 7),
    Column("test\naccuracy", 9),
    Column("train\nloss", 8),
    Column("ms/\nstep", 7),
    Column("of it in the\noptimizer", 13),
)


def run(keys: Sequence[str], *, epochs: int, batch_size: int, seed: int) -> dict[str, Outcome]:
    """Train with each of the optimizers and print a table as they finish.

    Raises
    ------
    CommandError
        When scikit-learn is not installed.
    """
    data = load_digits(seed)
    sizes = (data.train_x.shape[1], *HIDDEN, 10)
    count = sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(sizes))
    batches = -(-len(data.train_y) // batch_size)
    print(
        f"Handwritten digits: {len(data.train_y)} images to train on, {len(data.test_y)} to test. Network "
        f"{'-'.join(map(str, sizes))}, {count:,} parameters,\n"
        f"float32, written in NumPy; {epochs} epochs of {batches} steps; the same start and batches for all.\n"
    )
    print(console.heading(COLUMNS), flush=True)
    outcomes = {}
    with console.Progress() as progress:
        for key in keys:
            variant = workloads.VARIANTS[key]
            progress.show(f"{variant.title}: compiling")
            outcome = train(variant, data, epochs=epochs, batch_size=batch_size, seed=seed, progress=progress)
            progress.clear()
            cells = (
                variant.title,
                f"{variant.demo_lr:g}",
                f"{outcome.accuracy:.1%}",
                f"{outcome.loss:.4f}",
                f"{outcome.step_s * 1e3:.3f}",
                f"{outcome.optimizer_s / outcome.step_s:.1%}",
            )
            print(console.row(COLUMNS, cells), flush=True)
            outcomes[key] = outcome
    return outcomes
