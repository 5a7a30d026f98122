"""schuss.batches: every row once, the same order for the same seed, views where the order allows."""

from __future__ import annotations

import numpy as np
import pytest

import schuss
from schuss.descent.batches import STRATEGIES

X = np.arange(26.0).reshape(13, 2)
Y = np.arange(13)

#        strategy      options                                             rows of each portion
PORTIONS = [
    ("batch", {}, [13]),
    ("batch", {"batch_size": 0, "drop_last": True}, [13]),
    ("stochastic", {}, [1] * 13),
    ("stochastic", {"shuffle": False, "drop_last": True}, [1] * 13),
    ("mini-batch", {"batch_size": 4}, [4, 4, 4, 1]),
    ("mini-batch", {"batch_size": 4, "drop_last": True}, [4, 4, 4]),
    ("mini-batch", {"batch_size": 4, "shuffle": False}, [4, 4, 4, 1]),
    ("mini-batch", {"batch_size": 1}, [1] * 13),
    ("mini-batch", {"batch_size": np.int64(13), "drop_last": True}, [13]),
]


@pytest.mark.parametrize(("strategy", "options", "lengths"), PORTIONS)
def test_portions(strategy, options, lengths):
    portions = list(schuss.batches(X, Y, strategy, **options))
    assert [len(rows) for _, rows in portions] == lengths
    seen = np.concatenate([rows for _, rows in portions])
    assert len(set(seen.tolist())) == sum(lengths)
    for rows_x, rows_y in portions:
        np.testing.assert_array_equal(rows_x, X[rows_y])  # the rows of X belong to those of y
    if strategy == "batch" or options.get("shuffle") is False or options.get("batch_size") == 13:
        np.testing.assert_array_equal(seen, Y[: len(seen)])
    else:
        assert seen.tolist() != Y[: len(seen)].tolist()


@pytest.mark.parametrize(("strategy", "options", "lengths"), PORTIONS)
def test_views_where_the_order_allows(strategy, options, lengths):
    copies = strategy == "mini-batch" and options.get("shuffle", True) and options["batch_size"] not in (1, 13)
    for rows_x, rows_y in schuss.batches(X, Y, strategy, **options):
        assert np.shares_memory(rows_x, X) != copies
        assert np.shares_memory(rows_y, Y) != copies


def order(**options):
    return [rows.item() for _, rows in schuss.batches(X, Y, "stochastic", **options)]


def test_seeds():
    assert order(seed=3) == order(seed=3)
    assert order() == order(seed=0)
    assert order(seed=3) != order(seed=4)
    assert order(seed=(0, 1)) != order(seed=(0, 2))
    rng = np.random.default_rng(5)
    assert order(seed=rng) != order(seed=rng)
    assert order(seed=np.random.default_rng(5)) == order(seed=5)


def test_a_generator_gives_the_order_of_its_permutation():
    taken = np.random.default_rng(8).permutation(13)
    np.testing.assert_array_equal(order(seed=8), taken)


def test_is_an_iterator_and_leaves_the_data_alone():
    portions = schuss.batches(X, Y, batch_size=4)
    assert iter(portions) is portions
    next(portions)[0][...] = -1.0
    assert (np.arange(26.0).reshape(13, 2) == X).all()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_other_containers(strategy):
    lists = [rows for _, rows in schuss.batches(X.tolist(), Y.tolist(), strategy, batch_size=4)]
    arrays = [rows for _, rows in schuss.batches(X, Y, strategy, batch_size=4)]
    for one, other in zip(lists, arrays, strict=True):
        np.testing.assert_array_equal(one, other)
    assert all(rows is None for _, rows in schuss.batches(X, strategy=strategy, batch_size=4))
    assert sum(len(rows) for rows, _ in schuss.batches(X, strategy=strategy, batch_size=4)) == 13


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_tensors_and_sparse_rows(strategy):
    torch, sparse = pytest.importorskip("torch"), pytest.importorskip("scipy.sparse")
    tensor, matrix = torch.as_tensor(X), sparse.csr_array(X)
    for (rows_x, rows_y), (rows_s, _) in zip(
        schuss.batches(tensor, torch.as_tensor(Y), strategy, batch_size=4),
        schuss.batches(matrix, Y, strategy, batch_size=4),
        strict=True,
    ):
        assert isinstance(rows_x, torch.Tensor)
        np.testing.assert_array_equal(rows_x.numpy(), X[rows_y.numpy()])
        np.testing.assert_array_equal(rows_s.toarray(), X[rows_y.numpy()])


def test_fewer_rows_than_a_batch_has_unless_told_are_one_batch():
    assert [len(rows) for rows, _ in schuss.batches(X, Y)] == [13]
    assert [len(rows) for rows, _ in schuss.batches(np.zeros((100, 2)))] == [64, 36]
    assert [len(rows) for rows, _ in schuss.batches(X, Y, batch_size=np.array(5))] == [5, 5, 3]


BAD = [
    ({"strategy": "minibatch"}, ValueError, "strategy: expected one of 'batch', 'stochastic', 'mini-batch', got "),
    ({"strategy": "minibatch"}, ValueError, "did you mean 'mini-batch'?"),
    ({"strategy": None}, ValueError, "strategy: expected one of .* got None"),
    ({"batch_size": 0}, ValueError, "batch_size: expected a whole number from 1 to the 13 rows there are, got 0"),
    ({"batch_size": 14}, ValueError, "batch_size: .* got 14"),
    ({"batch_size": 64}, ValueError, "batch_size: .* got 64"),
    ({"batch_size": -1}, ValueError, "batch_size: .* got -1"),
    ({"batch_size": True}, ValueError, "batch_size: .* got True"),
    ({"batch_size": 4.0}, TypeError, "batch_size: expected a whole number, got 4.0"),
    ({"batch_size": "4"}, TypeError, "batch_size: expected a whole number, got '4'"),
    ({"y": Y[:12]}, ValueError, "X and y: expected the same number of rows, got 13 and 12"),
    ({"y": 3.0}, ValueError, "y: expected an array with rows, got "),
    ({"X": X[:0], "y": Y[:0]}, ValueError, r"X: expected at least one row, got shape \(0, 2\)"),
    ({"X": [[1.0], [2.0, 3.0]]}, ValueError, "X: expected an array"),
    ({"batch_size": 4, "seed": -1}, ValueError, "seed: "),
    ({"batch_size": 4, "seed": "x"}, TypeError, "seed: "),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_errors_come_at_the_call(arguments, error, message):
    with pytest.raises(error, match=message) as caught:
        schuss.batches(**{"X": X, "y": Y, **arguments})
    assert "\n" not in str(caught.value)
