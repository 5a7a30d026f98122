"""Hold signals back while arrays are being written, so that none is left half updated."""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # module signal's are wrapped: 100 times as slow
import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

_NUMBERS = tuple(sorted(signal.valid_signals()))


class DeferInterrupt:
    """A ``with`` block that no signal's handler interrupts: handlers are called after the block, each once.

    Python calls signal handlers in the main thread, between any two of its instructions, and what they raise (Ctrl-C,
    ``sys.exit`` on SIGTERM, a timeout's alarm) ends whatever runs there. In other threads, and for handlers that are
    not Python functions, there is nothing to hold back. A single compiled call needs no such block: Python does not
    interrupt it.
    """

    def __enter__(self) -> None:
        self._handlers: dict[int, Callable[..., Any]] = {}  # those that are held back
        self._signals: dict[int, tuple[Any, ...]] = {}  # the signals that have come: the handlers' arguments
        if threading.get_ident() != threading.main_thread().ident:
            return
        try:
            for number in _NUMBERS:
                handler = signal.getsignal(number)
                if callable(handler):
                    self._handlers[number] = handler  # before, as another signal's handler may raise right after
                    with contextlib.suppress(ValueError):  # a sub-interpreter's main thread, which no signal reaches
                        signal.signal(number, self._store)
        except BaseException:
            self._restore()
            raise

    def _store(self, number: int, frame: Any) -> None:
        """Store a signal in place of handling it."""
        self._signals[number] = number, frame

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handlers:
            self._restore()
            self._handle()

    def _restore(self) -> None:
        """Put the handlers back. One that is called from here on may raise: the others are put back all the same."""
        try:
            for number, handler in self._handlers.items():
                if signal.getsignal(number) == self._store:
                    signal.signal(number, handler)
        except BaseException:
            self._restore()
            raise

    def _handle(self) -> None:
        """Call the handlers of the signals that have come. Where one raises, the others are called all the same."""
        try:
            for number in tuple(self._signals):
                arguments = self._signals[number]
                del self._signals[number]  # right before the call: no other handler comes between
                self._handlers[number](*arguments)
        finally:
            if self._signals:
                self._handle()
