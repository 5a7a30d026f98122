"""Hold Ctrl-C back while arrays are being written, so that none is left half updated."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any


class DeferInterrupt:
    """A ``with`` block that Ctrl-C cannot interrupt: the signal's handler is called once, after the block.

    Python calls signal handlers in the main thread, between any two of its instructions. In other threads, or where the
    handler is not a Python function, there is nothing to hold back, and the block runs as it is. A single compiled call
    needs no such block: Python does not interrupt it.
    """

    def __enter__(self) -> None:
        self._signal: tuple[Any, ...] | None = None  # the handler's arguments, once the signal has come
        self._handler: Callable[..., Any] | None = None
        handler = signal.getsignal(signal.SIGINT)
        if threading.get_ident() == threading.main_thread().ident and callable(handler):
            with contextlib.suppress(ValueError):  # the main thread of a sub-interpreter, which signals do not reach
                signal.signal(signal.SIGINT, self._store)
                self._handler = handler

    def _store(self, *arguments: Any) -> None:
        """Store the signal in place of handling it."""
        self._signal = arguments

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            if self._signal is not None:
                self._handler(*self._signal)
