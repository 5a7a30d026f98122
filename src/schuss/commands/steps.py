"""Show ``schuss demo resnet18``: steps of real size, and the time that the memory alone would take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from schuss_kernels.engine.thread_count import max_threads

from .. import plots
from ..optim import registry
from ..optim.registry import Variant
from . import bench, bench_checks, console, workloads
from .console import Column, CommandError
from .pictures import Album

NAME = "resnet18"

ROUNDS = 7
"""Samples of each step and its floor, taken turn by turn."""

TRIES = 3
"""Times it is measured where something else runs as well."""

ABOVE = 1.08
"""Floor over step from which one of them was disturbed: a step cannot be faster than its floor."""

SLOW = 0.6
"""Slowest floor over the fastest, in bytes a second, below which the machine was not the same all along."""

COLUMNS = (
    Column("\noptimizer", 26, left=True),
    Column("bytes/\nparam", 6),
    Column("ms/\nstep", 7),
    Column("\nGB/s", 6),
    Column("floor\nms", 7),
    Column("share of\nfloor", 8),
)


def run(keys: Sequence[str], album: Album, progress: console.Progress) -> None:
    """Step every parameter of ResNet18 with each optimizer, check the steps, time them, and draw bars.

    Raises
    ------
    CommandError
        When the floor cannot be measured, as nothing is compiled.
    Mismatch
        When a step is not what the numpy reference says.
    """
    if not available():
        raise CommandError(f"NUMBA_DISABLE_JIT is set: nothing is compiled, so {NAME} has no floor to stand beside")
    import numba

    load = workloads.workload(NAME)
    threads = min(max_threads(), numba.config.NUMBA_NUM_THREADS)
    print(f"{load}; {threads} thread{'s' * (threads != 1)}")
    print("Floor: a loop that only reads and writes the same. Every step is first compared with the numpy reference.\n")
    print(console.heading(COLUMNS), flush=True)
    progress.show(f"{load.title}: making arrays")
    source = bench.Source(load)
    seconds, floors, speeds, busy = {}, {}, [], False
    with bench_checks.same_threads(threads, False):
        for key in keys:
            variant = registry.VARIANTS[key]
            result = _measured(variant, source, threads, progress)
            progress.clear()
            if isinstance(result, str):
                print(f"{variant.title}: skipped, {result}", flush=True)
                continue
            ours, floor = _times(result)
            seconds[variant.title], floors[variant.title] = ours, floor
            cells = (
                variant.title,
                f"{result['bytes_per_parameter']:g}",
                console.figure(ours * 1e3),
                f"{result['gb_per_s']:.1f}",
                console.figure(floor * 1e3),
                f"{floor / ours:.0%}",
            )
            speeds.append(result["bytes"] / floor)
            busy |= _disturbed(result)
            print(console.row(COLUMNS, cells) + "  busy" * _disturbed(result), flush=True)
    busy |= bool(speeds) and min(speeds) < SLOW * max(speeds)
    if busy:
        print("busy: something else ran as well, so that the times say little; run it again on a quiet machine")
    if seconds:
        title = f"One step of ResNet18's {load.parameters:,} parameters, float32, {threads} threads"
        title += "\n(disturbed: something else ran as well)" * busy
        album.add(f"{NAME}-steps.png", plots.step_times, seconds, floors, title=title)


def _measured(variant: Variant, source: bench.Source, threads: int, progress: console.Progress) -> dict[str, Any] | str:
    """Return an optimizer's figures; where something else ran as well, measure again and take the calmest."""
    settings = bench.Settings(rounds=ROUNDS, threads=threads, torch=False, reference=False)
    tries = []
    for _ in range(TRIES):
        result = bench.measure(variant, source, settings, False, progress)
        if isinstance(result, str):
            return result
        tries.append(result)
        if not _disturbed(result):
            break
    return min(tries, key=lambda result: (_disturbed(result), sum(_times(result))))


def _times(result: dict[str, Any]) -> tuple[float, float]:
    """Return the medians of the step and of its floor, in seconds."""
    ours, floor = (result["contenders"][name]["median_s"] for name in ("schuss", "floor"))
    return ours, floor


def _disturbed(result: dict[str, Any]) -> bool:
    """Return whether samples scatter, or the floor came out above the step that it should be below."""
    ours, floor = _times(result)
    return bool(result["busy"] or floor > ABOVE * ours)


def available() -> bool:
    """Return whether loops are compiled here."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
