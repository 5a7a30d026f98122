"""What a step costs beside its arithmetic: the call itself, new gradient arrays, and the first call of all."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from . import console, timing, workloads
from .console import CommandError

ROUNDS = 25
STEPS = 400

FIRST_STEP = """
import time
start = time.perf_counter()
import numpy as np, schuss
imported = time.perf_counter()
schuss.AdamW([np.ones(1000, np.float32)]).step([np.ones(1000, np.float32)])
print(imported - start, time.perf_counter() - imported)
"""
"""Seconds of the imports and of the first step, in a process of its own."""


def measure(progress: console.Progress | None = None) -> dict[str, Any]:
    """All figures, in seconds."""
    show = progress.show if progress is not None else lambda _: None
    show("latency: one tensor of 1000")
    call = call_time()
    show("latency: new gradient arrays")
    same, fresh = fresh_gradients()
    show("latency: first step without a cache")
    with tempfile.TemporaryDirectory(prefix="schuss-bench-") as folder:
        cold = first_step(folder)
        show("latency: first step with a cache")
        warm = [first_step(folder) for _ in range(3)]
    return {
        "step_1x1000_s": call,
        "tensors": len(small_resnet18()),
        "step_same_gradients_s": same,
        "step_fresh_gradients_s": fresh,
        "fresh_gradients_add_s": fresh - same,
        "cold_import_s": cold[0],
        "cold_first_step_s": cold[1],
        "cached_import_s": statistics.median(first for first, _ in warm),
        "cached_first_step_s": statistics.median(second for _, second in warm),
    }


def call_time() -> float:
    """``opt.step(grads)`` of AdamW on one tensor of 1000, with the same gradient array."""
    gradients = workloads.random_arrays([(1000,)], 2)
    optimizer = workloads.VARIANTS["adamw"].build(workloads.random_arrays([(1000,)], 1))
    contender = timing.Contender("schuss", lambda: optimizer.step(gradients))
    timing.interleave([contender], ROUNDS)
    return timing.quartiles(contender.samples)[1]


def small_resnet18() -> list[tuple[int, ...]]:
    """ResNet18's 62 shapes with every axis cut to 16, so that the arithmetic does not drown what is measured."""
    return [tuple(min(size, 16) for size in shape) for shape in workloads.model_shapes("resnet18")]


def fresh_gradients() -> tuple[float, float]:
    """A step over 62 tensors with the gradient arrays of the step before, and with new ones."""
    shapes = small_resnet18()
    optimizer = workloads.VARIANTS["adamw"].build(workloads.random_arrays(shapes, 1))
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


def first_step(cache: str) -> tuple[float, float]:
    """Seconds that imports and the first step take in a new process whose kernels are cached in ``cache``.

    Raises
    ------
    CommandError
        When the process fails.
    """
    done = subprocess.run(
        [sys.executable, "-c", FIRST_STEP],
        env={**os.environ, "NUMBA_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise CommandError(f"the first step in a new process failed: {last[0]}")
    imported, stepped = map(float, done.stdout.split())
    return imported, stepped


def table(figures: dict[str, Any]) -> str:
    """The figures as text."""
    count = figures["tensors"]
    rows = [
        ("opt.step(grads), AdamW, 1 tensor of 1000, the same gradient array", "step_1x1000_s", "µs"),
        (f"opt.step(grads), AdamW, {count} small tensors, the same gradient arrays", "step_same_gradients_s", "µs"),
        ("    new gradient arrays at every step add", "fresh_gradients_add_s", "µs"),
        ("first step in a new process, kernels not cached", "cold_first_step_s", "s"),
        ("    imports before it", "cold_import_s", "s"),
        ("first step in a new process, kernels cached", "cached_first_step_s", "s"),
        ("    imports before it", "cached_import_s", "s"),
    ]
    scale = {"µs": 1e6, "s": 1.0}
    columns = (console.Column("latency", 70, left=True), console.Column("", 8), console.Column("", 2, left=True))
    lines = [console.row(columns, (text, _signed(figures[key] * scale[unit]), unit)) for text, key, unit in rows]
    return "\n".join([console.heading(columns), *lines])


def _signed(value: float) -> str:
    return f"-{console.figure(-value)}" if value < 0 else console.figure(value)
