"""Random lives of optimizers: steps, edits, saving and loading in any order; compiled == numpy reference throughout.

Every optimizer, stored and ridden in every way, on what runs by itself; and three of them on every engine.
``SCHUSS_LIVES=500 pytest tests/api/test_random_lives.py`` lives more of them than the few that every run does.
"""

from __future__ import annotations

import os
import pickle
import random

import numpy as np
import pytest
from bits import BFLOAT16, assert_same_everything, raw
from cases import BACKENDS, CASES, arrays, assert_same_optimizers
from layouts import GRADIENT_LAYOUTS, like

import schuss
from schuss.optim.schedule_free import ScheduleFree

LIVES = int(os.environ.get("SCHUSS_LIVES", "3"))
SHAPES = [(), (3,), (40,), (6, 5), (0,), (9000,), (2, 3, 4), (1, 7), (4097,), (70, 60), (3, 0, 2), (100, 3), (1500,)]
DTYPES = [np.float32, np.float64, BFLOAT16, np.float16]
STORAGES = [
    {},
    {"state_dtype": "bfloat16"},
    {"state_dtype": "float16"},
    {"state_dtype": "8bit", "min_8bit_size": 1},
    {"state_dtype": "8bit", "min_8bit_size": 1000},
    {"master": "float32"},
    {"master": "remainder", "state_dtype": "bfloat16"},
]
LAYOUTS = [like, *(GRADIENT_LAYOUTS[name] for name in ("C", "F", "every second", "reversed"))]
RIDERS = {
    "grad_scale": [1 / 3, 2.0, 0.0, -1.0, 1 / 65536],
    "clip_norm": [0.5, 1e3, 1e-3],
    "clip_value": [0.01, 10.0],
    "skip_nonfinite": [True],
    "zero_grad": [True],
}
EDITS = [
    {"lr": 0.003},
    {"lr": 0.2},
    {"lr": 0.0},
    {"maximize": True},
    {"maximize": False},
    {"weight_decay": 0.0},
    {"weight_decay": 0.05},
    {"betas": (0.5, 0.9)},
    {"amsgrad": True},
    {"momentum": 0.0},
    {"momentum": 0.7},
    {"eps": 1e-4},
    {"nesterov": True},
    {"decoupled_weight_decay": True},
    {"clip": True},
]
STRANGE = [np.nan, np.inf, -np.inf, 0.0, -0.0]


