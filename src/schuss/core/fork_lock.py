"""The locks of optimizers: one call at a time moves tensors, and a fork waits until no other thread is in one.

So the child of a fork finds every tensor whole.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

from schuss_kernels.engine.interrupts import DeferInterrupt

FORK_TIMEOUT_S = 10.0
"""Seconds that a fork waits for another thread's step. Where it takes longer, the child may find tensors half moved."""

_locks: set[weakref.ref[Any]] = set()  # added to and listed in one C call each: threads come and go meanwhile


class _Fork(threading.local):
    """The locks that this thread's fork holds: those that it did not hold anyway, forking inside a step of its own."""

    locks: tuple[Any, ...] = ()


_fork = _Fork()


def step_lock() -> Any:
    """Make the lock of an optimizer, to be held while tensors are moved: a reentrant one, which knows its owner."""
    lock = threading.RLock()
    _locks.add(weakref.ref(lock, _locks.discard))
    return lock


def refuse_reentry(lock: Any, what: str) -> None:
    """Refuse a method, ``what``, of an optimizer that this thread is in another call of.

    Raises
    ------
    RuntimeError
        With the method and the reason.
    """
    if lock._is_owned():
        raise RuntimeError(
            f"{what}: called inside another call of the same optimizer, which has to end first. A signal handler can "
            "set a flag for the training loop to look at between steps; a learning rate function must not use the "
            "optimizer that calls it"
        )


def _before() -> None:
    if not _fork.locks:
        with DeferInterrupt():
            there = [lock for lock in [found() for found in list(_locks)] if lock is not None]
            # In an order that all threads take them in.
            _fork.locks = tuple(sorted((lock for lock in there if not lock._is_owned()), key=id))
            for lock in _fork.locks:
                lock.acquire(timeout=FORK_TIMEOUT_S)


def _in_parent() -> None:
    for lock in _fork.locks:
        if lock._is_owned():
            lock.release()
    _fork.locks = ()


def _in_child() -> None:
    for lock in _fork.locks:
        if lock._is_owned():
            lock.release()
        else:  # the thread that holds it is not here to release it
            lock._at_fork_reinit()
    _fork.locks = ()


if hasattr(os, "register_at_fork"):
    for _ in range(3):  # a signal's handler that raises ends the first; what it left, the next does
        os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
