"""Run ``schuss bench``: every optimizer on real shapes, beside the floor, numpy and torch.

A step is compared with the numpy reference, bit for bit, before it is timed.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from schuss_kernels.lang.traffic import traffic
from schuss_kernels.native import library

from ..optim import registry
from ..optim.registry import Variant
from . import bench_latency, bench_storage, console, machine, timing, workloads
from .bench_checks import bench_options, check_equal, check_small, same_threads
from .console import Column, CommandError, Mismatch
from .timing import Contender
from .workloads import Workload

FORMAT = 1
"""Version of the JSON file's form."""

_STORED = ("resnet18", "500x1000")
"""Workloads that values in fewer bytes are measured on."""

BUSY = 1.5
"""Third quartile over minimum from which a measurement was disturbed."""


@dataclass
class Settings:
    """What to measure and beside what."""

    variants: Sequence[str] = registry.CLASSIC
    workloads: Sequence[str] = workloads.WORKLOADS
    rounds: int | None = None
    threads: int | None = None
    backend: str = "auto"
    torch: bool = True
    reference: bool = True
    latency: bool = True
    storage: bool = False
    json: str | None = None


@dataclass
class Field:
    """An optimizer on a workload, and everything it is compared with, ready to step."""

    variant: Variant
    workload: Workload
    backend: str
    bytes: int
    states: int
    contenders: list[Contender] = field(default_factory=list)
    floor_s: float | None = None


def run(settings: Settings) -> dict[str, Any]:
    """Measure, print the tables to stdout as they come, write the JSON file, and return what is in it.

    Raises
    ------
    Mismatch
        When a step is not what the numpy reference says.
    CommandError
        When the settings cannot be carried out.
    """
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        raise CommandError("NUMBA_DISABLE_JIT is set: nothing is compiled, so there is nothing to measure")
    if settings.json is not None:
        _check_writable(Path(settings.json))
    if settings.storage and bench_storage.missing() is not None:
        raise CommandError(f"--storage: {bench_storage.missing()}")
    if settings.backend == "native" and library.available() is not None:
        raise CommandError(f"--backend: {library.available()}")
    with_torch = settings.torch and importlib.util.find_spec("torch") is not None
    about = machine.describe()
    report: dict[str, Any] = {
        "schuss_bench": FORMAT,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": about,
        "threads": settings.threads or about["cores"],
        "results": [],
        "storage": [],
        "latency": None,
    }
    with same_threads(settings.threads, with_torch), console.Progress() as progress:
        print(_about(report))
        if settings.torch and not with_torch:
            print("torch is not installed: its columns stay empty (pip install torch)")
        for key in settings.workloads:
            for result in _run_workload(workloads.workload(key), settings, with_torch, progress):
                report["results"].append(result)
                _write(report, settings)
        print("\n" + LEGEND)
        for key in _STORED if settings.storage else ():
            if key in settings.workloads:
                load = workloads.workload(key)
                report["storage"].append(
                    bench_storage.measure(load, settings.rounds or load.rounds, with_torch, progress)
                )
                print("\n" + bench_storage.table(report["storage"][-1]), flush=True)
                _write(report, settings)
        if settings.latency:
            report["latency"] = bench_latency.measure(progress)
            progress.clear()
            print("\n" + bench_latency.table(report["latency"]))
    _write(report, settings)
    return report


def _run_workload(
    load: Workload, settings: Settings, with_torch: bool, progress: console.Progress
) -> Iterator[dict[str, Any]]:
    print(f"\n{load}\n{console.heading(COLUMNS)}", flush=True)
    progress.show(f"{load.title}: making arrays")
    source = Source(load)
    for name in settings.variants:
        result = measure(registry.VARIANTS[name], source, settings, with_torch, progress)
        progress.clear()
        if isinstance(result, str):
            print(f"{registry.VARIANTS[name].title}: skipped, {result}", flush=True)
        else:
            print(line_of(result), flush=True)
            yield result


