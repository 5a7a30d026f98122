"""Random lives of optimizers: steps, edits, saving and loading in any order; kernels == numpy reference throughout."""

from __future__ import annotations

import random

import numpy as np
import pytest
from cases import BACKENDS, arrays, assert_same_optimizers
from layouts import GRADIENT_LAYOUTS, like

import schuss

KINDS = [
    (
        schuss.SGD,
        {"momentum": 0.9},
        [{"momentum": 0.0, "nesterov": False}, {"momentum": 0.5, "nesterov": True}, {"maximize": True}, {"lr": 0.3}],
    ),
    (schuss.AdamW, {}, [{"amsgrad": True}, {"amsgrad": False}, {"lr": 0.2}, {"maximize": True}]),
    (schuss.RMSprop, {}, [{"centered": True}, {"momentum": 0.5}, {"centered": False}, {"momentum": 0.0}]),
]
SHAPES = [(), (3,), (40,), (6, 5), (0,), (9000,), (150_000,), (2, 3, 4)]
LAYOUTS = [*GRADIENT_LAYOUTS.values(), np.float32, np.float64, lambda g: memoryview(np.array(g, order="C"))]
EVENTS = ["edit", "save and load", "go on as another", "other tensors", "other layouts", "other gradients"]


class Life:
    """One optimizer and its reference, and what happens to both of them."""

    def __init__(self, seed, backend):
        self.draw = draw = random.Random(seed)
        self.make, self.options, self.edits = draw.choice(KINDS)
        self.grouped = draw.random() < 0.4
        self.shapes = draw.choices(SHAPES, k=draw.randint(1, 5))
        self.dtypes = draw.choices([np.float32, np.float64], k=len(self.shapes))
        params = [np.array(p, order=draw.choice("CF")) for p in self.numbers(seed)]
        self.params = {backend: params, "numpy": [like(p) for p in params]}
        self.threads = draw.choice([None, 1, 2, 3])
        self.optimizers = [self.built(kind) for kind in self.params]
        self.layout, self.missing, self.gradients, self.time = like, set(), None, 1000 * seed

    def numbers(self, seed):
        shapes = enumerate(zip(self.shapes, self.dtypes, strict=True))
        return [arrays([shape], dtype, seed + n)[0].reshape(shape) for n, (shape, dtype) in shapes]

    def built(self, kind):
        params = self.params[kind]
        given = [{"params": [p]} for p in params] if self.grouped else params
        return self.make(given, lr=0.1, **self.options, threads=self.threads, backend=kind)

    def happen(self, event):
        self.time += 10
        if event == "step":
            if self.gradients is None or self.draw.random() < 0.6:
                self.gradients = [self.layout(g) for g in self.numbers(self.time)]
            present = [None if n in self.missing else g for n, g in enumerate(self.gradients)]
            form = self.draw.choice([list, tuple])
            for optimizer in self.optimizers:
                optimizer.step(form([g] if self.grouped else g for g in present))
        elif event == "edit":
            number, edit = self.draw.randrange(len(self.optimizers[0].param_groups)), self.draw.choice(self.edits)
            for optimizer in self.optimizers:
                optimizer.param_groups[number].update(edit)
        elif event == "save and load":
            for optimizer in self.optimizers:
                optimizer.load_state_dict(optimizer.state_dict())
        elif event == "go on as another":
            others = [self.built(kind) for kind in self.params]
            for optimizer, other in zip(self.optimizers, others, strict=True):
                other.load_state_dict(optimizer.state_dict())
            self.optimizers = others
        elif event == "other tensors":
            self.missing = {n for n in range(len(self.shapes)) if self.draw.random() < 0.3}
        elif event == "other layouts":
            self.layout, self.gradients = self.draw.choice(LAYOUTS), None
        else:
            self.gradients = None


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", BACKENDS[1:])
def test_a_random_life(kind, seed):
    life = Life(seed, kind)
    for _ in range(60):
        life.happen(life.draw.choice(["step"] * 8 + EVENTS))
        assert_same_optimizers(*life.optimizers)
        assert life.optimizers[0].steps == life.optimizers[1].steps
