"""Ctrl-C, at any moment, and other signals: a step has been made and counted, or it has not."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pairs
import pytest
import schuss_kernels
from cases import BACKENDS, arrays
from processes import python
from schuss_kernels.engine import extension
from schuss_kernels.engine.interrupts import DeferInterrupt

import schuss

HOST = BACKENDS[1:]

INTERRUPTED = """
import os, random, signal, sys, threading, time
import numpy as np, schuss

backend, momentum, dtype, *sizes = sys.argv[1], float(sys.argv[2]), *sys.argv[3:]
params = [np.zeros(int(size), dtype) for size in sizes]
gradients = [np.ones(int(size), dtype) for size in sizes]
optimizer = schuss.SGD(params, lr=1.0, momentum=momentum, threads=2, backend=backend)
optimizer.step(gradients)
stepping, draw = threading.Event(), random.Random(0)

def interrupt():
    while stepping.wait():
        stepping.clear()
        time.sleep(draw.choice([0.0, 0.001, 0.02]) * draw.random())
        os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=interrupt, daemon=True).start()
signal.signal(signal.SIGINT, signal.default_int_handler)
made = []
for _ in range(30):
    try:
        stepping.set()
        while True:
            optimizer.step(gradients)
    except KeyboardInterrupt:
        steps = optimizer.steps
        made.append(steps)
    moved = steps * (steps + 1) / 2 if momentum else steps  # the buffer grows by one in each step
    for number, p in enumerate(params):
        assert (p == -moved).all(), (number, steps, p.min(), p.max())
    for entry in optimizer.state_dict()["state"].values():
        assert entry.pop("step") == steps
        assert all((state == steps).all() for state in entry.values())
print(len(made), made == sorted(made), made[-1] > made[0])
"""


@pytest.mark.skipif(os.name != "posix", reason="a process cannot interrupt itself like this on this system")
@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [("float32", [5_000_000, 1_000, 2_000_000, 1, 1_000_000]), ("float64", [1_000, 1])],
    ids=["mostly kernels", "mostly Python"],
)
@pytest.mark.parametrize("momentum", [0.0, 1.0])
@pytest.mark.parametrize("kind", BACKENDS)
def test_thirty_interrupts(kind, momentum, dtype, sizes):
    assert python(INTERRUPTED, kind, str(momentum), dtype, *map(str, sizes)).split() == ["30", "True", "True"]


SOURCES = tuple(str(Path(module.__file__).parent) for module in (schuss, schuss_kernels))


class Interrupt:
    """A profiler that presses Ctrl-C at one of the places where Python looks for signals: calls and returns.

    ``after``: so many places in the package's own code are passed.
    """

    def __init__(self, after):
        self.left = after

    def __call__(self, frame, event, argument):
        if event in ("call", "return", "c_return") and frame.f_code.co_filename.startswith(SOURCES):
            self.left -= 1
            if self.left == -1:
                signal.raise_signal(signal.SIGINT)

    @contextlib.contextmanager
    def at_work(self):
        """What is done inside is interrupted, if it lasts so long; whether it was is for :attr:`left` to say."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs in the background may ignore it
        sys.setprofile(self)
        try:
            yield
        except KeyboardInterrupt:
            assert self.left < 0
        finally:
            sys.setprofile(None)
            assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


STEPS = {
    "the first": {},
    "as before": {},
    "one gradient is missing": {"missing": 1},
    "another one is missing": {"missing": 0},
    "none is missing": {},
    "gradients of another dtype": {"dtype": np.float32},
    "another rate": {"edit": {"lr": 0.5}},
    "another rule": {"edit": {"nesterov": True}},
    "another rule, one is missing": {"edit": {"momentum": 0.0, "nesterov": False}, "missing": 2},
    "the last": {},
}
"""A run: what is new in each of its steps."""


def places(kind):
    """The first place to interrupt, and how far the next is: 1 with ``-m full``, else a third for each backend."""
    kinds = ["numpy", "numba", "native"]
    return (0, 1) if pairs.EVERY else (kinds.index(kind), len(kinds))


@functools.cache
def numbers(size, dtype, seed):
    return arrays([size, 5, 7], dtype, seed)


def made(backend, size):
    one, two, three = (p.copy() for p in numbers(size, np.float64, 0))
    return schuss.SGD([[one, two], three], lr=0.1, momentum=0.9, threads=2, backend=backend)