class Life:
    """One optimizer and its reference, and what happens to both of them."""

    def __init__(self, seed):
        self.draw, self.random = random.Random(seed), np.random.default_rng(seed)
        draw = self.draw
        self.case = draw.choice(CASES)
        self.options = {**self.case.options, **draw.choice(STORAGES), "threads": draw.choice([None, 1, 2, 3])}
        dtypes = {"float32": [BFLOAT16, np.float16], "remainder": [BFLOAT16]}.get(self.options.get("master"), DTYPES)
        self.shapes = draw.choices(SHAPES, k=draw.randint(1, 6))
        self.dtypes = draw.choices(dtypes[: draw.randint(1, len(dtypes))], k=len(self.shapes))
        if draw.random() < 0.3:
            self.options |= {"rounding": "stochastic", "seed": draw.choice([0, 7, 2**63 + 5])}
        if draw.random() < 0.3:
            self.options["ema"] = draw.choice([0.0, 0.9])
        self.grouped = draw.random() < 0.4
        self.copies = draw.choices(DTYPES, k=len(self.shapes)) if draw.random() < 0.25 else None
        self.lookahead = draw.random() < 0.25 and not issubclass(self.case.make, ScheduleFree) and draw.randint(1, 3)
        params = [self.laid_out(shape, dtype) for shape, dtype in zip(self.shapes, self.dtypes, strict=True)]
        self.params = {"auto": params, "numpy": [like(p) for p in params]}
        self.missing = set()
        self.build()

    def numbers(self, shape):
        return self.random.standard_normal(shape) * 10.0 ** self.random.integers(-5, 2, shape)

    def laid_out(self, shape, dtype):
        made = self.draw.choice(LAYOUTS)(np.array(self.numbers(shape)).astype(dtype))
        return made if made.flags.writeable else np.array(made)

    def build(self):
        """Both anew; without what there is nothing for, as rounding where all is exact."""
        try:
            self.optimizers = [self.built(kind) for kind in self.params]
        except ValueError as error:
            if not str(error).startswith("rounding="):
                raise
            del self.options["rounding"]
            self.optimizers = [self.built(kind) for kind in self.params]

    def built(self, kind):
        params = self.params[kind]
        copies = self.copies and [np.zeros_like(p, dtype) for p, dtype in zip(params, self.copies, strict=True)]
        options = {**self.options, "copy_to": self.tree(copies)} if copies else self.options
        given = [{"params": [p]} for p in params] if self.grouped else params
        made = self.case.make(given, **options, backend=kind)
        return schuss.Lookahead(made, self.lookahead, 0.4) if self.lookahead else made

    def tree(self, leaves):
        return [[leaf] for leaf in leaves] if self.grouped else list(leaves)

    def gradients(self):
        dtype = self.draw.choice([None, None, *DTYPES])
        made = []
        for number, (shape, own) in enumerate(zip(self.shapes, self.dtypes, strict=True)):
            g = self.laid_out(shape, dtype or own)
            if g.size and self.draw.random() < 0.04:
                g[(0,) * g.ndim] = self.draw.choice(STRANGE)
            made.append(None if number in self.missing else g)
        return made

    def riders(self, *without):
        if self.draw.random() < 0.6:
            return {}
        names = [name for name in RIDERS if name not in without and self.draw.random() < 0.35]
        return {name: self.draw.choice(RIDERS[name]) for name in names}

    def both(self, deed, *gradients):
        """Have both do it: they do and say the same, and leave gradients the same; what they said, or None of both."""
        results, left = [], []
        for optimizer in self.optimizers:
            own = [[None if g is None else like(g) for g in given] for given in gradients]
            try:
                results.append((deed(optimizer, *map(self.tree, own)), None))
            except (ValueError, RuntimeError, TypeError) as error:
                results.append((None, f"{type(error).__name__}: {error}"))
            left.append([raw(g) for given in own for g in given if g is not None])
        assert results[0][1] == results[1][1]
        for ours, expected in zip(*left, strict=True):
            np.testing.assert_array_equal(ours, expected)
        return None if results[0][1] else [result for result, _ in results]

    def step(self):
        riders, gradients = self.riders(), [self.gradients()]
        if self.case.make is schuss.Sophia and self.draw.random() < 0.3:
            gradients.append(self.gradients())
            self.stepped(self.both(lambda o, g, h: o.step(g, hessian=h, **riders), *gradients))
        else:
            self.stepped(self.both(lambda o, g: o.step(g, **riders), *gradients))

    def stepped(self, infos):
        if infos:
            ours, expected = infos
            assert ours.skipped == expected.skipped
            np.testing.assert_array_equal(ours.grad_norm, expected.grad_norm)

    def accumulate(self):
        for _ in range(self.draw.randint(1, 2)):
            self.both(lambda o, g: o.accumulate(g), self.gradients())

    def step_with_sums(self):
        riders = self.riders("zero_grad")
        self.stepped(self.both(lambda o: o.step(**riders)))

    def edit(self):
        number, edit = self.draw.randrange(len(self.optimizers[0].param_groups)), self.draw.choice(EDITS)
        if edit.keys() <= self.optimizers[0].param_groups[number].keys():
            self.both(lambda o: o.param_groups[number].update(edit))

    def lose(self):
        self.missing = {number for number in range(len(self.shapes)) if self.draw.random() < 0.3}

    def save_and_load(self):
        self.both(lambda o: o.load_state_dict(pickle.loads(pickle.dumps(o.state_dict()))))

    def go_on_as_another(self):
        saved = self.both(lambda o: o.state_dict())
        if saved:
            self.build()
            for optimizer, state in zip(self.optimizers, saved, strict=True):
                optimizer.load_state_dict(state)

    def look_at_the_average(self):
        def look(optimizer):
            with optimizer.use_ema():
                return [raw(p.array) for p in optimizer._parameters.memories]

        for ours, expected in zip(*self.both(look) or [[], []], strict=True):
            np.testing.assert_array_equal(ours, expected)

    def evaluate(self):
        if isinstance(self.optimizers[0], ScheduleFree):
            self.both(lambda o: o.eval())
            assert_same_everything(*self.optimizers)
            self.happen()  # most is refused
            self.both(lambda o: o.train())

    def write(self):
        number = self.draw.randrange(len(self.shapes))
        values = self.numbers(self.shapes[number])
        for params in self.params.values():
            params[number][...] = np.array(values).astype(params[number].dtype)

    def happen(self):
        """Something, steps more often than others."""
        rare = [
            self.accumulate,
            self.step_with_sums,
            self.edit,
            self.lose,
            self.save_and_load,
            self.go_on_as_another,
            self.look_at_the_average,
            self.evaluate,
            self.write,
        ]
        self.draw.choice([self.step] * len(rare) + rare)()


