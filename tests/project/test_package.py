"""What comes with the package: light imports, running docstrings, types, names."""

from __future__ import annotations

import doctest
import pkgutil
import pydoc
import re
import rlcompleter
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import schuss_kernels.rules

import schuss
from schuss.optim import registry

HEAVY = ("numba", "llvmlite", "torch", "sklearn", "scipy", "matplotlib", "numba_cuda", "cupy", "rich")


def every_module_after(code):
    command = [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def modules_after(code):
    return {name.split(".")[0] for name in every_module_after(code)}


def test_importing_is_light():
    assert not modules_after("import schuss").intersection(HEAVY)
    numpy_only = "import numpy as np, schuss; schuss.Adam([np.ones(3)], backend='numpy').step([np.ones(3)])"
    assert not modules_after(numpy_only).intersection(HEAVY)
    compiled = "import numpy as np, schuss; schuss.Adam([np.ones(3)]).step([np.ones(3)])"
    assert not modules_after(compiled).intersection({"torch", "sklearn", "matplotlib", "numba_cuda", "cupy", "rich"})


def test_the_first_step_imports_no_more_than_it_needs():
    """Each of these takes milliseconds of a cold start."""
    step = "import numpy as np, schuss; schuss.Adam([np.ones(3)], backend='numpy').step([np.ones(3)])"
    plan = "from schuss_kernels.plan import chunk_table; chunk_table.build([])"
    more = every_module_after(f"{step}; {plan}") - every_module_after("import numpy")
    assert not more & {"numpy.ma", "fractions", "decimal", "pkgutil", "inspect", "hashlib"}


def test_every_public_name_is_there_and_documented():
    assert sorted(schuss.__all__) == sorted(set(schuss.__all__))
    for name in schuss.__all__:
        value = getattr(schuss, name)
        assert value.__doc__ or not callable(value), name


def test_public_names_are_what_is_there():
    assert dir(schuss) == sorted(schuss.__all__)
    assert set(registry.CLASSES) <= set(schuss.__all__)
    scope = {}
    exec("from schuss import *", scope)
    assert set(schuss.__all__) <= set(scope)


def test_names_are_completed():
    completed = rlcompleter.Completer({"schuss": schuss})
    assert [completed.complete("schuss.AdamW", number) for number in range(2)] == ["schuss.AdamW(", None]


def test_help_begins_with_the_optimizers_by_kind():
    description = pydoc.plain(pydoc.render_doc(schuss)).split("PACKAGE CONTENTS")[0]
    assert len(description.splitlines()) < 30
    kinds = (registry.ELEMENT, registry.TENSOR, registry.GLOBAL, registry.MATRIX)
    _, *listed = re.split("|".join(f"{kind}: " for kind in kinds), description)
    for kind, names in zip(kinds, listed, strict=True):
        expected = {variant.optimizer for variant in registry.VARIANTS.values() if variant.kind == kind}
        assert set(re.findall(r"\w+", names)) == expected


@pytest.mark.parametrize("variant", [v for v in registry.VARIANTS.values() if not v.of], ids=str)
def test_kind_is_what_the_rule_does(variant):
    (tensor,) = variant.build([np.ones((8, 8), np.float32)], backend="numpy")._stepper.engine.tensors
    if tensor.rule.matrix:
        kind = registry.MATRIX
    elif tensor.rule.measure is None:
        kind = registry.ELEMENT
    else:
        kind = {"tensor": registry.TENSOR, "all": registry.GLOBAL}[tensor.rule.over]
    assert variant.kind == kind


def test_generated_files_are_what_the_registry_says():
    path = Path(__file__).parents[2] / "bench" / "new_optimizer.py"
    if not path.exists():
        pytest.skip("the tests run without the repository around them")
    made = subprocess.run([sys.executable, path, "--check"], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr


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


def test_rules_import_nothing_but_numpy_and_what_rules_are_made_of():
    folder = Path(schuss_kernels.rules.__file__).parent
    allowed = ("import math", "import functools", "import numpy as np", "from collections import namedtuple")
    allowed += ("from ..lang.", "from . import ")
    for path in folder.glob("[a-z]*.py"):
        imports = [line for line in path.read_text().splitlines() if line.startswith(("import ", "from "))]
        assert all(line.startswith(allowed) for line in imports), path.name


def test_typed():
    for package in (schuss, schuss_kernels):
        assert (Path(package.__file__).parent / "py.typed").exists()
