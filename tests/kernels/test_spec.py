"""Specs: the kernels of a tensor's row read the same columns, whatever each of them is compiled for."""

from __future__ import annotations

import itertools
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
from bits import BFLOAT16
from schuss_kernels.plan import chunk_table
from schuss_kernels.plan.spec import Spec, quantized_storages
from schuss_kernels.plan.tensor import columns
from schuss_kernels.rules import RULES
from schuss_kernels.storage.dtypes import BF16, F32

import schuss

ALL = [
    {"master": master, "ema": ema, "copy": copy, "zero": zero, "stochastic": stochastic, "lookahead": lookahead}
    for master, ema, copy, zero, stochastic, lookahead in itertools.product(
        ("", "float32", "remainder"), (False, True), (None, BF16), (False, True), (False, True), (False, True)
    )
]


def names(spec):
    return [(stream.name, stream.state, stream.storage, stream.elements_per_entry) for stream in spec.streams]


@pytest.mark.parametrize("quantized", [False, True])
@pytest.mark.parametrize("name", ["lamb", "adamw", "schedule_free_adamw"])
def test_kernels_of_one_row_read_its_first_columns(name, quantized):
    rule = RULES[name]
    states = quantized_storages(rule) if quantized else (F32,) * len(rule.State._fields)
    for riders in ALL:
        row = Spec(rule, BF16, F32, states, **riders)
        for other in (row.measure_spec(), replace(row, lookahead=False), replace(row, zero=not row.zero)):
            assert names(other) == names(row)[: len(other.streams)]
            assert other.scales == row.scales
        scales = [stream.state for stream in row.streams[2:][row.scales]]
        assert scales == list(row.quantized_states)


def test_a_row_has_the_addresses_of_what_its_spec_lists():
    params = [np.zeros(6000, BFLOAT16)]
    copies = [np.zeros(6000, np.float32)]
    options = {"state_dtype": "8bit", "master": "float32", "ema": 0.9, "copy_to": copies, "backend": "numpy"}
    optimizer = schuss.Lookahead(schuss.LAMB(params, **options), k=2)
    optimizer.step([np.zeros(6000, np.float32)])
    tensor = optimizer._stepper.engine.tensors[0]
    streams = replace(tensor.spec(False), lookahead=True).streams[2:]
    m, v = tensor.states
    others = [tensor.others[name] for name in ("master", "ema", "copy", "slow")]
    expected = [m, v, others[0], m.scales, v.scales, *others[1:]]
    assert tensor.addresses(streams) == [memory.address for memory in expected]
    entry = chunk_table.TensorEntry(1, 0, 2, 6000, 3, 4, 2, 4, tensor.addresses(streams), columns(streams))
    rows = chunk_table.build([entry], chunk=4096).rows
    assert len(rows) == 2
    advance = [4096, 4096, 4096 * 4, 16 * 4, 16 * 4, 4096 * 4, 4096 * 4, 4096 * 4]
    np.testing.assert_array_equal(np.diff(rows[:, chunk_table.STATES :], axis=0)[0], advance)


def test_a_state_may_have_the_name_of_a_riders_array():
    rule = replace(RULES["lamb"], State=namedtuple("State", ["ema", "slow"]), not_negative=())
    spec = Spec(rule, F32, F32, (F32, F32), ema=True, lookahead=True)
    assert (spec.stream_index("ema"), spec.stream_index("slow")) == (4, 5)