@pytest.mark.parametrize("seed", range(LIVES))
def test_a_random_life(seed):
    with np.errstate(all="ignore"):
        life = Life(seed)
        for _ in range(40):
            life.happen()
            assert_same_everything(*life.optimizers)
            assert life.optimizers[0].steps == life.optimizers[1].steps
            sums = [o._sums for o in life.optimizers]
            if sums[0] is not None and sums[0].added:
                for ours, expected in zip(*(s.buffers for s in sums), strict=True):
                    np.testing.assert_array_equal(raw(ours.array), raw(expected.array))


# -------------------------------------------------------------------------------- three optimizers on every engine

THREE = [
    (
        schuss.SGD,
        {"momentum": 0.9},
        [{"momentum": 0.0, "nesterov": False}, {"momentum": 0.5, "nesterov": True}, {"maximize": True}, {"lr": 0.3}],
    ),
    (schuss.AdamW, {}, [{"amsgrad": True}, {"amsgrad": False}, {"lr": 0.2}, {"maximize": True}]),
    (schuss.RMSprop, {}, [{"centered": True}, {"momentum": 0.5}, {"centered": False}, {"momentum": 0.0}]),
]
LARGE_SHAPES = [(), (3,), (40,), (6, 5), (0,), (9000,), (150_000,), (2, 3, 4)]
GRADIENTS = [*GRADIENT_LAYOUTS.values(), np.float32, np.float64, lambda g: memoryview(np.array(g, order="C"))]
EVENTS = ["edit", "save and load", "go on as another", "other tensors", "other layouts", "other gradients"]


class EngineLife:
    """One of three optimizers and its reference: large tensors, threads, and gradients of any layout and kind."""

    def __init__(self, seed, backend):
        self.draw = draw = random.Random(seed)
        self.make, self.options, self.edits = draw.choice(THREE)
        self.grouped = draw.random() < 0.4
        self.shapes = draw.choices(LARGE_SHAPES, k=draw.randint(1, 5))
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
            self.layout, self.gradients = self.draw.choice(GRADIENTS), None
        else:
            self.gradients = None


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("kind", BACKENDS[1:])
def test_a_random_life_on_every_engine(kind, seed):
    life = EngineLife(seed, kind)
    for _ in range(60):
        life.happen(life.draw.choice(["step"] * 8 + EVENTS))
        assert_same_optimizers(*life.optimizers)
        assert life.optimizers[0].steps == life.optimizers[1].steps
