"""One cache of compiled kernels for the whole run, who runs which test, and the engines that can run here."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile

import numba
import pairs
import pytest
from cases import engines, group_of
from schuss_kernels.cpu import engine as cpu_engine
from schuss_kernels.engine import extension, thread_count
from schuss_kernels.native import library


def share_a_cache():
    """Give all processes of a run one folder for numba's kernels, empty at its start and gone at its end."""
    if "NUMBA_CACHE_DIR" in os.environ:  # the user's, or that of the process that started this one
        return
    folder, owner = tempfile.mkdtemp(prefix="schuss-tests-"), os.getpid()
    os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR = folder
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(folder, ignore_errors=True))


def pytest_configure(config):
    share_a_cache()
    pairs.EVERY = "not full" not in config.option.markexpr


LONGEST = ("test_cuda", "test_demo", "test_bench", "test_interrupts", "test_stateful", "test_aot")
"""Files that take longest: begun first, so that no worker is left with one of them in the end."""


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: not item.path.name.startswith(LONGEST))


def pytest_runtest_teardown(item, nextitem):
    """After each group of tests, take what stays (numba's code, millions of objects) out of later collections."""
    if nextitem is None or group_of(nextitem.nodeid) != group_of(item.nodeid):
        gc.collect()
        gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Let one worker run the tests that need the same kernels, or the same fixtures of a file."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid)

    config.option.loadscopereorder = False  # it would begin with the groups of the most tests, not the longest ones
    return Scheduling(config, log)


@pytest.fixture(autouse=True)
def as_many_threads_as_asked_for(monkeypatch):
    """Tests of several threads ask for more than there may be cores."""
    monkeypatch.setattr(thread_count, "at_most_cores", lambda threads: threads)


@pytest.fixture(params=list(engines()))
def backend(request, monkeypatch):
    """A name for ``backend=``. Threads are schuss's own, whatever other libraries the tests have brought in."""
    name, _, level = request.param.partition(" ")
    if level == "prange":
        monkeypatch.setattr(cpu_engine, "is_usable", lambda: False)
    elif level:
        monkeypatch.setenv(library.LEVEL, level)
    monkeypatch.setattr(extension, "has_openmp_team", lambda: False)
    library.library.cache_clear()
    yield name
    library.library.cache_clear()
