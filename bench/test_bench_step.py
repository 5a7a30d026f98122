"""A step of every optimizer on every workload, and what it is compared with.

Not part of the normal test run; with the project's options benchmarks are off, so ask for them::

    pytest bench --benchmark-enable
    pytest bench --benchmark-enable -k "adamw and resnet18"
    pytest bench --benchmark-enable -m slow                   (GPT-2 124M: 13 GB of memory)

Results are compared before anything is timed, with the numpy reference bit for bit. ``extra_info`` holds the bytes
a step moves, GB/s and the floor's time.
"""

from __future__ import annotations

import importlib.util

import pytest

from schuss.commands import bench, bench_checks, workloads
from schuss.optim import registry

TORCH = importlib.util.find_spec("torch") is not None
CONTENDERS = ("floor", "schuss", *(("torch_fused", "torch") if TORCH else ()), "numpy")
LOADS = [pytest.param(key, marks=pytest.mark.slow) if key == "gpt2" else key for key in workloads.WORKLOADS]


@pytest.fixture(scope="module", params=LOADS)
def source(request: pytest.FixtureRequest) -> bench.Source:
    return bench.Source(workloads.workload(request.param))


@pytest.fixture(scope="module", params=registry.CLASSIC)
def ready(request: pytest.FixtureRequest, source: bench.Source) -> bench.Field:
    variant = registry.VARIANTS[request.param]
    bench_checks.check_small(variant)
    return bench.contenders(variant, source, with_torch=TORCH)


@pytest.mark.parametrize("name", CONTENDERS)
def test_step(name: str, ready: bench.Field, benchmark: pytest.FixtureRequest) -> None:
    found = [contender for contender in ready.contenders if contender.name == name]
    if not found:
        pytest.skip(f"{name} has no {ready.variant.title}")
    benchmark.group = f"{ready.workload.title}, {ready.variant.title}"
    benchmark.extra_info.update(bytes=ready.bytes, bytes_per_parameter=ready.bytes / ready.workload.parameters)
    benchmark(found[0].call)
    if benchmark.stats is not None:  # benchmarks are on
        median = benchmark.stats.stats.median
        if name == "floor":
            ready.floor_s = median
        benchmark.extra_info.update(gb_per_s=ready.bytes / median / 1e9, floor_s=ready.floor_s)
