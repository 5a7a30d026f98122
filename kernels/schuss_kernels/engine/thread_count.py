"""The number of threads that a step may use."""

from __future__ import annotations

import functools
import math
import os
import sys
from pathlib import Path


def max_threads() -> int:
    """Return the number of threads that a step may use where the user of an optimizer does not say.

    ``OMP_NUM_THREADS`` where it is set, else ``NUMBA_NUM_THREADS``, else the CPU time that the control group of the
    process is given (a container's limit), in cores, rounded up; in any case at most :func:`cores`. ``OMP_NUM_THREADS``
    may be a list, one number for each level of nesting: the first counts.
    """
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        first = os.environ.get(variable, "").split(",")[0].strip()
        if first.isdecimal() and int(first) > 0:
            return at_most_cores(int(first))
    quota = cpu_quota()
    return cores() if quota is None else max(1, min(cores(), math.ceil(quota)))


def at_most_cores(threads: int) -> int:
    """Return ``threads``, or :func:`cores` where that is less: threads that wait for each other's cores only cost."""
    return min(threads, cores())


def cores() -> int:
    """Return the number of cores that the process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def at_most_torch(threads: int) -> int:
    """Return ``threads``, or the threads that torch may use (``torch.set_num_threads``) where that is less."""
    get = getattr(sys.modules.get("torch"), "get_num_threads", None)
    return threads if get is None else min(threads, int(get()))


@functools.cache
def cpu_quota(groups: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the CPU time per time that the control groups (version 1 or 2) of the process allow; None: no limit.

    ``groups``: the file that names the process's groups. ``root``: where their folders are mounted. A group's limit
    holds for the groups below it, too. In a container the root is often the container's own group.
    """
    found = []
    for line in _read(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, read = root, _quota_v2
        elif "cpu" in controllers.split(","):
            base, read = (root / controllers if (root / controllers).is_dir() else root / "cpu"), _quota_v1
        else:
            continue
        folder = base / path.strip("/")
        found += [read(each) for each in (folder, *folder.parents) if each.is_relative_to(base)]
    return min((quota for quota in found if quota is not None), default=None)


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _quota_v2(folder: Path) -> float | None:
    return _ratio(*_read(folder / "cpu.max").split()[:2])


def _ratio(quota: str = "", period: str = "") -> float | None:
    """Return ``quota / period``; None where one is no number above zero, as ``max`` and ``-1`` are, or is missing."""
    both = [float(text) if text.strip().isdecimal() else 0.0 for text in (quota, period)]
    return both[0] / both[1] if all(both) else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
