"""Forks and steps: a fork waits until no other thread is in a step, so that the child finds every tensor whole."""

from __future__ import annotations

import os
import threading
import weakref

FORK_TIMEOUT_S = 10.0
"""Seconds that a fork waits for a step. A thread that forks inside its own step (in a learning rate) waits in vain."""

_locks: weakref.WeakSet[threading.Lock] = weakref.WeakSet()
_held = threading.local()


def step_lock() -> threading.Lock:
    """Make a lock to hold while tensors are moved."""
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def _before() -> None:
    _held.locks = [lock for lock in list(_locks) if lock.acquire(timeout=FORK_TIMEOUT_S)]


def _after() -> None:
    for lock in _held.locks:
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
