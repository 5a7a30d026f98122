"""schuss demo: right gradients, every optimizer learns, the same seed gives the same result."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest

from schuss import cli
from schuss.commands import demo, workloads

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def data() -> demo.Digits:
    return demo.load_digits(0)


def test_digits(data):
    assert data.train_x.shape == (1348, 64)
    assert data.test_x.shape == (449, 64)
    assert data.train_x.dtype == np.float32
    assert data.train_x.min() == 0.0
    assert data.train_x.max() == 1.0
    assert set(data.train_y) == set(data.test_y) == set(range(10))


def test_gradients_are_those_of_the_loss(data):
    params = {name: array.astype(np.float64) for name, array in demo.network(1, (64, 5, 4, 10)).items()}
    x, y = data.train_x[:8].astype(np.float64), data.train_y[:8]
    grads = demo.gradients(params, x, y)
    assert {name: grad.shape for name, grad in grads.items()} == {name: array.shape for name, array in params.items()}

    def loss() -> float:
        return demo.cross_entropy(demo.forward(params, x)[-1], y)[0]

    rng = np.random.default_rng(0)
    for name, array in params.items():
        for place in rng.choice(array.size, min(array.size, 10), replace=False):
            kept, small = array.flat[place], 1e-6
            array.flat[place] = kept + small
            above = loss()
            array.flat[place] = kept - small
            below = loss()
            array.flat[place] = kept
            np.testing.assert_allclose(grads[name].flat[place], (above - below) / (2 * small), rtol=1e-5, atol=1e-8)


def test_network_is_float32(data):
    params = demo.network(0, (64, *demo.HIDDEN, 10))
    grads = demo.gradients(params, data.train_x[:64], data.train_y[:64])
    assert {array.dtype for array in (*params.values(), *grads.values())} == {np.dtype(np.float32)}


@pytest.mark.parametrize("key", workloads.VARIANTS)
def test_every_optimizer_learns(key, data):
    outcome = demo.train(workloads.VARIANTS[key], data, epochs=8, batch_size=64, seed=0)
    assert outcome.accuracy > 0.90
    assert outcome.loss < 0.3
    assert 0 < outcome.optimizer_s < outcome.step_s < 0.1


def test_same_seed_same_result(data):
    outcomes = [
        demo.train(workloads.VARIANTS["adamw"], data, epochs=2, batch_size=100, seed=seed) for seed in (3, 3, 4)
    ]
    first, again, other = ((outcome.accuracy, outcome.loss) for outcome in outcomes)
    assert first == again
    assert first != other


def test_command(capsys):
    arguments = ["demo", "--optimizer", "adamw,sgd", "--epochs", "2", "--batch-size", "128", "--seed", "1"]
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    assert "\r" not in out
    rows = re.findall(r"^(SGD|AdamW) +(\S+) +(\S+)% +(\S+) +(\S+) +(\S+)%$", out, re.MULTILINE)
    assert [(name, float(lr)) for name, lr, *_ in rows] == [("SGD", 0.3), ("AdamW", 0.003)]
    for _, _, accuracy, loss, ms, share in rows:
        assert 10 < float(accuracy) <= 100
        assert float(loss) > 0
        assert float(ms) > 0
        assert 0 < float(share) < 100


def test_without_scikit_learn(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert cli.main(["demo"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "schuss: error: the demo needs scikit-learn: pip install 'schuss[demo]'\n"