class Source:
    """The arrays of a workload: where parameters start, and gradients, which all contenders share."""

    def __init__(self, load: Workload) -> None:
        self.workload = load
        self.start = workloads.random_arrays(load.shapes, seed=1)
        self.gradients = workloads.random_arrays(load.shapes, seed=2, scale=0.1)

    def parameters(self) -> list[np.ndarray]:
        return [array.copy() for array in self.start]


def measure(
    variant: Variant, source: Source, settings: Settings, with_torch: bool, progress: console.Progress
) -> dict[str, Any] | str:
    """Return the figures of an optimizer on a workload, or say why there are none."""
    load = source.workload
    need, free = _memory_needed(variant, load, with_torch), machine.available_memory()
    if free is not None and need > free:
        return f"it needs about {need / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB is free"
    what = f"{load.title}, {variant.title}"
    progress.show(f"{what}: comparing with numpy")
    check_small(variant, settings.backend)
    rounds = settings.rounds or load.rounds
    made = contenders(variant, source, settings.threads, settings.reference, with_torch, settings.backend)
    progress.show(f"{what}: calibrating")
    timing.interleave(made.contenders, rounds, lambda n: progress.show(f"{what}: round {n} of {rounds}"))
    return _figures(made)


def contenders(
    variant: Variant,
    source: Source,
    threads: int | None = None,
    reference: bool = True,
    with_torch: bool = True,
    backend: str = "auto",
) -> Field:
    """Make an optimizer and what it is compared with. Each has made its first step, and that step has been checked.

    Raises
    ------
    Mismatch
        When the step differs from the numpy reference in a single bit, or from torch's by more than rounding.
    """
    from . import bandwidth_floor

    load, gradients = source.workload, source.gradients
    what = f"{variant.title} on {load.title}"
    ours, expected = source.parameters(), source.parameters()
    optimizer = variant.build(ours, threads=threads, backend=backend, **bench_options(variant))
    plain = variant.build(expected, backend="numpy", **bench_options(variant))
    optimizer.step(gradients)
    plain.step(gradients)
    check_equal(optimizer, plain, what)
    tensors = optimizer._stepper.engine.tensors
    moved = sum(tensor.bytes_moved() for tensor in tensors)
    made = Field(variant, load, optimizer.backend, round(moved), len(tensors[0].states))
    made.contenders.append(Contender("schuss", lambda: optimizer.step(gradients)))
    made.contenders.append(Contender("floor", bandwidth_floor.step(load.parameters, traffic(tensors[0].rule))))
    if reference:
        made.contenders.append(Contender("numpy", lambda: plain.step(gradients)))
    for fused in (True, False) if with_torch else ():
        theirs = source.parameters()
        step = _torch_step(variant, theirs, gradients, fused)
        if step is not None:
            name = "torch_fused" if fused else "torch"
            for number, (one, other) in enumerate(zip(expected, theirs, strict=True)):
                if not np.allclose(one, other, rtol=1e-4, atol=1e-5):
                    raise Mismatch(f"{what}: tensor {number} after a step is not what {name} makes of it")
            made.contenders.append(Contender(name, step))
    return made


def _torch_step(
    variant: Variant, arrays: Sequence[np.ndarray], gradients: Sequence[np.ndarray], fused: bool
) -> Callable[[], object] | None:
    """Return a step of torch's optimizer over the same memory, made once; None where torch has no such optimizer."""
    import torch

    if fused and not variant.fused:
        return None
    parameters = [torch.from_numpy(array).requires_grad_() for array in arrays]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.from_numpy(gradient)
    options = {**variant.options, **bench_options(variant)}
    try:
        optimizer = getattr(torch.optim, variant.optimizer)(parameters, **options, **({"fused": True} if fused else {}))
        optimizer.step()
    except (AttributeError, TypeError, RuntimeError):  # a torch that has no fused form of it on the CPU
        return None
    step: Callable[[], object] = optimizer.step
    return step