def gradients_of(number, size, missing=None, dtype=np.float64, edit=None):
    one, two, three = (None if n == missing else g for n, g in enumerate(numbers(size, dtype, 1 + number)))
    return [[one, two], three]


def looks(optimizer):
    """All that an optimizer's next step depends on."""
    saved = optimizer.state_dict()
    states = [
        (name, field, repr(value) if isinstance(value, dict) else np.asarray(value).tobytes())
        for name, entry in saved["state"].items()
        for field, value in entry.items()
    ]
    return saved["steps"], saved["param_groups"], states, [p.array.tobytes() for p in optimizer._parameters.memories]


@functools.cache
def reference(size):
    """What an optimizer looks like after each step."""
    optimizer, seen = made("numpy", size), []
    for number, new in enumerate(STEPS.values()):
        optimizer.param_groups[0].update(new.get("edit", {}))
        optimizer.step(gradients_of(number, size, **new))
        seen.append(looks(optimizer))
    return seen


def interrupted_run(backend, size, interrupted, after):
    """Whether an interrupt came in one of the run's steps. In the end all is as without it.

    Whoever is interrupted sees from ``steps`` whether the step has been made, and makes it again if it has not.
    """
    optimizer, interrupt = made(backend, size), Interrupt(after)
    for number, (name, new) in enumerate(STEPS.items()):
        optimizer.param_groups[0].update(new.get("edit", {}))
        gradients = gradients_of(number, size, **new)
        with interrupt.at_work() if name == interrupted else contextlib.nullcontext():
            optimizer.step(gradients)
        if optimizer.steps == number:
            optimizer.step(gradients)
        if name == interrupted:
            assert looks(optimizer) == reference(size)[number]
    assert looks(optimizer) == reference(size)[-1]
    return interrupt.left < 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("interrupted", STEPS)
@pytest.mark.parametrize("kind", BACKENDS)
def test_interrupted_anywhere(kind, interrupted):
    """At every call and every return in turn."""
    after, stride = places(kind)
    while interrupted_run(kind, 40, interrupted, after):
        after += stride
    assert after > 10


@pytest.mark.parametrize("kind", HOST)
def test_interrupted_anywhere_in_a_step_of_several_threads(kind, monkeypatch):
    monkeypatch.setattr(extension, "has_openmp_team", lambda: False)
    after, stride = places(kind)
    while interrupted_run(kind, 200_000, "as before", after):
        after += stride
    assert after > 10


def two_passes(backend):
    optimizer = schuss.NovoGrad([p.copy() for p in numbers(40, np.float64, 0)], lr=0.1, threads=2, backend=backend)
    optimizer.step(list(numbers(40, np.float64, 1)))
    return optimizer


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("kind", BACKENDS)
def test_interrupted_anywhere_in_a_step_of_two_passes(kind):
    """With numbers that go from step to step."""
    plain, (after, stride), left = two_passes("numpy"), places(kind), -1
    plain.step(list(numbers(40, np.float64, 2)))
    between = looks(plain)
    plain.step(list(numbers(40, np.float64, 3)))
    while left < 0:
        optimizer, interrupt = two_passes(kind), Interrupt(after)
        with interrupt.at_work():
            optimizer.step(list(numbers(40, np.float64, 2)))
        if optimizer.steps == 1:
            optimizer.step(list(numbers(40, np.float64, 2)))
        assert looks(optimizer) == between
        optimizer.step(list(numbers(40, np.float64, 3)))
        assert looks(optimizer) == looks(plain)
        after, left = after + stride, interrupt.left
    assert after > 10


def matrices():
    return arrays([(6, 5), 7], np.float64, 0), arrays([(6, 5), 7], np.float64, 1)


def optimizer_of(kind, backend, **options):
    params, gradients = matrices()
    optimizer = kind(params, lr=0.1, **options, backend="auto" if backend == "native" else backend)
    optimizer.step(gradients)
    return optimizer, gradients


def stepping(kind, backend, **options):
    optimizer, gradients = optimizer_of(kind, backend, **options)
    return optimizer, lambda: optimizer.step(gradients)


def estimating(backend):
    optimizer, gradients = optimizer_of(schuss.Sophia, backend)
    return optimizer, lambda: optimizer.step(gradients, hessian=gradients)


def adding_up(backend):
    optimizer, gradients = optimizer_of(schuss.Adam, backend)
    return optimizer, lambda: optimizer.accumulate(gradients)


def stepping_with_a_sum(backend):
    optimizer, gradients = optimizer_of(schuss.Adam, backend)
    optimizer.accumulate(gradients)
    return optimizer, lambda: optimizer.step()


