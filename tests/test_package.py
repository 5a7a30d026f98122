"""What comes with the package: light imports, running docstrings, types, names."""

from __future__ import annotations

import doctest
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
import schuss_kernels.rules

import schuss

HEAVY = ("numba", "llvmlite", "torch", "sklearn", "scipy", "matplotlib", "numba_cuda", "cupy", "rich")


def modules_after(code):
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return {name.split(".")[0] for name in done.stdout.split()}


def test_importing_is_light():
    assert not modules_after("import schuss").intersection(HEAVY)
    numpy_only = "import numpy as np, schuss; schuss.Adam([np.ones(3)], backend='numpy').step([np.ones(3)])"
    assert not modules_after(numpy_only).intersection(HEAVY)
    compiled = "import numpy as np, schuss; schuss.Adam([np.ones(3)]).step([np.ones(3)])"
    assert not modules_after(compiled).intersection({"torch", "sklearn", "matplotlib", "numba_cuda", "cupy", "rich"})


def test_every_public_name_is_there_and_documented():
    assert sorted(schuss.__all__) == sorted(set(schuss.__all__))
    for name in schuss.__all__:
        value = getattr(schuss, name)
        assert value.__doc__ or not callable(value), name


def documented():
    for package in (schuss, schuss_kernels):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if not found.name.endswith("__main__"):
                yield found.name


@pytest.mark.parametrize("name", list(documented()))
def test_docstrings(name):
    """Every module says what it is for, and its examples run."""
    module = pytest.importorskip(name, reason="an optional dependency is not installed", exc_type=ImportError)
    assert module.__doc__ or name.startswith("schuss.optim."), f"{name} has no docstring"
    scope = vars(schuss.schedules).copy() if name == "schuss.schedules" else None
    assert doctest.testmod(module, extraglobs=scope).failed == 0


def test_rules_import_nothing_but_numpy_and_rule():
    folder = Path(schuss_kernels.rules.__file__).parent
    allowed = ("import math", "import numpy as np", "from collections import namedtuple", "from ..rule import ")
    for path in folder.glob("[a-z]*.py"):
        imports = [line for line in path.read_text().splitlines() if line.startswith(("import ", "from "))]
        assert all(line.startswith(allowed) for line in imports), path.name


def test_typed():
    for package in (schuss, schuss_kernels):
        assert (Path(package.__file__).parent / "py.typed").exists()
