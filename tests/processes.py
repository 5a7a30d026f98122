"""Tests that need a Python process of their own."""

from __future__ import annotations

import os
import subprocess
import sys


def python(code, *args, timeout=300, **environment):
    """What a process that runs ``code`` prints; it has to end well."""
    result = subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=timeout,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
