"""What a rule reads and writes, found by trying it."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
from schuss_kernels.lang.rule import Rule
from schuss_kernels.lang.traffic import traffic
from schuss_kernels.plan.spec import Spec
from schuss_kernels.rules import RULES
from schuss_kernels.storage.dtypes import BF16, F32

import schuss

P, G = "parameter", "gradient"


@pytest.mark.parametrize(
    ("name", "measured", "read", "written"),
    [
        ("sgd", "", "parameter gradient", "parameter"),
        ("adamw", "", "parameter gradient exp_avg exp_avg_sq", "parameter exp_avg exp_avg_sq"),
        ("sophia", "", "parameter gradient exp_avg hessian", "parameter exp_avg"),
        ("madgrad", "", "parameter gradient grad_sum_sq grad_sum x0", "parameter grad_sum_sq grad_sum"),
        ("novograd", "gradient", "parameter gradient exp_avg", "parameter exp_avg"),
        ("dog", "parameter gradient x0", "parameter gradient", "parameter"),
        ("lamb", f"{P} {G} exp_avg exp_avg_sq", f"{P} {G} exp_avg exp_avg_sq", f"{P} exp_avg exp_avg_sq"),
    ],
)
def test_of_built_in_rules(name, measured, read, written):
    found = traffic(RULES[name])
    assert found.measured == set(measured.split())
    assert found.read == set(read.split())
    assert found.written == set(written.split())


State = namedtuple("State", ["kept", "passed", "set"])
Scalars = namedtuple("Scalars", ["lr"])
Sums = namedtuple("Sums", ["passed"])


def own(update, **parts):
    return Rule("own", State, Scalars, lambda step, *, lr: Scalars(lr), update, **parts)


def test_of_a_rule_of_ones_own():
    def update(p, g, s, h):
        return p - h.lr * s.kept, State(s.kept + g, s.passed, h.lr)

    def measure(p, g, s, h):
        return Sums(s.passed)

    found = traffic(own(update, Sums=Sums, measure=measure, finish=lambda h, sums, step: h))
    assert found.measured == {"passed"}
    assert found.read == {P, G, "kept", "set"}
    assert found.written == {P, "kept", "set"}


def test_of_a_rule_that_raises():
    def update(p, g, s, h):
        return p + [][0], s

    found = traffic(own(update))
    assert found.read == {P, G, *State._fields}
    assert found.written == {P, *State._fields}
    assert found.measured == set()


def test_bytes():
    dog, madgrad = RULES["dog"], RULES["madgrad"]
    spec = Spec(dog, F32, F32, (F32,))
    assert (spec.measure_spec().bytes_per_element, spec.bytes_per_element) == (12.0, 12.0)
    assert Spec(madgrad, F32, F32, (F32,) * 3).bytes_per_element == 32.0
    # The weight that is only read is exact; the others are in 16 bits, and there is a master weight.
    spec = Spec(madgrad, BF16, BF16, (BF16, BF16, F32), master="float32", zero=True)
    assert spec.bytes_per_element == 2.0 + 4.0 + 4.0 + 4.0 + 4.0 + 8.0
    spec = Spec(RULES["lamb"], BF16, BF16, (BF16, BF16), master="float32")
    assert spec.measure_spec().bytes_per_element == 4.0 + 2.0 + 2.0 + 2.0


def test_explain_tells_both_passes():
    text = schuss.DoG([np.ones(1000, np.float32)], backend="numpy").explain()
    assert "a step moves 24,000 bytes, 24 per parameter" in text
    assert "12 bytes per parameter in a first pass, for sums over all tensors of gradients, distance" in text
    assert "12 bytes per parameter in the second: parameter, gradient read, parameter written, each once" in text
    text = schuss.AdamW([np.ones(1000, np.float32)], lr=0.1, backend="numpy").explain()
    assert "28 bytes per parameter: parameter, gradient, exp_avg, exp_avg_sq read" in text
