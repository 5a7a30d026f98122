"""Calls of an optimizer inside another call of it, and forks: nothing waits for what its own thread holds."""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import pytest

import schuss
from schuss.core import fork_lock

GRADIENTS = [np.ones(3)]

CALLS = {
    "step": lambda opt: opt.step(GRADIENTS),
    "accumulate": lambda opt: opt.accumulate(GRADIENTS),
    "discard_accumulated": lambda opt: opt.discard_accumulated(),
    "use_ema": lambda opt: opt.use_ema().__enter__(),
    "reload_params": lambda opt: opt.reload_params(),
    "state_dict": lambda opt: opt.state_dict(),
    "load_state_dict": lambda opt: opt.load_state_dict({}),
    "Lookahead": lambda opt: schuss.Lookahead(opt),
}

can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
ignore_threads = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def calling(call):
    """An optimizer whose learning rate calls ``call(optimizer)`` in its second step; what it returned comes too."""
    found = []

    def lr(step):
        if step == 1:
            found.append(call(optimizer))
        return 0.5

    optimizer = schuss.SGD([np.ones(3)], lr=lr, ema=0.5, backend="numpy")
    optimizer.step(GRADIENTS)
    return optimizer, found


@pytest.mark.parametrize("name", CALLS)
def test_a_call_inside_a_step_is_refused_at_once(name):
    optimizer, _ = calling(CALLS[name])
    with pytest.raises(RuntimeError, match=rf"{name}\(\): called inside another call of the same optimizer"):
        optimizer.step(GRADIENTS)
    assert optimizer.steps == 1
    assert (optimizer.params[0] == 0.5).all()
    optimizer.param_groups[0]["lr"] = lambda step: 0.5
    optimizer.step(GRADIENTS)
    assert (optimizer.params[0] == 0.0).all()


@pytest.mark.parametrize(("name", "method"), [("eval", "eval"), ("train", "train"), ("averaged", "averaged")])
def test_the_modes_of_schedule_free_optimizers_are_refused_too(name, method):
    def lr(step):
        if step == 1:
            block = getattr(optimizer, method)()
            if block is not None:
                block.__enter__()
        return 0.5

    optimizer = schuss.ScheduleFreeSGD([np.ones(3)], lr=lr, backend="numpy")
    optimizer.step(GRADIENTS)
    with pytest.raises(RuntimeError, match=rf"{name}\(\): called inside"):
        optimizer.step(GRADIENTS)


def test_an_estimate_survives_a_step_that_comes_before_its_own():
    """Of a signal's handler, between the call of a step and where it begins."""
    w = [np.zeros(3)]
    optimizer, straight = (schuss.Sophia([p.copy() for p in w], lr=0.1, backend="numpy") for _ in range(2))
    parameters, real = optimizer._parameters, optimizer._stepper.lock

    class Late:
        """A lock that lets a handler step first."""

        def _is_owned(self):
            optimizer._stepper.lock = real
            optimizer.step(GRADIENTS)
            return False

    optimizer._stepper.lock = Late()
    optimizer.step(GRADIENTS, hessian=GRADIENTS)
    straight.step(GRADIENTS)
    straight.step(GRADIENTS, hessian=GRADIENTS)
    assert parameters.memories[0].array.tobytes() == straight.params[0].tobytes()
    assert optimizer.state_dict()["state"]["0"]["hessian"].any()


def child_of_a_fork(check):
    """Fork; whether ``check()`` held in the child, which then ends."""
    pid, held = os.fork(), False
    if pid == 0:
        try:
            held = check()
        finally:
            os._exit(0 if held else 1)
    return os.waitpid(pid, 0)[1] == 0


@can_fork
@ignore_threads
def test_a_fork_inside_a_step_does_not_wait_for_it():
    started = time.monotonic()
    optimizer, found = calling(lambda opt: child_of_a_fork(lambda: opt.steps == 1))
    optimizer.step(GRADIENTS)
    assert found
    assert all(found)
    assert time.monotonic() - started < 5.0
    assert not optimizer._stepper.lock._is_owned()


@can_fork
@ignore_threads
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["_before", "_in_parent", "_in_child"])
def test_a_fork_that_a_signal_interrupts_leaves_no_lock_held(name):
    """A handler that raises ends what Python calls at a fork before its first line."""
    optimizer = schuss.SGD([np.zeros(3)], lr=1.0, backend="numpy")
    lock = optimizer._stepper.lock

    def interrupt(frame, event, argument):
        if event == "call" and frame.f_code.co_name == name:
            sys.setprofile(None)
            raise KeyboardInterrupt

    def check():
        optimizer.step(GRADIENTS)
        return optimizer.steps == 1 and not lock._is_owned()

    sys.setprofile(interrupt)
    assert child_of_a_fork(check)
    sys.setprofile(None)
    assert not lock._is_owned()


@can_fork
@ignore_threads
def test_a_fork_while_other_threads_build_optimizers(monkeypatch):
    """They come at every place where Python could run another thread."""
    errors, built = [], []
    monkeypatch.setattr(sys, "unraisablehook", errors.append)
    optimizer = schuss.SGD([np.zeros(3)], lr=1.0, backend="numpy")

    def build(frame, event, argument):
        if event == "call":
            built.append(fork_lock.step_lock())

    def check():
        sys.setprofile(None)
        optimizer.step(GRADIENTS)
        return optimizer.steps == 1

    sys.setprofile(build)
    try:
        assert child_of_a_fork(check)
    finally:
        sys.setprofile(None)
    assert not errors
    assert built
    assert not any(lock._is_owned() for lock in built)
