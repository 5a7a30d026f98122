"""What the tests of the engines for host memory run on: every engine that can run here."""

from __future__ import annotations

import pytest
from cases import needs_native
from schuss_kernels.cpu import engine as cpu_engine
from schuss_kernels.engine import extension
from schuss_kernels.native import library


def engines():
    """numba, on the C extension's launcher and on its own, and the native engine at each instruction-set level that was
    built and that this processor runs."""
    yield pytest.param("numba", marks=needs_native)
    yield "numba prange"
    if library.available() is not None:
        yield pytest.param("native", marks=needs_native)
    else:
        yield from (f"native {level}" for level, runs in library.library().levels if runs)


@pytest.fixture(params=list(engines()))
def backend(request, monkeypatch):
    """A name for ``backend=``. Threads are schuss's own, whatever other libraries the tests have brought in."""
    name, _, level = request.param.partition(" ")
    if level == "prange":
        monkeypatch.setattr(cpu_engine, "is_usable", lambda: False)
    elif level:
        monkeypatch.setenv(library.LEVEL, level)
    monkeypatch.setattr(extension, "_team_at_work", lambda: False)
    library.library.cache_clear()
    yield name
    library.library.cache_clear()
