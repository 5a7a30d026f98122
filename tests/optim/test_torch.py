"""The references against torch's optimizers: 50 steps, changing gradients and learning rates."""

from __future__ import annotations

import numpy as np
import pytest
from cases import CASES, READY
from pairs import pairwise

import schuss

torch = pytest.importorskip("torch", reason="torch is not installed; it is the outside oracle of this file")


@pairwise(case=[case for case in CASES if case.torch], dtype=[np.float32, np.float64], kind=READY)
def test_fifty_steps(case, dtype, kind):
    rng = np.random.default_rng(0)
    start = [np.asarray(rng.standard_normal(shape), dtype) for shape in ((17, 5), (33,), ())]
    ours = [p.copy() for p in start]
    theirs = [torch.from_numpy(p.copy()).requires_grad_() for p in start]
    optimizer = case.make(ours, **case.options, backend=kind)
    oracle = getattr(torch.optim, case.torch)(theirs, **case.options, foreach=False)
    base = optimizer.param_groups[0]["lr"]
    for step in range(50):
        gradients = [np.asarray(rng.standard_normal(p.shape) * (1 + step % 7), dtype) for p in start]
        missing = step % 5 == 3  # the second tensor has no gradient: its own step count stays
        for p, g in zip(theirs, gradients, strict=True):
            p.grad = torch.from_numpy(g.copy())
        if missing:
            theirs[1].grad = None
        optimizer.param_groups[0]["lr"] = oracle.param_groups[0]["lr"] = base * (1.0 + 0.5 * np.sin(step))
        optimizer.step([g if not (missing and i == 1) else None for i, g in enumerate(gradients)])
        oracle.step()
    tolerance = {np.float32: 2e-5, np.float64: 1e-11}[dtype]
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p, q.detach().numpy(), rtol=tolerance, atol=tolerance)
    for q, kept in zip(theirs, optimizer.state_dict()["state"].values(), strict=True):
        kept.update(kept.pop("running", {}))
        other = {field: value for field, value in oracle.state.get(q, {}).items() if value is not None}
        assert set(other) - {"step"} == set(kept) - {"step"}, "the states are torch's, by name"
        assert kept["step"] == (40 if q is theirs[1] else 50) == int(other.get("step", kept["step"]))
        for field in set(kept) - {"step"}:
            np.testing.assert_allclose(kept[field], other[field].numpy(), rtol=10 * tolerance, atol=10 * tolerance)


ON = {"momentum": 0.9, "dampening": 0.5}


@pytest.mark.parametrize("kind", READY)
@pytest.mark.parametrize(
    ("options", "changes"),
    [
        ({}, {3: ON}),  # the buffer starts as the first gradient that it sees, undampened
        ({}, {3: ON, 6: {"momentum": 0.0}, 9: {"momentum": 0.5}}),  # and stays while it is not used
        ({"momentum": 0.9}, {4: ON}),
        (ON, {2: {"dampening": 0.0}, 5: {"dampening": 0.7}}),
    ],
)
def test_dampening_that_is_switched_on_in_the_middle(options, changes, kind):
    rng = np.random.default_rng(0)
    ours = [rng.standard_normal(size) for size in (5, 3)]
    theirs = [torch.from_numpy(p.copy()).requires_grad_() for p in ours]
    optimizer, oracle = schuss.SGD(ours, lr=0.1, **options, backend=kind), torch.optim.SGD(theirs, lr=0.1, **options)
    for step in range(12):
        optimizer.param_groups[0].update(changes.get(step, {}))
        oracle.param_groups[0].update(changes.get(step, {}))
        gradients = [rng.standard_normal(p.shape) for p in ours]
        given = [gradients[0], None if step in (0, 3, 4) else gradients[1]]
        for p, g in zip(theirs, given, strict=True):
            p.grad = None if g is None else torch.from_numpy(g)
        optimizer.step(given)
        oracle.step()
    assert optimizer.steps == 12
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p, q.detach().numpy(), rtol=1e-12)


def test_torch_tensors_as_parameters():
    layer = torch.nn.Linear(7, 3)
    before = [p.detach().clone() for p in layer.parameters()]
    optimizer = schuss.SGD(layer.parameters(), lr=0.5)
    layer(torch.ones(2, 7)).sum().backward()
    optimizer.step([p.grad for p in layer.parameters()])
    for p, old in zip(layer.parameters(), before, strict=True):
        torch.testing.assert_close(p.detach(), old - 0.5 * p.grad)
