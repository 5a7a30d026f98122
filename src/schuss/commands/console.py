"""What the commands share: their errors, a progress line, and tables that line up."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

from ..core.validate import did_you_mean


class CommandError(Exception):
    """Ends a command with one line on stderr and this exit code."""

    code = 2


class Mismatch(CommandError):
    """A result is not what the reference says; nothing is reported about its speed."""

    code = 1


def choose(text: str, known: Sequence[str], option: str) -> list[str]:
    """Return the names in a comma-separated list, in the order of ``known``; for ``all`` every one.

    Raises
    ------
    CommandError
        For a name that is not known, with the nearest one.
    """
    wanted = {item.strip().lower().replace(" ", "-").replace("_", "-") for item in text.split(",") if item.strip()}
    if wanted == {"all"}:
        return list(known)
    for name in sorted(wanted):
        if name not in known:
            raise CommandError(f"{option}: {unknown(name, known)}")
    if not wanted:
        raise CommandError(f"{option}: expected at least one of {', '.join(known)}")
    return [name for name in known if name in wanted]


def unknown(name: str, known: Sequence[str]) -> str:
    """Say that a name is not known, which is the nearest, and all there are."""
    return f"unknown name {name!r}{did_you_mean(name, known)} (known: {', '.join(known)})"


class Progress:
    """One line on stderr that is overwritten; nothing where stderr is not a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._width = 0

    def show(self, text: str) -> None:
        """Put ``text`` in place of what was there."""
        if self._live:
            text = text[: shutil.get_terminal_size().columns - 1]
            self._stream.write("\r" + text.ljust(self._width))
            self._stream.flush()
            self._width = len(text)

    def clear(self) -> None:
        """Empty the line, so that other output can start there."""
        if self._live and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


@dataclass(frozen=True)
class Column:
    """A column of a table: its title (a line break makes two lines), width, and side."""

    title: str
    width: int
    left: bool = False

    def cell(self, text: str) -> str:
        return text.ljust(self.width) if self.left else text.rjust(self.width)


def heading(columns: Sequence[Column]) -> str:
    """Write the titles of a table and a line below them."""
    height = max(column.title.count("\n") for column in columns) + 1
    titles = [["", *([""] * (height - 1)), *column.title.split("\n")][-height:] for column in columns]
    lines = [row(columns, [title[number] for title in titles]) for number in range(height)]
    return "\n".join([*lines, "-" * len(row(columns, [""] * len(columns), strip=False))])


def row(columns: Sequence[Column], cells: Sequence[str], *, strip: bool = True) -> str:
    """Write one line of a table."""
    line = " ".join(column.cell(text) for column, text in zip(columns, cells, strict=True))
    return line.rstrip() if strip else line


def figure(value: float | None) -> str:
    """Write a positive number with about three figures that count; a dash for None."""
    if value is None:
        return "-"
    for least, digits in ((99.95, 0), (9.995, 1), (0.9995, 2), (0.0995, 3)):
        if value >= least:
            return f"{value:,.{digits}f}"
    return f"{value:.4f}"
