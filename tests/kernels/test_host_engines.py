"""What the engines for host memory share: threads, forks, gradients that change, what does not fit into 32 bits."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import signal
import sys
import threading
import time
import traceback
import types
import weakref

import numpy as np
import pytest
from cases import BACKENDS, arrays, assert_same_bits, assert_same_optimizers
from processes import python
from schuss_kernels.cpu import engine as cpu_engine
from schuss_kernels.cpu import launcher
from schuss_kernels.engine.extension import ExtensionEngine, is_usable
from schuss_kernels.plan import chunk_table

import schuss
from schuss.core import fork_lock

HOST = BACKENDS[1:]
can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def stepped(optimizer, gradients, times):
    for _ in range(times):
        optimizer.step(gradients)


@pytest.mark.parametrize("threads", [1, 3])
def test_optimizers_stepping_in_several_threads(threads, backend):
    """Small and large ones, each in its own thread: every one gets the bits it gets alone."""
    sizes = [[1000], [300_000], [200_000, 5], [70_000] * 4]
    expected, optimizers = [], []
    for kept in (expected, optimizers):
        for seed, size in enumerate(sizes):
            params = arrays(size, np.float32, seed)
            optimizer = schuss.AdamW(params, threads=threads, backend=backend)
            kept.append((optimizer, arrays(size, np.float32, 10 + seed)))
    for optimizer, gradients in expected:
        stepped(optimizer, gradients, 20)
    running = [threading.Thread(target=stepped, args=(*pair, 20)) for pair in optimizers]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    for (optimizer, _), (alone, _) in zip(optimizers, expected, strict=True):
        assert_same_optimizers(optimizer, alone)


def test_one_optimizer_stepped_by_several_threads_is_serialised(backend):
    w, g = arrays([300_000, 300_000], np.float32, 0)
    optimizer = schuss.AdamW([w], backend=backend)
    running = [threading.Thread(target=stepped, args=(optimizer, [g], 10)) for _ in range(4)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    alone = schuss.AdamW(arrays([300_000], np.float32, 0), threads=1, backend=backend)
    stepped(alone, [g], 40)
    assert optimizer.steps == 40
    assert_same_optimizers(optimizer, alone)


@pytest.fixture
def locked_until_given_up():
    """Another thread runs when this one gives up the interpreter lock, never because its time is up."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", HOST)
def test_other_threads_run_during_a_long_step(kind, threads, locked_until_given_up):
    w, g = np.zeros(1_000_000), np.ones(1_000_000)
    optimizer = schuss.AdamW([w], threads=threads, backend=kind)
    optimizer.step([g])
    seen, done = [0], threading.Event()

    def count():
        while not done.is_set():
            seen[0] += 1
            time.sleep(1e-4)

    counting = threading.Thread(target=count)
    counting.start()
    before = seen[0]
    for _ in range(200):  # where all cores are busy it may take some steps
        optimizer.step([g])
        if seen[0] > before:
            break
    after = seen[0]
    done.set()
    counting.join()
    assert after > before


@contextlib.contextmanager
def running(optimizer, function):
    """Let the optimizer's launches call a Python function for every row, and nothing else."""

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    def kernel(returned, raised, row):
        function()
        return 0

    optimizer._stepper.engine.plan.rows[:, chunk_table.KERNEL] = ctypes.cast(kernel, ctypes.c_void_p).value
    yield


@pytest.mark.parametrize("change", [list.clear, lambda gradients: gradients.__setitem__(0, None)], ids=["clear", "set"])
@pytest.mark.parametrize("kind", HOST)
def test_a_list_of_gradients_changed_during_the_step(kind, change):
    """Another thread may do it. The step holds on to the arrays it reads, so that nobody frees them."""
    w, memory = np.zeros(200_000, np.float32), np.ones(200_000, np.float32)
    optimizer = schuss.SGD([w], threads=1, backend=kind)
    gradients = [memory[:]]
    optimizer.step(gradients)
    array, alive = weakref.ref(gradients[0]), set()

    def kernel():
        change(gradients)
        alive.add(array() is not None)

    with running(optimizer, kernel):
        optimizer.step(gradients)
    assert alive == {True}
    assert optimizer.steps == 2
    assert array() is None, "it was given back"


def in_a_child(function):
    """Call a function in a forked child; where it fails there, or hangs, this fails."""
    child = os.fork()
    if child == 0:
        left = 1
        try:
            signal.alarm(60)
            function()
            left = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(left)
    assert os.waitpid(child, 0)[1] == 0, "the child failed, or hung"


def threads_there():
    """Of this process; 2 where the system does not tell."""
    return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 2


def three_more_steps(backend):
    """An optimizer that has made its first step, and a function that makes three more and looks at everything."""
    gradients = arrays([300_000], np.float32, 1)
    made = [schuss.AdamW(arrays([300_000], np.float32, 0), threads=2, backend=backend) for _ in range(3)]
    for optimizer, steps in zip(made, (1, 1, 4), strict=True):
        stepped(optimizer, gradients, steps)
    optimizer, one, four = made

    def check():
        stepped(optimizer, gradients, 3)
        extension = isinstance(optimizer._stepper.engine, ExtensionEngine)
        assert threads_there() == 1 + extension, "the caller and its own helper; numba's team does not survive a fork"
        assert optimizer.steps == 4
        assert_same_optimizers(optimizer, four)
        fresh = schuss.AdamW(arrays([300_000], np.float32, 0), backend=backend)
        fresh.step(gradients)
        assert_same_optimizers(fresh, one)

    return check


