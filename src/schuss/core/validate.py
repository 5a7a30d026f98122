"""Hints for error messages."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``", did you mean 'adamw'?"`` where a known name is near, else an empty string."""
    import difflib  # here: only mistakes need it

    near = difflib.get_close_matches(name, list(known), 1)
    return f", did you mean {near[0]!r}?" if near else ""
