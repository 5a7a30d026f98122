"""Ctrl-C that waits until what is being written is whole."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any


class DeferInterrupt:
    """A ``with`` block that Ctrl-C does not end in the middle: it is passed on after it, once.

    Python runs signal handlers in the main thread, between any two instructions; in other threads, and where the
    handler is none of Python's, nothing can come between, and nothing is done. For what takes many Python instructions
    or array operations: a compiled call is whole by itself, at no cost.
    """

    def __enter__(self) -> None:
        self._waiting: tuple[Any, ...] | None = None
        self._handler: Callable[..., Any] | None = None
        handler = signal.getsignal(signal.SIGINT)
        if threading.get_ident() == threading.main_thread().ident and callable(handler):
            with contextlib.suppress(ValueError):  # the main thread of a sub-interpreter, which signals do not reach
                signal.signal(signal.SIGINT, self._wait)
                self._handler = handler

    def _wait(self, *arguments: Any) -> None:
        self._waiting = arguments

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            if self._waiting is not None:
                self._handler(*self._waiting)