@can_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_steps(backend):
    in_a_child(three_more_steps(backend))


@can_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_fork_while_the_helpers_are_at_work(backend, monkeypatch):
    """For another thread, whose step does not end: it is not there in the child, and the helpers neither."""
    monkeypatch.setattr(fork_lock, "FORK_TIMEOUT_S", 0.01)
    check = three_more_steps(backend)
    busy = schuss.SGD([np.zeros(300_000, np.float32)], threads=2, backend=backend)
    inside, done = threading.Semaphore(0), threading.Event()

    def kernel():
        inside.release()
        done.wait(60)

    with running(busy, kernel):
        working = threading.Thread(target=busy.step, args=([np.ones(300_000, np.float32)],))
        working.start()
        try:
            assert inside.acquire(timeout=30)
            inside.acquire(timeout=1)  # the helper, if it comes
            in_a_child(check)
        finally:
            done.set()
            working.join()
    assert busy.steps == 1


@can_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("kind", HOST)
def test_a_fork_waits_for_the_steps_of_other_threads(kind):
    """So that the child finds tensors that are whole, and can go on with them."""
    sizes = [4_000_000, 1000, 2_000_000]
    params, gradients = ([make(size, np.float32) for size in sizes] for make in (np.zeros, np.ones))
    optimizer, done = schuss.SGD(params, lr=1.0, threads=2, backend=kind), threading.Event()

    def work():
        while not done.is_set():
            optimizer.step(gradients)

    def check():
        for _ in range(2):
            assert all((p == -optimizer.steps).all() for p in params)
            optimizer.step(gradients)

    working = threading.Thread(target=work)
    working.start()
    try:
        for _ in range(3):
            in_a_child(check)
    finally:
        done.set()
        working.join()
    check()


TEAMS = {
    "torch": """
import torch
torch.set_num_threads(3)
torch.ones(1 << 20).exp().sum()
""",
    "numba": """
from numba import njit, prange
@njit(parallel=True)
def start(x):
    for i in prange(x.size):
        x[i] += 1.0
start(np.zeros(10))
""",
}
SHARE = """
import os, signal, sys
import numpy as np
{team}
import schuss
from schuss_kernels.engine import extension, thread_count

thread_count.at_most_cores = lambda threads: threads

def moved(threads, backend, steps=4):
    rng = np.random.default_rng(0)
    w, *gradients = (rng.standard_normal(400_000).astype(np.float32) for _ in range(1 + steps))
    optimizer = schuss.AdamW([w], threads=threads, backend=backend)
    for g in gradients:
        optimizer.step([g])
    return w.tobytes()

def threads_there():
    return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0

expected = moved(1, "numpy")
assert moved(1, {backend!r}) == expected
before = threads_there()
moved(3, {backend!r}, 1)
if extension.is_usable():
    assert threads_there() == before, "helpers were started beside the team"
assert moved(3, {backend!r}) == moved(2, {backend!r}) == moved(7, {backend!r}) == expected
if hasattr(os, "fork"):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os._exit(0 if moved(3, {backend!r}) == expected else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
"""


@pytest.mark.parametrize("team", TEAMS)
@pytest.mark.parametrize("kind", HOST)
def test_sharing_the_openmp_team_of_another_library(team, kind):
    """Its threads do the work, with the same bits; a forked child, where they are not, starts its own."""
    if importlib.util.find_spec(team) is None:
        pytest.skip(f"{team} is not installed")
    code = SHARE.format(team=TEAMS[team], backend=kind)
    python(code, NUMBA_NUM_THREADS="3", OMP_NUM_THREADS="3", PYTHONWARNINGS="ignore")


