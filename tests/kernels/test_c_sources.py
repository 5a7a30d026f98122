"""How the C sources include each other."""

from __future__ import annotations

import graphlib
import re
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "kernels" / "native"
FILES = sorted(path.name for path in SOURCES.glob("*.[ch]"))


def included(name):
    """Return the project's headers that a file includes, without ``.h``."""
    return re.findall(r'^#include "(\w+)\.h"', (SOURCES / name).read_text(), re.MULTILINE)


def test_includes_make_no_circle():
    graph = {}
    for name in FILES:
        stem = Path(name).stem
        graph.setdefault(stem, set()).update(set(included(name)) - {stem})
    order = list(graphlib.TopologicalSorter(graph).static_order())
    stack = ["work", "pool", "launch", "two_pass", "plan_object", "module"]
    assert [name for name in order if name in stack] == stack
    assert order.index("work") < order.index("openmp") < order.index("launch")
    assert "openmp" not in graph["pool"]
    assert "pool" not in graph["openmp"]


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".c") and name != "module.c"])
def test_a_source_includes_the_header_that_declares_it(name):
    assert Path(name).stem in included(name)
