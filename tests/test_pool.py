"""The helper threads' book-keeping, with the compiled parts replaced by Python."""

from __future__ import annotations

import threading

import pytest
from schuss_kernels.cpu import thread_pool


def test_an_interrupt_waits_for_the_helpers(monkeypatch):
    """Ctrl-C while a helper works on the job: the pool is not free, and the call does not end, before it has left."""
    looks = []

    def left(job):
        looks.append(made._busy.locked())
        return len(looks) >= 6

    def sleep(seconds):
        if len(looks) in (2, 4):
            raise KeyboardInterrupt

    monkeypatch.setattr(thread_pool.time, "sleep", sleep)
    made = thread_pool.Pool(lambda *job: None, lambda *job: -1, left)
    with pytest.raises(KeyboardInterrupt):
        made.run(0, 0, 0, 0, 0, threads=1, clock=0, column=0)
    assert looks == [True] * 6
    assert made.run(0, 0, 0, 0, 0, threads=1, clock=0, column=0), "the pool serves the next job"


def test_one_job_at_a_time():
    inside, go_on = threading.Event(), threading.Event()

    def lead(*job):
        inside.set()
        assert go_on.wait(30)

    made = thread_pool.Pool(lead, lambda *job: -1, lambda job: True)
    first = threading.Thread(target=made.run, args=(0, 0, 0, 0, 0, 1, 0, 0))
    first.start()
    assert inside.wait(30)
    assert made.run(0, 0, 0, 0, 0, 1, 0, 0) is False
    go_on.set()
    first.join()
    assert made.run(0, 0, 0, 0, 0, 1, 0, 0) is True