LATE = """
import os, sys, threading, time
import numpy as np, torch
import schuss
from schuss_kernels.engine import thread_count

thread_count.at_most_cores = lambda threads: threads
w, g = np.ones(200_000, np.float32), np.ones(200_000, np.float32)
default, three = (schuss.AdamW([w], threads=threads, backend=sys.argv[1]) for threads in (None, 3))

def threads_after_a_step(optimizer):
    optimizer.step([g])
    return len(os.listdir("/proc/self/task"))

torch.set_num_threads(1)
alone = threads_after_a_step(schuss.AdamW([w], threads=1, backend=sys.argv[1]))
assert threads_after_a_step(default) == alone, "torch was told to use one thread"
assert threads_after_a_step(three) == alone + 2, "the optimizer was told to use three"

torch.set_num_threads(2)
assert threads_after_a_step(default) == alone + 3, "a team of two has another thread"
core = min(os.sched_getaffinity(0))
for thread in map(int, os.listdir("/proc/self/task")):
    os.sched_setaffinity(thread, {core})
    if thread != threading.get_native_id():
        os.setpriority(os.PRIO_PROCESS, thread, 19)
waited = 0
for _ in range(20):
    begun = time.thread_time()
    default.step([g])
    waited += time.thread_time() - begun > 0.01
assert waited <= 2, f"{waited} of 20 steps waited for a thread that gets no core"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="where libgomp is")
@pytest.mark.parametrize("kind", HOST)
def test_a_team_of_few_threads_or_of_threads_that_get_no_core(kind):
    """The number of threads that torch is told to use is a limit; a thread that does not come is not waited for again.

    The caller's wait is seen in its own time, as it spins.
    """
    if importlib.util.find_spec("torch") is None or not is_usable():
        pytest.skip("needs torch and the C extension")
    python(LATE, kind, OMP_NUM_THREADS="2", GOMP_SPINCOUNT="3000000", PYTHONWARNINGS="ignore")


def test_numbas_launcher_uses_no_more_threads_than_torch(monkeypatch):
    monkeypatch.setattr(cpu_engine, "is_usable", lambda: False)
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(get_num_threads=lambda: 2))
    used = []
    monkeypatch.setattr(launcher, "run", lambda *arguments: used.append(arguments[5]))
    for threads in (None, 3):
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
        optimizer = schuss.SGD([np.zeros(400_000, np.float32)], threads=threads, backend="numba")
        optimizer.step([np.ones(400_000, np.float32)])
    assert used == [2, 3]


def zeros_beyond_32_bits():
    try:
        return np.zeros(2**31 + 1000, np.float32)
    except MemoryError:
        pytest.skip("this system does not promise memory that is not used")


def only_the_last(rows):
    """Let all rows of a plan but two move nothing; the elements of these two."""
    assert rows[-1, chunk_table.START] > 2**31 - 1
    rows[:-2, chunk_table.COUNT] = 0
    return int(rows[:, chunk_table.COUNT].sum())


def test_addresses_beyond_32_bits(backend):
    """The last chunks of a tensor with more than 2**31 elements, without touching the rest."""
    w, g = zeros_beyond_32_bits(), zeros_beyond_32_bits()
    optimizer = schuss.SGD([w], lr=0.5, backend=backend)
    rows = optimizer._stepper.engine.plan.rows
    last = only_the_last(rows)
    w[-2 * last :], g[-2 * last :] = 3.0, 1.0
    optimizer.step([g])
    assert optimizer._stepper.engine.plan.rows is rows
    assert (w[-last:] == 2.5).all()
    assert (w[-2 * last : -last] == 3.0).all()


def test_walks_beyond_32_bits(backend):
    """The same for a strided tensor: a gradient of one number, spread over it."""
    w = zeros_beyond_32_bits()
    g = np.broadcast_to(np.float32(1.0), w.shape)
    optimizer = schuss.SGD([w], lr=0.5, backend=backend)
    engine = optimizer._stepper.engine
    engine.tensors[0].gradient_strides = g.strides
    engine.build_plan()
    rows = engine.plan.rows
    last = only_the_last(rows)
    w[-2 * last :] = 3.0
    optimizer.step([g])
    assert engine.plan.rows is rows
    assert (w[-last:] == 2.5).all()
    assert (w[-2 * last : -last] == 3.0).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", HOST)
def test_more_than_two_to_the_31_elements(kind):
    size = 2**31 + 7
    w = np.full(size, 3.0, np.float32)
    g = np.ones(size, np.float32)
    schuss.SGD([w], lr=0.5, backend=kind).step([g])
    assert w.min() == w.max() == 2.5
    schuss.SGD([w], lr=0.5, backend=kind).step([np.broadcast_to(np.float32(1.0), (size,))])
    assert w.min() == w.max() == 2.0


@pytest.mark.filterwarnings("ignore:Setting the shape:DeprecationWarning")
@pytest.mark.parametrize("kind", HOST)
def test_a_gradient_reshaped_in_place_is_noticed(kind):
    """The array object and its address are the same as in the step before; its shape is not."""
    w, g = np.zeros((4, 6), np.float32), np.ones((4, 6), np.float32)
    optimizer = schuss.SGD([w], lr=1.0, backend=kind)
    gradients = [g]
    optimizer.step(gradients)
    g.shape = (6, 4)
    with pytest.raises(ValueError, match=r"expected shape \(4, 6\), got \(6, 4\)"):
        optimizer.step(gradients)
    g.shape = (24,)
    with pytest.raises(ValueError, match="expected shape"):
        optimizer.step(gradients)
    assert_same_bits(w, np.full((4, 6), -1.0, np.float32))
    assert optimizer.steps == 1


def test_a_launch_inside_a_launch_does_not_wait_for_it(monkeypatch):
    """A signal's handler may step another optimizer between the lock and the launch that it is taken for."""
    monkeypatch.setattr(launcher.numba, "threading_layer", lambda: "workqueue")
    with launcher._one_at_a_time():
        inner = launcher._one_at_a_time()
        assert inner.acquire(timeout=0.0)
        inner.release()
