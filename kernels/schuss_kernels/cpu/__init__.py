"""The CPU backend of numba: kernels compiled when they are first used. Importing this folder does not import numba."""

from __future__ import annotations

import os


def available() -> str | None:
    """Return None where numba may compile, else a sentence that says why not."""
    if os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0"):
        return None
    return "the environment variable NUMBA_DISABLE_JIT forbids it to compile"
