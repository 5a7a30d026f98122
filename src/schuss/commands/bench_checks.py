"""Checks that come before a measurement, and conditions that all contenders share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..optim.registry import Variant
from ..optimizer import Optimizer
from . import machine, workloads
from .console import CommandError, Mismatch

SMALL = ((0,), (1,), (7,), (33,), (1000,), (3, 5, 67), (70_001,))
"""Shapes of the check that comes before everything: below, at and above the vector width and the chunk."""


def bench_options(variant: Variant) -> dict[str, Any]:
    """Return the options that a bench sets beside the variant's own; they change no instruction that is executed."""
    if variant.options.get("centered"):
        # Gradients of a bench never change: a faster decay would bring the variance to zero, by rounding below it.
        return {"alpha": 0.99999}
    return {}


def check_small(variant: Variant, backend: str = "auto") -> None:
    """Compare three steps over :data:`SMALL`, with changing gradients, with the numpy reference, bit for bit.

    Raises
    ------
    Mismatch
        As :func:`check_equal`.
    """
    optimizer, reference = (
        variant.build(workloads.random_arrays(SMALL, 3), backend=name) for name in (backend, "numpy")
    )
    for seed in range(3):
        gradients = workloads.random_arrays(SMALL, 4 + seed)
        optimizer.step(gradients)
        reference.step(gradients)
    check_equal(optimizer, reference, f"{variant.title} on small tensors")


def check_equal(optimizer: Optimizer, reference: Optimizer, what: str) -> None:
    """Check that two optimizers have the same parameters and states, bit for bit.

    Raises
    ------
    Mismatch
        Where they differ: the tensor, the array and the first element.
    """
    for one, other in zip(optimizer._stepper.engine.tensors, reference._stepper.engine.tensors, strict=True):
        names = ("parameter", *(stream.name for stream in one.spec(False).streams[2:]))
        pairs = zip(*((t.parameter, *t.stored_arrays(), *t.scales()) for t in (one, other)), strict=True)
        for name, (mine, its) in zip(names, pairs, strict=True):
            bits = np.dtype(f"u{mine.dtype.itemsize}")
            differ = mine.array.reshape(-1).view(bits) != its.array.reshape(-1).view(bits)
            if differ.any():
                at, count = int(differ.argmax()), int(differ.sum())
                raise Mismatch(
                    f"{what}: {name} of tensor {one.name} is not what the numpy reference says: {count:,} of "
                    f"{differ.size:,} elements differ, the first is element {at}: {mine.array.flat[at]}, expected "
                    f"{its.array.flat[at]}"
                )


@contextlib.contextmanager
def same_threads(threads: int | None, with_torch: bool) -> Iterator[None]:
    """Give every contender the same number of threads, for the length of a ``with`` block.

    Raises
    ------
    CommandError
        When there are not so many cores.
    """
    with contextlib.ExitStack() as restore:
        if with_torch:
            import torch

            restore.callback(torch.set_num_threads, torch.get_num_threads())
            torch.set_num_threads(threads or machine.cores())
        if threads is not None:
            import numba

            most = numba.config.NUMBA_NUM_THREADS
            if threads > most:
                raise CommandError(f"--threads: expected at most {most}, the cores there are; got {threads}")
            restore.callback(numba.set_num_threads, numba.get_num_threads())
            numba.set_num_threads(threads)
        yield
