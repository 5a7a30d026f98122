"""schuss.problems.train: what it records, when it ends, and what it refuses."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from cases import said

import schuss
from schuss import problems


@pytest.mark.parametrize("record", [None, "step", "epoch"])
def test_history(record):
    problem = problems.bids_roi(points=100)
    seen = []
    history = problems.train(
        problem,
        "adam",
        strategy="mini-batch",
        batch_size=32,
        epochs=5,
        record=record,
        callback=lambda epoch, so_far: seen.append((epoch, so_far.loss, so_far.steps)),
    )
    assert history.steps == 20  # 32 + 32 + 32 + 4 rows
    assert len(history.losses) == len(history.seconds) == 6
    assert len(history.gradient_s) == len(history.optimizer_s) == 20
    assert history.seconds[0] == 0.0
    assert all(np.diff(history.seconds) > 0.0)
    assert history.seconds[-1] == pytest.approx(sum(history.gradient_s) + sum(history.optimizer_s))
    assert history.losses[0] == problem.loss(problem.start())
    assert history.loss == problem.loss(history.params)
    assert seen == [(epoch, history.losses[epoch], 4 * epoch) for epoch in range(1, 6)]
    assert history.message == "made all 5 epochs"
    assert not history.diverged
    assert len(history.path) == {None: 0, "epoch": 6, "step": 21}[record]
    if record is not None:
        np.testing.assert_array_equal(problem.vector(history.path[0]), problem.vector(problem.start()))
        np.testing.assert_array_equal(problem.vector(history.path[-1]), problem.vector(history.params))
        assert len({tuple(problem.vector(point)) for point in history.path}) == len(history.path)
        assert not np.shares_memory(history.path[-1]["slope"], history.params["slope"])


def test_recording_changes_nothing():
    ends = []
    for record in (None, "step", "epoch"):
        history = problems.train(problems.bids_roi(100), "adam", strategy="stochastic", epochs=2, seed=4, record=record)
        ends.append(np.concatenate([*history.params.values(), history.losses]))
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[0], ends[2])


def test_seed_gives_the_order():
    def end(seed):
        return problems.train(problems.bids_roi(100), "sgd", strategy="stochastic", epochs=2, seed=seed).losses

    assert end(1) == end(1)
    assert end(1) != end(2)


def test_training_is_plain_steps():
    """The same as a loop that a user would write, with another order of the rows in each epoch."""
    problem = problems.bids_roi(100)
    history = problems.train(problem, "momentum", lr=1e-4, strategy="mini-batch", batch_size=30, epochs=3, seed=7)
    params, rng = problem.start(), np.random.default_rng(7)
    optimizer = schuss.SGD(params, lr=1e-4, momentum=0.9)
    for _ in range(3):
        for X, y in schuss.batches(problem.X, problem.y, batch_size=30, seed=rng):
            optimizer.step(problem.gradient(params, X, y))
    np.testing.assert_array_equal(problem.vector(history.params), problem.vector(params))


@pytest.mark.parametrize(
    "optimizer", ["adam", schuss.Adam, lambda params, **options: schuss.Adam(params, **options)], ids=said
)
def test_optimizers_by_name_class_and_function(optimizer):
    history = problems.train(problems.rosenbrock(), optimizer, lr=0.1, epochs=10)
    expected = problems.train(problems.rosenbrock(), lambda params: schuss.Adam(params, lr=0.1), epochs=10)
    assert history.losses == expected.losses


def test_a_name_takes_the_learning_rate_of_the_problem():
    problem = problems.rosenbrock()
    history = problems.train(problem, "nesterov", epochs=10)
    assert history.losses == problems.train(problem, "sgd-nesterov", lr=problem.lrs["sgd-nesterov"], epochs=10).losses
    scheduled = problems.train(problem, "nesterov", lr=lambda step: problem.lrs["sgd-nesterov"], epochs=10)
    assert history.losses == scheduled.losses


def test_up_whatever_the_optimizer_says():
    for maximize in (False, True):
        history = problems.train(
            problems.sine_parabola(), lambda params, up=maximize: schuss.SGD(params, lr=0.02, maximize=up), epochs=50
        )
        assert history.loss == pytest.approx(4.45434, abs=1e-5)


@pytest.mark.parametrize("lr", [1.0, 1e10, 1e300])
@pytest.mark.parametrize("record", ["step", "epoch"])
def test_diverging_ends_at_the_last_finite_point(lr, record, recwarn):
    problem = problems.bids_roi(100)
    history = problems.train(problem, "sgd", lr=lr, strategy="mini-batch", batch_size=25, epochs=1000, record=record)
    assert history.diverged
    assert history.message.startswith("diverged in epoch ")
    assert np.isfinite(problem.vector(history.params)).all()
    assert problem.loss(history.params) == history.loss
    assert np.isfinite(history.losses).all()
    assert len(history.losses) == len(history.seconds)
    np.testing.assert_array_equal(problem.vector(history.path[-1]), problem.vector(history.params))
    assert len(history.path) == 1 + (history.steps if record == "step" else len(history.losses) - 1)
    assert not recwarn.list


def test_the_callback_can_end_it():
    def enough(epoch, history):
        if epoch == 3:
            raise StopIteration

    history = problems.train(problems.rosenbrock(), "adam", epochs=10, callback=enough)
    assert history.steps == 3
    assert history.message == "stopped by the callback after epoch 3"


def test_no_epochs():
    history = problems.train(problems.rosenbrock(), "adam", epochs=0, record="step")
    assert history.losses == [problems.rosenbrock().loss(problems.rosenbrock().start())]
    assert len(history.path) == 1
    assert history.steps == 0


def test_a_start_that_is_not_finite():
    problem = dataclasses.replace(problems.rosenbrock(), loss=lambda params: math.nan)
    with pytest.raises(ValueError, match="the loss of rosenbrock at its start is nan"):
        problems.train(problem, "adam")


def train(optimizer, **options):
    return problems.train(problems.bids_roi(), optimizer, **options)


BAD = [
    (lambda: train("rmspro"), ValueError, "optimizer: unknown name 'rmspro', did you mean 'rmsprop'?"),
    (lambda: train(3), TypeError, "optimizer: expected a name, a class or a function of the parameters, got 3"),
    (lambda: train(int), TypeError, "optimizer: expected a name, a class or a function"),
    (lambda: train(schuss.SGD([np.ones(1)])), TypeError, "got an optimizer that has its parameters already"),
    (lambda: train(lambda params: None), TypeError, "expected a function that returns a schuss optimizer, got None"),
    (lambda: train("adam", lrr=1.0), TypeError, "unknown option 'lrr', did you mean 'lr'?"),
    (lambda: train("adam", epochs=-1), ValueError, "epochs: expected a whole number of at least 0, got -1"),
    (lambda: train("adam", epochs=1.5), ValueError, "epochs: "),
    (lambda: train("adam", record="steps"), ValueError, "record: expected 'step', 'epoch' or None, got 'steps'"),
    (
        lambda: train("adam", strategy="mini-batch", batch_size=64),
        ValueError,
        "batch_size: .* from 1 to the 3 rows there are, got 64",
    ),
    (
        lambda: train("adam", strategy="minibatch"),
        ValueError,
        "strategy: .*, did you mean 'mini-batch'",
    ),
    (lambda: train("adam", seed="x"), TypeError, "seed: "),
    (lambda: problems.train("bids_roi", "adam"), TypeError, "problem: expected a schuss.problems.Problem, got 'bids"),
    (
        lambda: problems.train(problems.ripples(), "adam", strategy="stochastic"),
        ValueError,
        "strategy: ripples has no data, so there is only 'batch'; got 'stochastic'",
    ),
    (lambda: problems.train(problems.ripples(), "adam", strategy="x"), ValueError, "strategy: expected one of"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD)
def test_errors(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
