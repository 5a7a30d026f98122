"""``schuss bench --storage``: AdamW with values kept in fewer bytes, and a whole training step beside torch's."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from schuss_kernels.storage.dtypes import BF16

from ..optim.adam import AdamW
from . import bench_checks, console, timing
from .console import Column, Mismatch
from .timing import Contender
from .workloads import Workload, random_arrays

COLUMNS = (
    Column("AdamW", 42, left=True),
    Column("B/param", 8),
    Column("ms/step", 9),
    Column("time", 8),
)

EIGHT: dict[str, Any] = {"state_dtype": "8bit", "min_8bit_size": 1000}
KEPT: dict[str, tuple[str, dict[str, Any]]] = {
    "float32": ("float32", {}),
    "float32, bfloat16 states": ("float32", {"state_dtype": "bfloat16"}),
    "float32, 8-bit states": ("float32", EIGHT),
    "float32, 8-bit states, stochastic": ("float32", {**EIGHT, "rounding": "stochastic"}),
    "all bfloat16": ("bfloat16", {"state_dtype": "bfloat16"}),
    "all bfloat16, stochastic": ("bfloat16", {"state_dtype": "bfloat16", "rounding": "stochastic"}),
    "bfloat16, remainder (exact float32)": ("bfloat16", {"master": "remainder"}),
    "bfloat16, 8-bit states, remainder": ("bfloat16", {**EIGHT, "master": "remainder"}),
}
"""Title -> dtype of parameters and gradients, and how the rest is kept."""

RIDERS: dict[str, Any] = {"grad_scale": 0.5, "clip_norm": 1.0, "skip_nonfinite": True, "zero_grad": True}
SLOW: dict[str, Any] = {"betas": (0.999, 0.9999)}
"""Moments that gradients of zero do not bring down to denormal numbers while they are measured."""

WHOLE = "unscale, clip, AdamW, EMA, zero, copy"


def missing() -> str | None:
    """Say why it cannot be measured here; None where it can."""
    if importlib.util.find_spec("ml_dtypes") is None:
        return "it needs ml_dtypes: pip install 'schuss[bfloat16]'"
    return None


def measure(load: Workload, rounds: int, with_torch: bool, progress: console.Progress) -> dict[str, Any]:
    """Return the figures of a workload.

    Raises
    ------
    Mismatch
        When a step differs from the numpy reference in a single bit, or from torch's by more than rounding.
    """
    steps = {title: _kept(load, title, progress) for title in KEPT}
    made = [Contender(title, step) for title, step in steps.items()]
    _interleave(made, rounds, load.title, progress)
    rows = [
        {"title": c.name, "bytes_per_parameter": steps[c.name].moved / load.parameters, **c.summary()} for c in made
    ]
    steps.clear()
    made = list(_whole_steps(load, with_torch, progress))
    _interleave(made, rounds, f"{load.title}, {WHOLE}", progress)
    return {
        "workload": load.key,
        "workload_title": load.title,
        "rows": rows,
        "whole_step": {c.name: c.summary() for c in made},
    }


def _interleave(made: list[Contender], rounds: int, what: str, progress: console.Progress) -> None:
    timing.interleave(made, rounds, lambda n: progress.show(f"{what}: round {n} of {rounds}"))
    progress.clear()


class _Step:
    """A step to call, and the bytes it moves."""

    def __init__(self, optimizer: AdamW, gradients: list[np.ndarray]) -> None:
        self.optimizer, self.gradients = optimizer, gradients
        tensors = optimizer._stepper.engine.tensors
        self.moved = sum(tensor.bytes_moved() for tensor in tensors)

    def __call__(self) -> None:
        self.optimizer.step(self.gradients)


def _kept(load: Workload, title: str, progress: console.Progress) -> _Step:
    """Make a way to keep values, ready to be timed: its first step has been compared with the reference."""
    name, options = KEPT[title]
    dtype = BF16.dtype if name == "bfloat16" else np.dtype(np.float32)
    progress.show(f"{load.title}, {title}: comparing with numpy")
    gradients = [array.astype(dtype) for array in random_arrays(load.shapes, 2, 0.1)]
    ours, plain = (
        AdamW([array.astype(dtype) for array in random_arrays(load.shapes, 1)], backend=backend, **options)
        for backend in ("auto", "numpy")
    )
    ours.step(gradients)
    plain.step(gradients)
    bench_checks.check_equal(ours, plain, f"AdamW, {title}")
    return _Step(ours, gradients)


def _whole_steps(load: Workload, with_torch: bool, progress: console.Progress) -> Iterator[Contender]:
    """Do everything that a training step does with gradients, here in one call, and with torch's fastest functions.

    Every call starts from gradients of zero but the first, which is compared; neither way looks at their values.
    """
    progress.show(f"{load.title}: {WHOLE}")
    start, gradients = random_arrays(load.shapes, 1), random_arrays(load.shapes, 2, 0.1)
    ours = [array.copy() for array in start]
    optimizer = AdamW(ours, **SLOW, ema=0.999, copy_to=[array.astype(BF16.dtype) for array in start])
    grads = [array.copy() for array in gradients]

    def step() -> None:
        optimizer.step(grads, **RIDERS)

    step()
    yield Contender("schuss", step)
    if with_torch:
        theirs = [array.copy() for array in start]
        call, averages = _torch_step(theirs, gradients)
        call()
        pairs = [*zip(ours, theirs, strict=True), *zip(optimizer.ema_params, averages, strict=True)]
        if not all(np.allclose(one, other, rtol=1e-4, atol=1e-6) for one, other in pairs):
            raise Mismatch(f"{WHOLE} on {load.title}: parameters or averages differ from torch's")
        yield Contender("torch", call)


def _torch_step(arrays: Sequence[np.ndarray], gradients: Sequence[np.ndarray]) -> tuple[Callable[[], None], list[Any]]:
    """Torch's fastest way, as GradScaler and its users have it: foreach functions around a fused AdamW."""
    import torch

    parameters = [torch.nn.Parameter(torch.from_numpy(array)) for array in arrays]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = torch.from_numpy(gradient)
    averages = [parameter.detach().clone() for parameter in parameters]
    copies = [parameter.detach().to(torch.bfloat16) for parameter in parameters]
    optimizer = torch.optim.AdamW(parameters, **SLOW, fused=True)
    found, inverse = torch.zeros(1), torch.tensor(RIDERS["grad_scale"])

    def step() -> None:
        found.zero_()
        torch._amp_foreach_non_finite_check_and_unscale_([p.grad for p in parameters], found, inverse)
        if found.item() == 0.0:
            torch.nn.utils.clip_grad_norm_(parameters, RIDERS["clip_norm"], foreach=True)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(averages, parameters, 0.001)
                torch._foreach_copy_(copies, parameters)
        optimizer.zero_grad(set_to_none=False)

    return step, [average.numpy() for average in averages]


def table(figures: dict[str, Any]) -> str:
    """Write the figures as text."""
    base = figures["rows"][0]["median_s"]
    lines = [f"{figures['workload_title']}: values kept in fewer bytes", console.heading(COLUMNS)]
    for row in figures["rows"]:
        cells = (f"{row['bytes_per_parameter']:.4g}", console.figure(row["median_s"] * 1e3))
        lines.append(console.row(COLUMNS, (row["title"], *cells, f"{row['median_s'] / base:.0%}")))
    whole = figures["whole_step"]
    ours = whole["schuss"]["median_s"]
    said = f"{WHOLE}: {console.figure(ours * 1e3)} ms"
    with contextlib.suppress(KeyError):
        theirs = whole["torch"]["median_s"]
        said += f"; torch {console.figure(theirs * 1e3)} ms, {theirs / ours:.1f} times as long"
    return "\n".join((*lines, said))
