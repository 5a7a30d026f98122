"""The README's examples run, as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.skipif(not README.exists(), reason="the tests run without the repository around them")
def test_examples(capsys):
    pytest.importorskip("ml_dtypes")
    examples = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 4
    scope: dict[str, object] = {"__name__": "readme"}
    for example in examples:
        exec(compile(example, "README.md", "exec"), scope)
    assert "28 bytes per parameter" in capsys.readouterr().out.replace("28 per parameter", "28 bytes per parameter")
    m = np.float32(0.05) * np.float32(0.25)
    expected = 1.0 - 1e-3 / 0.05 * m / np.sqrt(m)
    np.testing.assert_allclose(scope["w"], expected, rtol=1e-5)
