"""The chunk table: which rows there are, where they point, how they are cut into spans."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from schuss_kernels.plan import chunk_table
from schuss_kernels.storage.memory import dense_strides, memory_order


def part(size, parameter=1000, gradient=2000, states=(3000, 4000), layout=None, itemsize=4):
    columns = (chunk_table.Column(itemsize),) * len(states)
    return chunk_table.TensorEntry(7, 8, 9, size, parameter, gradient, itemsize, itemsize, states, columns, layout)


def test_rows_cover_every_element_once():
    sizes = [0, 1, 1023, 1024, 1025, 16_000, 0, 2048]
    made = chunk_table.build([part(size, parameter=100_000 * n) for n, size in enumerate(sizes)], chunk=1024, span=1600)
    assert made.elements == sum(sizes)
    for number, size in enumerate(sizes):
        rows = made.rows[made.first_row[number] : made.first_row[number + 1]]
        assert rows[:, chunk_table.COUNT].sum() == size
        starts = np.concatenate(([0], np.cumsum(rows[:, chunk_table.COUNT])[:-1])) if size else np.zeros(0)
        np.testing.assert_array_equal(rows[:, chunk_table.START], starts)
        np.testing.assert_array_equal(rows[:, chunk_table.PARAM], 100_000 * number + 4 * starts)
        np.testing.assert_array_equal(rows[:, chunk_table.GRAD], 2000 + 4 * starts)
        np.testing.assert_array_equal(rows[:, chunk_table.STATES], 3000 + 4 * starts)
        np.testing.assert_array_equal(rows[:, chunk_table.STATES + 1], 4000 + 4 * starts)
        assert (rows[:, chunk_table.COUNT] <= 1024).all()
        assert (
            rows[:, [chunk_table.KERNEL, chunk_table.SQUARES, chunk_table.SCALARS, chunk_table.LAYOUT]] == [7, 8, 9, 0]
        ).all()
        assert (rows[:, chunk_table.TENSOR] == number).all()
        blocks = sum(-(-before // chunk_table.REDUCE_BLOCK) for before in sizes[:number])
        first = made.sums.ctypes.data + 16 * blocks
        np.testing.assert_array_equal(rows[:, chunk_table.SUMS], first + 16 * (starts // chunk_table.REDUCE_BLOCK))
    assert made.spans[0] == 0
    assert made.spans[-1] == len(made.rows)
    assert (np.diff(made.spans) > 0).all()


def test_rows_of_a_strided_tensor_point_at_its_first_element():
    layout = np.array([2, 30, 400, 80, 50, 8, 4], np.int64)
    made = chunk_table.build([part(10), part(1500, layout=layout), part(5)], chunk=1024)
    rows = made.rows[made.first_row[1] : made.first_row[2]]
    assert rows[:, chunk_table.PARAM].tolist() == [1000, 1000]
    assert rows[:, chunk_table.GRAD].tolist() == [2000, 2000]
    assert rows[:, chunk_table.START].tolist() == [0, 1024]
    assert rows[:, chunk_table.STATES].tolist() == [3000, 3000 + 4 * 1024]
    assert rows[:, chunk_table.LAYOUT].tolist() == [made.layouts.ctypes.data] * 2
    np.testing.assert_array_equal(made.layouts, layout)
    two = chunk_table.build([part(9, layout=layout), part(1500, layout=layout)])
    assert two.rows[:, chunk_table.LAYOUT].tolist() == [
        two.layouts.ctypes.data,
        two.layouts.ctypes.data + layout.nbytes,
    ]


def test_other_numbers_of_states_in_one_table():
    made = chunk_table.build([part(5, states=()), part(5, states=(3000,)), part(5)])
    assert made.rows.shape == (3, chunk_table.STATES + 2)
    assert made.rows[:, chunk_table.STATES :].tolist() == [[0, 0], [3000, 0], [3000, 4000]]


def test_an_empty_table():
    made = chunk_table.build([])
    assert made.rows.shape == (0, chunk_table.STATES)
    assert made.spans.tolist() == [0]
    assert chunk_table.build([part(0)]).elements == 0


def test_spans_are_of_like_work():
    sizes = [100] * 500 + [100_000]
    made = chunk_table.build([part(size) for size in sizes], chunk=1 << 15, span=1 << 14)
    work = np.add.reduceat(made.rows[:, chunk_table.COUNT], made.spans[:-1])
    assert work.sum() == sum(sizes)
    assert work.max() <= (1 << 15) + (1 << 14)
    assert len(work) <= sum(sizes) / (1 << 14) + 12


def test_the_grain_follows_the_size():
    assert chunk_table.chunk_size(0) == chunk_table.chunk_size(500_000) == 8 * 1024
    assert chunk_table.chunk_size(1_000_000) == 16 * 1024
    assert chunk_table.chunk_size(10**8) == chunk_table.MAX_CHUNK
    assert all(chunk_table.chunk_size(elements) % 1024 == 0 for elements in range(0, 10**7, 99_999))


def addresses(layout):
    """Every element's place in parameter and gradient, in the order of the layout."""
    axes = layout[1:].reshape(-1, 3)
    steps = [[(i * p, i * g) for i in range(n)] for n, p, g in axes.tolist()]
    return [tuple(map(sum, zip(*place, strict=True))) for place in itertools.product(*steps)]


