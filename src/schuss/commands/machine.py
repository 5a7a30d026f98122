"""The machine a command runs on, for people who compare figures."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any


def describe() -> dict[str, Any]:
    """Return processor, cores, memory, system, and the versions of what decides the speed."""
    return {
        "processor": processor(),
        "cores": cores(),
        "memory_bytes": _memory("MemTotal"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("schuss", "numpy", "numba", "llvmlite", "torch")},
    }


def processor() -> str:
    """Return the processor's model name."""
    for key in ("model name", "Model", "Hardware"):
        found = _field("/proc/cpuinfo", key)
        if found:
            return found
    return platform.processor() or platform.machine()


def cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def version(distribution: str) -> str | None:
    """Return the installed version of a distribution, None where it is not installed."""
    if distribution == "schuss":
        from .. import __version__

        return __version__
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def available_memory() -> int | None:
    """Return the bytes that can be allocated without swapping, None where the system does not say."""
    return _memory("MemAvailable")


def _memory(key: str) -> int | None:
    found = _field("/proc/meminfo", key)
    return int(found.split()[0]) * 1024 if found else None


def _field(path: str, key: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                name, _, value = line.partition(":")
                if name.strip() == key:
                    return value.strip()
    except OSError:
        pass
    return None