def loading(backend):
    optimizer, gradients = optimizer_of(schuss.Adam, backend)
    saved = optimizer.state_dict()
    optimizer.param_groups[0].update(lr=0.5, amsgrad=True)
    optimizer.step(gradients)
    return optimizer, lambda: optimizer.load_state_dict(saved)


def evaluating(backend):
    optimizer, _ = optimizer_of(schuss.ScheduleFreeAdamW, backend)
    return optimizer, optimizer.eval


def training(backend):
    optimizer, _ = optimizer_of(schuss.ScheduleFreeAdamW, backend)
    optimizer.eval()
    return optimizer, optimizer.train


def averaging(backend):
    optimizer, _ = optimizer_of(schuss.Adam, backend, ema=0.5)
    blocks = []  # they end where nobody holds them

    def enter():
        blocks.append(optimizer.use_ema())
        blocks[-1].__enter__()

    return optimizer, enter


def stepping_with_an_idle_average(backend):
    optimizer, gradients = optimizer_of(schuss.SGD, backend, ema=0.5)
    return optimizer, lambda: optimizer.step([None, gradients[1]])


def reloading(backend):
    optimizer, _ = optimizer_of(schuss.SGD, backend, ema=0.5)
    for p in optimizer.params:
        p += 1.0
    return optimizer, optimizer.reload_params


DEEDS = {
    "a step of Muon": functools.partial(stepping, schuss.Muon),
    "a step of Adafactor": functools.partial(stepping, schuss.Adafactor),
    "a step of Prodigy": functools.partial(stepping, schuss.Prodigy),
    "a step with everything": functools.partial(stepping, schuss.AdamW, ema=0.9),
    "a step with an estimate": estimating,
    "accumulate": adding_up,
    "a step with a sum": stepping_with_a_sum,
    "load_state_dict": loading,
    "eval": evaluating,
    "train": training,
    "use_ema": averaging,
    "a step with an idle average": stepping_with_an_idle_average,
    "reload_params": reloading,
}


def everything(optimizer):
    """What an optimizer looks like, in any mode."""
    why, optimizer._parameters.swap.reason = optimizer._parameters.swap.reason, ""
    sums = optimizer._sums
    added = {} if sums is None else {name: total.tobytes() for name, total in sums.values().items()}
    seen = looks(optimizer), why, added
    optimizer._parameters.swap.reason = why
    return seen


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("deed", DEEDS)
@pytest.mark.parametrize("kind", BACKENDS)
def test_interrupted_anywhere_it_is_done_or_it_is_not(kind, deed):
    optimizer, do = DEEDS[deed](kind)
    before = everything(optimizer)
    do()
    done = everything(optimizer)
    assert before != done
    (after, stride), left = places(kind), -1
    while left < 0:
        optimizer, do = DEEDS[deed](kind)
        interrupt = Interrupt(after)
        with interrupt.at_work():
            do()
        assert everything(optimizer) in (before, done), after
        if everything(optimizer) == before:
            do()
        assert everything(optimizer) == done
        after, left = after + stride, interrupt.left
    assert after > 10


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_block_that_is_left_is_left():
    """Wherever a signal's handler raises: when the block is entered, in ``__exit__``, or before its first line."""
    (after, stride), left = places("numpy"), -1
    while left < 0:
        optimizer, _ = optimizer_of(schuss.SGD, "numpy", ema=0.5)
        before, interrupt = everything(optimizer), Interrupt(after)
        with interrupt.at_work(), optimizer.use_ema():
            pass
        assert everything(optimizer) == before, after
        after, left = after + stride, interrupt.left
    assert after > 10


def test_every_python_handler_waits():
    """Not that of Ctrl-C alone; one that raises keeps no other from being called, and all are put back."""
    called, numbers = [], [signal.SIGINT, signal.SIGTERM, signal.SIGABRT]

    def handler(number, frame):
        called.append(number)
        raise KeyError(number)

    before = [signal.signal(number, handler) for number in numbers]

    def interrupted():
        with DeferInterrupt():
            for number in numbers:
                signal.raise_signal(number)
            with DeferInterrupt():
                signal.raise_signal(numbers[0])
            assert not called

    try:
        with pytest.raises(KeyError):
            interrupted()
        assert called == numbers
        assert all(signal.getsignal(number) is handler for number in numbers)
    finally:
        for number, old in zip(numbers, before, strict=True):
            signal.signal(number, old)