LAYOUTS = {
    "C": lambda a: a,
    "F": lambda a: np.asfortranarray(a),
    "moved": lambda a: np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, -1)), -1, 0),
    "sliced": lambda a: np.repeat(a, 2, 1)[:, ::2],
    "reversed": lambda a: np.flip(np.flip(a, 2).copy(), 2),
    "spread": lambda a: np.broadcast_to(a[:1], a.shape),
}


@pytest.mark.parametrize("gradient", LAYOUTS)
@pytest.mark.parametrize("parameter", [name for name in LAYOUTS if name != "spread"])
def test_layouts_visit_each_pair_once(parameter, gradient):
    p, g = LAYOUTS[parameter](np.zeros((3, 4, 5), np.float32)), LAYOUTS[gradient](np.zeros((3, 4, 5), np.float64))
    layout = chunk_table.strided_layout(p.shape, p.strides, g.strides, 4, 8)
    expected = {
        (sum(map(np.multiply, index, p.strides)), sum(map(np.multiply, index, g.strides)))
        for index in np.ndindex(p.shape)
    }
    if layout is None:
        assert [s * 2 for s in p.strides] == list(g.strides)
        assert p.flags.forc or parameter == "moved"
        return
    visited = addresses(layout)
    assert len(visited) == p.size
    assert set(visited) == expected
    assert not (parameter == gradient and parameter in ("C", "F", "moved"))


def test_dense_pairs_need_no_layout_and_axes_are_merged():
    assert chunk_table.strided_layout((3, 4), (16, 4), (32, 8), 4, 8) is None
    assert chunk_table.strided_layout((3, 4), (4, 12), (4, 12), 4, 4) is None
    assert chunk_table.strided_layout((1, 4), (999, 4), (7, 4), 4, 4) is None
    assert chunk_table.strided_layout((), (), (), 4, 4) is None
    assert chunk_table.strided_layout((3, 4), (32, 8), (16, 4), 4, 4).tolist() == [1, 12, 8, 4]
    assert chunk_table.strided_layout((3, 4), (16, 4), (4, 12), 4, 4).tolist() == [2, 3, 16, 4, 4, 4, 12]
    assert chunk_table.strided_layout((5,), (-4,), (-4,), 4, 4).tolist() == [1, 5, -4, -4]


def test_dense_strides():
    for array in (np.zeros((3, 4, 5)), np.asfortranarray(np.zeros((3, 4, 5))), np.zeros((3, 4, 5)).transpose(1, 0, 2)):
        order = memory_order(array.shape, array.strides)
        assert dense_strides(array.shape, order, 8) == array.strides
