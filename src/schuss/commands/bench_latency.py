"""Measure what a step costs beside its arithmetic: the call itself, new gradient arrays, and a new process."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from ..optim import registry
from . import console, timing, workloads
from .console import CommandError

ROUNDS = 25
STEPS = 400
PROCESSES = 11

NUMPY = "import numpy"
"""The process that a cold start is compared with."""

FIRST_STEP = """
import time
start = time.perf_counter()
import numpy as np, schuss
imported = time.perf_counter()
schuss.AdamW([np.ones(1000, np.float32)], backend={backend!r}).step([np.ones(1000, np.float32)])
print(imported - start, time.perf_counter() - imported)
"""
"""A whole program: imports, an optimizer, one step. Prints the seconds of the imports and of the rest."""


def measure(progress: console.Progress | None = None) -> dict[str, Any]:
    """Return all figures, in seconds."""
    show = progress.show if progress is not None else lambda _: None
    show("latency: one tensor of 1000")
    call = call_time()
    show("latency: new gradient arrays")
    same, fresh = fresh_gradients()
    show("latency: new processes")
    alone, whole = cold_start()
    show("latency: numba, first step without a cache")
    with tempfile.TemporaryDirectory(prefix="schuss-bench-") as folder:
        cold = first_step("numba", folder)
        show("latency: numba, first step with a cache")
        warm = [first_step("numba", folder) for _ in range(3)]
    return {
        "backend": backend(),
        "step_1x1000_s": call,
        "tensors": len(small_resnet18()),
        "step_same_gradients_s": same,
        "step_fresh_gradients_s": fresh,
        "fresh_gradients_add_s": fresh - same,
        "process_numpy_s": alone,
        "process_first_step_s": whole,
        "cold_start_s": whole - alone,
        "numba_cold_first_step_s": cold[1],
        "numba_cached_first_step_s": statistics.median(second for _, second in warm),
        "numba_import_s": statistics.median(first for first, _ in warm),
    }


def backend() -> str:
    """Name the backend that runs a step of AdamW here."""
    return registry.VARIANTS["adamw"].build(workloads.random_arrays([(1,)], 1)).backend


def call_time() -> float:
    """Time ``opt.step(grads)`` of AdamW on one tensor of 1000, with the same gradient array, in seconds."""
    gradients = workloads.random_arrays([(1000,)], 2)
    optimizer = registry.VARIANTS["adamw"].build(workloads.random_arrays([(1000,)], 1))
    contender = timing.Contender("schuss", lambda: optimizer.step(gradients))
    timing.interleave([contender], ROUNDS)
    return timing.quartiles(contender.samples)[1]


def small_resnet18() -> list[tuple[int, ...]]:
    """Cut ResNet18's 62 tensors to 100 elements each, so that the arithmetic does not drown what is measured."""
    return [(min(size, 100),) for size in workloads.workload("resnet18").sizes]


def fresh_gradients() -> tuple[float, float]:
    """Time a step over 62 tensors with the gradient arrays of the step before, and with new ones, in seconds."""
    shapes = small_resnet18()
    optimizer = registry.VARIANTS["adamw"].build(workloads.random_arrays(shapes, 1))
    gradients = workloads.random_arrays(shapes, 2)
    taken: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * STEPS):
        new = number % 2 == 1
        if new:
            gradients = [array.copy() for array in gradients]
        start = time.perf_counter()
        optimizer.step(gradients)
        taken[new].append(time.perf_counter() - start)
    return statistics.median(taken[False]), statistics.median(taken[True])


def cold_start() -> tuple[float, float]:
    """Time a process that imports numpy, and one that imports schuss, builds AdamW and steps, turn by turn."""
    codes = (NUMPY, FIRST_STEP.format(backend="auto"))
    taken: list[list[float]] = [[], []]
    for _ in range(PROCESSES):
        for code, samples in zip(codes, taken, strict=True):
            start = time.perf_counter()
            _python(code)
            samples.append(time.perf_counter() - start)
    alone, whole = map(statistics.median, taken)
    return alone, whole


def first_step(backend: str, cache: str) -> tuple[float, float]:
    """Time imports and the first step in a new process whose numba kernels are cached in ``cache``, in seconds.

    Raises
    ------
    CommandError
        When the process fails.
    """
    imported, stepped = map(float, _python(FIRST_STEP.format(backend=backend), NUMBA_CACHE_DIR=cache).split())
    return imported, stepped


def _python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise CommandError(f"the first step in a new process failed: {last[0]}")
    return done.stdout


def table(figures: dict[str, Any]) -> str:
    """Write the figures as text."""
    count = figures["tensors"]
    rows = [
        ("opt.step(grads), AdamW, 1 tensor of 1000, the same gradient array", "step_1x1000_s", "µs"),
        (f"opt.step(grads), AdamW, {count} tensors of up to 100, the same arrays", "step_same_gradients_s", "µs"),
        ("    new gradient arrays at every step", "step_fresh_gradients_s", "µs"),
        ("        which is more by", "fresh_gradients_add_s", "µs"),
        ("new process: imports, AdamW over 1000, one step, exit", "process_first_step_s", "ms"),
        ("    beyond a process that imports numpy", "cold_start_s", "ms"),
        ("numba: first step in a new process, kernels not cached", "numba_cold_first_step_s", "ms"),
        ("    kernels cached", "numba_cached_first_step_s", "ms"),
    ]
    scale = {"µs": 1e6, "ms": 1e3}
    columns = (
        console.Column(f"latency (backend {figures['backend']})", 70, left=True),
        console.Column("", 8),
        console.Column("", 2, left=True),
    )
    lines = [console.row(columns, (text, _signed(figures[key] * scale[unit]), unit)) for text, key, unit in rows]
    return "\n".join([console.heading(columns), *lines])


def _signed(value: float) -> str:
    return f"-{console.figure(-value)}" if value < 0 else console.figure(value)
