"""Random lives of optimizers: events in any order, after each of which all that there is, is as it must be.

An engine's optimizer has the bits of the NumPy reference, and says the same, errors too. SGD, Adam, AdamW, Lion and
RMSprop agree with the formulas of ``formulas.py``. Every run makes the same few lives; ``SCHUSS_FUZZ_S=3600`` makes
others, of any combination, for that many seconds a test. Lives that failed are kept in ``.hypothesis/examples``, and
come first in all later runs; with ``SCHUSS_FUZZ_S=1`` they are made as short as they can be.
"""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from bits import BFLOAT16, assert_same_everything, raw
from cases import NATIVE_LEVELS, engines
from formulas import FORMS, FORMULAS, Model
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.database import DirectoryBasedExampleDatabase
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from layouts import like
from life_forms import AHEAD, ANY, COMPILED, EXACT, LAYOUTS, RIDERS, SHAPES, WITH_FORMULAS

import schuss
from schuss.optim.schedule_free import ScheduleFree

FUZZ_S = float(os.environ.get("SCHUSS_FUZZ_S", "0"))
FAILED = Path(__file__).parents[2] / ".hypothesis" / "examples"
SETTINGS = settings(
    deadline=None,
    print_blob=True,
    stateful_step_count=60 if FUZZ_S else 25,
    suppress_health_check=list(HealthCheck),
)

EDITS = [
    {"lr": 0.003},
    {"lr": 0.2},
    {"lr": 0.0},
    {"lr": schuss.schedules.cosine(0.1, 20, end=0.01)},
    {"maximize": True},
    {"maximize": False},
    {"weight_decay": 0.0},
    {"weight_decay": 0.05},
    {"betas": (0.5, 0.9)},
    {"eps": 1e-4},
    {"amsgrad": True},
    {"momentum": 0.0},
    {"momentum": 0.7},
    {"centered": True},
    {"nesterov": True},
    {"decoupled_weight_decay": True},
    {"clip": True},
]


