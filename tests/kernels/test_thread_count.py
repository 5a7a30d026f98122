"""How many threads a step may use: the environment, the argument, the work there is."""

from __future__ import annotations

import os

import numpy as np
import pytest
from cases import BACKENDS
from processes import python
from schuss_kernels.engine.host import MIN_PER_THREAD, SERIAL_BELOW
from schuss_kernels.engine.thread_count import max_threads

import schuss

HOST = BACKENDS[1:]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.fixture
def environment(monkeypatch):
    """Sets both variables, or takes them out."""

    def put(openmp=None, numba=None):
        for name, value in (("OMP_NUM_THREADS", openmp), ("NUMBA_NUM_THREADS", numba)):
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(
    ("openmp", "numba", "expected"),
    [
        ("3", None, 3),
        ("3", "5", 3),
        (None, "5", 5),
        ("4,2", "5", 4),
        (" 4 , 2", None, 4),
        ("", "5", 5),
        ("0", "5", 5),
        ("x", "5", 5),
        ("-2", "5", 5),
        ("1.5", "5", 5),
        (",4", "5", 5),
        ("1000", None, 1000),
        ("x", "0", CORES),
        ("", "", CORES),
        (None, None, CORES),
    ],
)
def test_the_environment(openmp, numba, expected, environment):
    environment(openmp, numba)
    assert max_threads() == expected


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not bind processes to cores")
def test_the_cores_this_process_may_run_on(environment, monkeypatch):
    environment()
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 5, 6})
    assert max_threads() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert max_threads() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert max_threads() == 1


def workers(elements, kind, threads=None):
    return schuss.SGD([np.zeros(elements, np.float32)], threads=threads, backend=kind)._stepper.engine.workers


@pytest.mark.parametrize("kind", HOST)
def test_threads_of_a_step(kind, environment):
    environment("5")
    assert workers(SERIAL_BELOW - 1, kind) == 1
    assert workers(SERIAL_BELOW, kind) == SERIAL_BELOW // MIN_PER_THREAD == 4
    assert workers(10 * SERIAL_BELOW, kind) == 5
    assert workers(10 * SERIAL_BELOW, kind, threads=2) == 2
    assert workers(10 * SERIAL_BELOW, kind, threads=9) == 9
    assert workers(SERIAL_BELOW, kind, threads=1) == 1
    assert workers(SERIAL_BELOW - 1, kind, threads=9) == 1
    environment(None, "3")
    assert workers(10 * SERIAL_BELOW, kind) == 3


@pytest.mark.parametrize("kind", HOST)
def test_no_more_threads_than_spans(kind, environment):
    environment()
    made = schuss.SGD([np.zeros(SERIAL_BELOW, np.float32)], threads=1000, backend=kind)
    assert made._stepper.engine.workers == len(made._stepper.engine.plan.spans) - 1 < 1000


STARTED = """
import os, sys
import numpy as np, schuss

def threads_after_a_step(threads):
    w = np.zeros(1_000_000, np.float32)
    schuss.SGD([w], threads=threads, backend=sys.argv[1]).step([w.copy()])
    return len(os.listdir("/proc/self/task"))

alone = threads_after_a_step(1)
print(*(threads_after_a_step(threads) - alone for threads in (1, None, 2, 6, 3)))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="this system does not tell its threads")
@pytest.mark.parametrize("kind", HOST)
def test_threads_that_are_started(kind):
    """As many as were asked for, and no more; they stay."""
    assert python(STARTED, kind, OMP_NUM_THREADS="4").split() == ["0", "3", "3", "5", "5"]