def _memory_needed(variant: Variant, load: Workload, with_torch: bool) -> int:
    states = len(variant.build([np.zeros(1, np.float32)], backend="numpy")._stepper.engine.tensors[0].states)
    copies = 4 if with_torch else 2
    return 4 * (load.parameters * (copies * (1 + states) + 2 + states) + 8 * max(load.sizes))


def _check_writable(path: Path) -> None:
    parent = path.absolute().parent
    if not parent.is_dir():
        raise CommandError(f"--json: there is no folder {parent}")
    if path.is_dir() or not os.access(path if path.exists() else parent, os.W_OK):
        raise CommandError(f"--json: {path} cannot be written")


def _write(report: dict[str, Any], settings: Settings) -> None:
    """Write what is known so far: a run that is broken off leaves what it has measured."""
    if settings.json is not None:
        Path(settings.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _figures(made: Field) -> dict[str, Any]:
    summaries = {contender.name: contender.summary() for contender in made.contenders}
    ours, floor = summaries["schuss"]["median_s"], summaries["floor"]["median_s"]
    return {
        "optimizer": made.variant.key,
        "title": made.variant.title,
        "options": {**made.variant.options, **bench_options(made.variant)},
        "workload": made.workload.key,
        "workload_title": made.workload.title,
        "backend": made.backend,
        "tensors": len(made.workload.shapes),
        "parameters": made.workload.parameters,
        "dtype": "float32",
        "states": made.states,
        "bytes": made.bytes,
        "bytes_per_parameter": made.bytes / made.workload.parameters,
        "gb_per_s": made.bytes / ours / 1e9,
        "share_of_floor": floor / ours,
        "time_over_floor": ours / floor,
        "times_faster": {
            name: summary["median_s"] / ours for name, summary in summaries.items() if name not in ("schuss", "floor")
        },
        "busy": any(summary["q3_s"] > BUSY * summary["min_s"] for summary in summaries.values()),
        "contenders": summaries,
    }


COLUMNS = (
    Column("\noptimizer", 26, left=True),
    Column("bytes/\nparam", 6),
    Column("ms/\nstep", 7),
    Column("\nGB/s", 6),
    Column("share of\nfloor", 8),
    Column("time/\nfloor", 6),
    Column("numpy\nms", 7),
    Column("\ntimes", 6),
    Column("torch fused\nms", 11),
    Column("\ntimes", 6),
    Column("torch\nms", 7),
    Column("\ntimes", 6),
)

LEGEND = """\
Medians, taken turn by turn in one process. GB/s: bytes a step has to move, over its time. Floor: a plain loop with the
same reads and writes and hardly any arithmetic (and one before it that only reads, where the optimizer makes two
passes); share of floor = its time / ours (on few elements the rest is the price of a call). times: their time / ours:
how many times faster schuss is.
busy: something else ran as well (a quarter of some samples took over 1.5 times the shortest); measure again.
Every step was compared with the numpy reference, bit for bit, before it was timed."""


def line_of(result: dict[str, Any]) -> str:
    """Write a result as a line of the table."""
    cells = [
        result["title"],
        f"{result['bytes_per_parameter']:g}",
        console.figure(result["contenders"]["schuss"]["median_s"] * 1e3),
        f"{result['gb_per_s']:.1f}",
        f"{result['share_of_floor']:.0%}",
        f"{result['time_over_floor']:.2f}",
    ]
    for name in ("numpy", "torch_fused", "torch"):
        summary = result["contenders"].get(name)
        cells.append(console.figure(summary and summary["median_s"] * 1e3))
        cells.append(console.figure(result["times_faster"].get(name)))
    return console.row(COLUMNS, cells) + ("  busy" if result["busy"] else "")


def _about(report: dict[str, Any]) -> str:
    about = report["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items() if number)
    return (
        f"{about['processor']}, {about['cores']} core(s), {report['threads']} thread(s) used; {about['system']}\n"
        f"Python {about['python']}, {versions}"
    )