class Life(RuleBasedStateMachine):
    """An optimizer, its reference and, where there is one, its formula."""

    def __init__(self, backend, forms):
        super().__init__()
        self.backend, self.forms, self.optimizers = backend, forms, []

    # ------------------------------------------------------------------------------------------------------- the start

    @initialize(
        form=st.integers(0, 1000),
        case=st.integers(0, 1000),
        options=st.integers(0, 1000),
        tensors=st.lists(st.tuples(*[st.integers(0, 1000)] * 3), min_size=1, max_size=5),
        groups=st.booleans(),
        threads=st.sampled_from([None, 1, 2, 3]),
        schedule=st.booleans(),
        seed=st.integers(0, 2**32),
    )
    def begin(self, form, case, options, tensors, groups, threads, schedule, seed):
        form = self.form = self.forms[form % len(self.forms)]
        self.case = form.cases[case % len(form.cases)]
        self.options = {**self.case.options, **form.options[options % len(form.options)], "threads": threads}
        dtypes = {"float32": (BFLOAT16, np.float16), "remainder": (BFLOAT16,)}.get(self.options.get("master"))
        dtypes = dtypes or form.dtypes
        self.random, self.grouped, self.slow = np.random.default_rng(seed), groups, None
        shapes = [(SHAPES[n % len(SHAPES)], dtypes[d % len(dtypes)], layout) for n, d, layout in tensors]
        self.params = [self.laid_out(self.numbers(shape), dtype, layout) for shape, dtype, layout in shapes]
        self.params = [p if p.flags.writeable else np.array(p) for p in self.params]
        self.copied = bool(self.options.pop("copy_to", False))
        if schedule and "lr" in self.case.make([np.ones(1)], backend="numpy", **self.case.options).param_groups[0]:
            self.options["lr"] = schuss.schedules.cosine(0.2, 30, end=0.01)
        self.kinds = dict.fromkeys(dict.fromkeys([self.backend, "numpy"]), self.params)
        self.kinds["numpy"] = [like(p) for p in self.params] if self.backend != "numpy" else self.params
        self.gradients, self.missing, self.saved, self.eased = None, set(), None, True
        self.build()
        exact = all(p.dtype == np.float64 for p in self.params) and self.case in WITH_FORMULAS
        kept = self.options.keys() & {"state_dtype", "master", "rounding"}
        self.model = None
        if exact and not kept:
            groups = self.optimizers[0].param_groups
            own = [groups[n if self.grouped else 0] for n in range(len(self.params))]
            self.model = Model(self.case.make.__name__, self.params, own, self.options.get("ema"))

    def numbers(self, shape):
        return np.asarray(self.random.standard_normal(shape) * 10.0 ** self.random.integers(-4, 2, shape))

    def laid_out(self, values, dtype, layout):
        return LAYOUTS[layout % len(LAYOUTS) if self.form.strided else 0](np.array(values).astype(dtype))

    def build(self):
        """New optimizers over the parameters; without what there is nothing for, as rounding where all is exact."""
        try:
            self.optimizers = [self.built(kind, params) for kind, params in self.kinds.items()]
        except ValueError as error:
            if not str(error).startswith("rounding="):
                raise
            del self.options["rounding"]
            self.optimizers = [self.built(kind, params) for kind, params in self.kinds.items()]

    def built(self, kind, params):
        options = dict(self.options)
        if self.copied:
            options["copy_to"] = self.tree([np.zeros_like(p, np.float32) for p in params])
        given = [{"params": [p]} for p in params] if self.grouped else params
        made = self.case.make(given, **options, backend=kind)
        return schuss.Lookahead(made, *self.slow) if self.slow else made

    def tree(self, leaves):
        return [[leaf] for leaf in leaves] if self.grouped else list(leaves)

    # ---------------------------------------------------------------------------------------------------- what happens

    def all_do(self, deed, *gradients):
        """Have all do it: they do and say the same, and leave gradients the same; what they said, None of an error."""
        results, left = [], []
        for optimizer in self.optimizers:
            own = [[None if g is None else like(g) for g in given] for given in gradients]
            try:
                results.append((deed(optimizer, *map(self.tree, own)), None))
            except (ValueError, RuntimeError, TypeError) as error:
                results.append((None, f"{type(error).__name__}: {error}"))
            left.append([raw(g) for given in own for g in given if g is not None])
        for (_, said), after in zip(results, left, strict=True):
            assert said == results[-1][1]
            for ours, expected in zip(after, left[-1], strict=True):
                np.testing.assert_array_equal(ours, expected)
        return None if results[0][1] else [result for result, _ in results]

    def stepped(self, infos, gradients, riders):
        for info in infos or ():
            assert info.skipped == infos[-1].skipped
            np.testing.assert_array_equal(info.grad_norm, infos[-1].grad_norm)
        finite = all(np.isfinite(g).all() for g in gradients if g is not None)
        if not finite and not riders.get("skip_nonfinite"):
            self.model = None
        if self.model and infos:
            norm, skipped = self.model.step(gradients, **riders)
            assert skipped == infos[0].skipped
            if finite and infos[0].grad_norm is not None:
                np.testing.assert_allclose(infos[0].grad_norm, norm, rtol=1e-12)

    def chosen(self, riders, *without):
        return {
            name: RIDERS[name][n % len(RIDERS[name])]
            for name, n in riders.items()
            if name in self.form.riders and name not in without
        }

    def new_gradients(self, layout, strange):
        dtypes = self.form.dtypes if self.form.mixed else None
        made = []
        for number, p in enumerate(self.params):
            dtype = dtypes[layout // 7 % len(dtypes)] if dtypes and layout % 7 == 0 else p.dtype
            values = self.numbers(p.shape)
            if strange == number and values.size:
                values[(0,) * values.ndim] = (np.nan, np.inf, -np.inf)[layout % 3]
            made.append(self.laid_out(values, dtype, layout))
        return made

    riders_ = st.dictionaries(st.sampled_from(sorted(RIDERS)), st.integers(0, 5), max_size=3)
    missing_ = st.none() | st.sets(st.integers(0, 4), max_size=3)

    @rule(times=st.integers(1, 3))
    def step_again(self, times):
        for _ in range(times):
            self.step_with({}, 0, True, -1, False)

    @rule(
        missing=missing_,
        riders=riders_,
        layout=st.integers(0, 200),
        again=st.booleans(),
        strange=st.integers(0, 60),
        hessian=st.booleans(),
    )
    def step(self, missing, **how):
        if missing is not None:  # else the same tensors as before have none
            self.missing = {number for number in missing if number < len(self.params)}
        self.step_with(**how)

    def step_with(self, riders, layout, again, strange, hessian):
        riders = self.chosen(riders)
        if self.gradients is None or not again:
            self.gradients = self.new_gradients(layout, strange)
        given = [None if n in self.missing else g for n, g in enumerate(self.gradients)]
        if self.case.make is schuss.Sophia and hessian:
            infos = self.all_do(lambda o, g, h: o.step(g, hessian=h, **riders), given, given)
        else:
            infos = self.all_do(lambda o, g: o.step(g, **riders), given)
        self.stepped(infos, given, riders)

    @rule(layout=st.integers(0, 200), times=st.integers(1, 3), riders=riders_, saved=st.booleans())
    def accumulate_and_step(self, layout, times, riders, saved):
        if self.backend == "native" and "zero_grad" not in self.form.riders:
            return  # the kernel that takes the sums and sets them to zero is not there
        riders, sums = self.chosen(riders, "zero_grad"), [None] * len(self.params)
        for _ in range(times):
            given = [None if n in self.missing else g for n, g in enumerate(self.new_gradients(layout, -1))]
            if self.all_do(lambda o, g: o.accumulate(g), given) is None:
                return
            sums = [
                s if g is None else g.astype(np.float64) + (0 if s is None else s)
                for s, g in zip(sums, given, strict=True)
            ]
        if saved:
            self.go_on_as_another()
        if any(s is not None for s in sums):
            self.stepped(self.all_do(lambda o: o.step(**riders)), sums, riders)

    @rule(group=st.integers(0, 4), edit=st.sampled_from(EDITS))
    def edit(self, group, edit):
        groups = self.optimizers[0].param_groups
        number = group % len(groups)
        form = edit.keys() & {*FORMS, "clip", "decoupled_weight_decay"}
        if edit.keys() <= groups[number].keys() and (self.form.edits or not form):
            if form or callable(groups[number].get("lr")) or callable(edit.get("lr")):
                self.saved = None
            if form and any(edit[name] != groups[number][name] for name in form):
                self.model = None
            if self.all_do(lambda o: o.param_groups[number].update(edit)) is None:
                self.model = None

    @rule()
    def load_its_own_state(self):
        self.all_do(lambda o: o.load_state_dict(pickle.loads(pickle.dumps(o.state_dict()))))

    @rule()
    def go_on_as_another(self):
        states = self.all_do(lambda o: o.state_dict())
        if states:
            rates = [group.get("lr") for group in self.optimizers[0].param_groups]
            self.build()
            for optimizer, state in zip(self.optimizers, states, strict=True):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    if "lr" in group:
                        group["lr"] = rate
                optimizer.load_state_dict(state)
            if self.model:
                groups = self.optimizers[0].param_groups
                self.model.options = [groups[n if self.grouped else 0] for n in range(len(self.params))]

    @rule()
    def save(self):
        states = self.all_do(lambda o: o.state_dict())
        if states:
            self.saved = (
                states,
                [[like(p) for p in params] for params in self.kinds.values()],
                pickle.dumps(self.model_now()),
            )

    @precondition(lambda self: self.saved)
    @rule()
    def go_back(self):
        states, values, model = self.saved
        for optimizer, state, params, old in zip(self.optimizers, states, self.kinds.values(), values, strict=True):
            optimizer.load_state_dict(state)
            for p, q in zip(params, old, strict=True):
                p[...] = q
        if self.model:
            self.model.__dict__.update(pickle.loads(model) or {})
            self.model = self.model if pickle.loads(model) else None

    def model_now(self):
        return self.model and {
            name: value for name, value in vars(self.model).items() if name not in ("options", "formula")
        }

    @precondition(lambda self: self.form.lookahead and not self.slow and not issubclass(self.case.make, ScheduleFree))
    @rule(k=st.integers(1, 3), alpha=st.sampled_from([0.5, 1.0, 0.3]))
    def look_ahead(self, k, alpha):
        self.slow, self.saved = (k, alpha), None
        made = self.all_do(lambda o: schuss.Lookahead(o, k, alpha))
        if made is None:
            self.slow = None
            return
        self.optimizers = made
        if self.model:
            self.model.look_ahead(k, alpha)

    @precondition(lambda self: "ema" in self.options)
    @rule()
    def look_at_the_average(self):
        def look(optimizer):
            with optimizer.use_ema():
                return [raw(p.array) for p in optimizer._parameters.memories]

        for seen in (looked := self.all_do(look) or []):
            for ours, expected in zip(seen, looked[-1], strict=True):
                np.testing.assert_array_equal(ours, expected)

    @precondition(lambda self: issubclass(self.case.make, ScheduleFree))
    @rule()
    def evaluate(self):
        self.all_do(lambda o: o.eval() if self.eased else o.train())
        self.eased = not self.eased

    @rule(number=st.integers(0, 4))
    def write_a_parameter(self, number):
        number %= len(self.params)
        values = self.numbers(self.params[number].shape)
        for params in self.kinds.values():
            params[number][...] = values.astype(params[number].dtype)
        if self.model:
            self.model.p[number] = np.array(self.params[number], np.float64)

    # -------------------------------------------------------------------------------------------------- what must hold

    def check_invariants(self, *args, **kwargs):  # after every event, the one that begins too
        super().check_invariants(*args, **kwargs)
        if not self.optimizers:
            return
        for optimizer in self.optimizers[:-1]:
            assert_same_everything(optimizer, self.optimizers[-1])
            assert optimizer.steps == self.optimizers[-1].steps
            if self.slow:
                for ours, expected in zip(
                    *(o._stepper.slow_weights() for o in (optimizer, self.optimizers[-1])), strict=True
                ):
                    np.testing.assert_array_equal(raw(ours.array), raw(expected.array))
        if self.model:
            assert self.optimizers[-1].steps == self.model.steps
            averages = self.optimizers[-1]._stepper.averages() if self.model.ema else []
            pairs = [*zip([m.array for m in averages], self.model.ema or [], strict=True)]
            for ours, expected in [*zip(self.params, self.model.p, strict=True), *pairs]:
                np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-7)


def lives(backend, forms, count, name):
    """Run ``count`` lives, the same in every run; other ones for SCHUSS_FUZZ_S seconds, where it says so."""

    def life():
        return Life(backend, forms)

    kept = settings(SETTINGS, database=DirectoryBasedExampleDatabase(FAILED / name), max_examples=count)
    end = time.monotonic() + FUZZ_S
    with np.errstate(all="ignore"):
        if not FUZZ_S:
            life._hypothesis_internal_use_seed = 0
            run_state_machine_as_test(life, settings=settings(kept, phases=set(Phase) - {Phase.shrink}))
        while time.monotonic() < end:
            run_state_machine_as_test(life, settings=kept)


def test_lives_of_every_optimizer():
    lives("numpy", [ANY], 30, "all")


@pytest.mark.parametrize("name", FORMULAS)
def test_lives_by_formulas(name):
    lives("numpy", [EXACT[name]], 8, name)


@pytest.mark.parametrize("backend", list(engines()), indirect=True)
def test_lives_on_engines(backend, request):
    forms = AHEAD if NATIVE_LEVELS and backend == "native" else COMPILED
    lives(backend, [ANY, *EXACT.values()] if FUZZ_S else forms, 10, request.node.callspec.id)
