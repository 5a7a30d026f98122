"""What a step costs beside its arithmetic: ``pytest bench/test_bench_call.py --benchmark-enable``."""

from __future__ import annotations

import numpy as np
import pytest

from schuss.commands import bench_checks, bench_latency, workloads
from schuss.optim import registry

ADAMW = registry.VARIANTS["adamw"]
SHAPES = {"1x1000": [(1000,)], "62 small tensors": bench_latency.small_resnet18()}


@pytest.mark.parametrize("fresh", [False, True], ids=["same gradients", "new gradients"])
@pytest.mark.parametrize("load", SHAPES)
def test_call(load: str, fresh: bool, benchmark: pytest.FixtureRequest) -> None:
    shapes = SHAPES[load]
    optimizer, plain = (
        ADAMW.build(workloads.random_arrays(shapes, 1), backend=backend) for backend in ("auto", "numpy")
    )
    gradients = workloads.random_arrays(shapes, 2)
    optimizer.step(gradients)
    plain.step(gradients)
    bench_checks.check_equal(optimizer, plain, load)

    def arguments() -> tuple[tuple[list[np.ndarray]], dict[str, object]]:
        return ([array.copy() for array in gradients] if fresh else gradients,), {}

    benchmark.group = load
    benchmark.extra_info["parameters"] = sum(array.size for array in gradients)
    benchmark.pedantic(optimizer.step, setup=arguments, rounds=500, warmup_rounds=5)
