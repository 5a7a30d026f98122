"""What the tests of the engines for host memory run on: every engine that can run here."""

from __future__ import annotations

import pytest
from cases import needs_native
from schuss_kernels.cpu import launcher
from schuss_kernels.native import engine as native_engine
from schuss_kernels.native import library


def engines():
    """numba, and the native engine at each instruction-set level that was built and that this processor runs."""
    yield "numba"
    if library.available() is not None:
        yield pytest.param("native", marks=needs_native)
    else:
        yield from (f"native {level}" for level, runs in library.library().levels if runs)


@pytest.fixture(params=list(engines()))
def backend(request, monkeypatch):
    """A name for ``backend=``. Threads are schuss's own, whatever other libraries the tests have brought in."""
    name, _, level = request.param.partition(" ")
    if level:
        monkeypatch.setenv(library.LEVEL, level)
    for engine in (native_engine, launcher):
        monkeypatch.setattr(engine, "_team_at_work", lambda: False)
    library.library.cache_clear()
    yield name
    library.library.cache_clear()
