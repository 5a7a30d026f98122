"""How many threads a step may use: the environment, the argument, the work there is."""

from __future__ import annotations

import os

import numpy as np
import pytest
from cases import BACKENDS
from processes import python
from schuss_kernels.engine import thread_count
from schuss_kernels.engine.host import MIN_PER_THREAD, SERIAL_BELOW
from schuss_kernels.engine.thread_count import at_most_cores, cpu_quota, max_threads

import schuss

HOST = BACKENDS[1:]
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@pytest.fixture
def environment(monkeypatch):
    """Sets both variables, or takes them out. No control group limits the process."""
    monkeypatch.setattr(thread_count, "cpu_quota", lambda: None)

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


@pytest.fixture
def three_cores(environment, monkeypatch):
    """A process that may run on three cores, with the limit to them in force."""
    environment()
    monkeypatch.setattr(thread_count, "at_most_cores", at_most_cores)
    monkeypatch.setattr(thread_count, "cores", lambda: 3)


def test_no_more_threads_than_cores(three_cores, environment):
    assert max_threads() == 3
    for asked, expected in (("2", 2), ("256", 3)):
        environment(asked)
        assert max_threads() == expected
        environment(None, asked)
        assert max_threads() == expected


@pytest.mark.parametrize(("quota", "expected"), [(None, 3), (0.25, 1), (1.0, 1), (1.5, 2), (64.0, 3)])
def test_the_cpu_time_of_a_container(quota, expected, three_cores, monkeypatch):
    monkeypatch.setattr(thread_count, "cpu_quota", lambda: quota)
    assert max_threads() == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert max_threads() == 2, "the user decides"


V1 = "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n2:cpuset:/\n"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n"}, 0.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 200000\n", "cpu.max": "max 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("0::/not/seen/from/here\n", {"cpu.max": "100000\n"}, None),
        ("0::/not/seen/from/here\n", {"cpu.max": "100000 50000\n"}, 2.0),
        ("0::/../b\n", {"cpu.max": "100000 50000\n"}, 2.0),
        ("0::/a:b\n", {"a:b/cpu.max": "100000 50000\n"}, 2.0),
        ("0::/\n", {"cpu.max": ""}, None),
        (V1, {"cpu/docker/a/cpu.cfs_quota_us": "150000\n", "cpu/docker/a/cpu.cfs_period_us": "100000\n"}, 1.5),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"}, 0.5),
        (V1, {"cpu/docker/a/cpu.cfs_quota_us": "-1\n", "cpu/docker/a/cpu.cfs_period_us": "100000\n"}, None),
        (V1, {"cpu/cpu.cfs_quota_us": "50000\n"}, None),
        (V1 + "0::/\n", {"cpu.max": "50000 100000\n", "memory/docker/a/cpu.max": "1 100000\n"}, 0.5),
        ("", {"cpu.max": "50000 100000\n"}, None),
    ],
)
def test_the_quota_of_control_groups(groups, files, expected, tmp_path):
    """Version 2 and version 1, and of the groups above."""
    for name, text in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    listed = tmp_path / "self"
    listed.write_text(groups)
    assert cpu_quota(listed, tmp_path / "cgroup") == expected


def test_a_system_without_control_groups(tmp_path):
    assert cpu_quota(tmp_path / "none", tmp_path) is None


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
def test_threads_that_are_asked_for_are_limited_to_the_cores(kind, three_cores):
    assert workers(10 * SERIAL_BELOW, kind) == 3
    assert workers(10 * SERIAL_BELOW, kind, threads=2) == 2
    assert workers(10 * SERIAL_BELOW, kind, threads=256) == 3


@pytest.mark.parametrize("kind", HOST)
def test_no_more_threads_than_spans(kind, environment):
    environment()
    made = schuss.SGD([np.zeros(SERIAL_BELOW, np.float32)], threads=1000, backend=kind)
    assert made._stepper.engine.workers == len(made._stepper.engine.plan.spans) - 1 < 1000


STARTED = """
import os, sys
import numpy as np, schuss
from schuss_kernels.engine import thread_count

thread_count.at_most_cores = lambda threads: threads

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
