"""The optimizer of docs/contributing.md, added to a copy of the tree as the page says, equals its reference."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = next(folder for folder in Path(__file__).parents if folder.name == "tests").parent
PAGE = ROOT / "docs" / "contributing.md"

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="the tests run without the repository around them")

CHECK = """
import doctest
import sys

# An editable installation would lead to the checkout, whatever PYTHONPATH says.
sys.meta_path[:] = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]

import numpy as np
import schuss
from cases import CASES
from schuss.optim import adam_atan2

assert "AdamAtan2" in dir(schuss) and "AdamAtan2" in schuss.__doc__
assert [str(case) for case in CASES if case.make is schuss.AdamAtan2] == ["AdamAtan2(weight_decay=0.1)"]
assert doctest.testmod(adam_atan2).failed == 0
rng = np.random.default_rng(0)
for dtype in (np.float32, np.float64):
    start, found = rng.standard_normal(1001).astype(dtype), []
    gradients = [(rng.standard_normal(1001) * 10.0**power).astype(dtype) for power in (-6, 0, 6)]
    gradients[1][:9] = 0.0
    for backend in ("numba", "numpy"):
        found.append(start.copy())
        optimizer = schuss.make("adam-atan2", found[-1], lr=0.01, weight_decay=0.1, backend=backend)
        for gradient in gradients:
            optimizer.step(gradient)
    np.testing.assert_array_equal(*found)
m, v, exact = 0.0, 0.0, start
for t, g in enumerate(gradients, 1):
    m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g**2
    exact = exact * (1 - 0.01 * 0.1) - 0.01 * np.arctan2(m / (1 - 0.9**t), np.sqrt(v / (1 - 0.99**t)))
np.testing.assert_allclose(found[0], exact, rtol=0, atol=1e-8)
"""


def test_the_optimizer_of_the_page(tmp_path):
    ignore = shutil.ignore_patterns("__pycache__")
    for part in ("src", "kernels", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=ignore)
    blocks = re.findall(r"```python\n# (\S+)(?:, below (\w+))?\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    for name, above, code in blocks:
        path = tmp_path / name
        if above:
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            last = max(number for number, line in enumerate(lines) if above in line)
            code = "".join((*lines[: last + 1], code, *lines[last + 1 :]))
        path.write_text(code, encoding="utf-8")
    folders = os.pathsep.join(str(tmp_path / part) for part in ("src", "kernels", "tests"))
    environment = {**os.environ, "PYTHONPATH": folders, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", CHECK], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_links_lead_somewhere():
    for page in (*PAGE.parent.glob("*.md"), ROOT / "README.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
