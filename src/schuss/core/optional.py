"""Packages that only some functions need, imported when those are called."""

from __future__ import annotations

import importlib
from types import ModuleType


def need(module: str, package: str, purpose: str) -> ModuleType:
    """Import a module and return it. ``package``: its name to a reader. ``purpose``: what needs it.

    Raises
    ------
    ImportError
        When it is not installed, with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ImportError(f"{purpose} needs {package}: pip install 'schuss[demo]'") from None
