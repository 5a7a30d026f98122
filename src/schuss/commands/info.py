"""What ``schuss info`` prints."""

from __future__ import annotations

import importlib.util
import os

from schuss_kernels.engine.thread_count import max_threads

from ..optim import registry
from . import console, machine
from .console import Column

_LABEL = 12


def text() -> str:
    """Versions, machine, what runs a step here, and what is missing and how to get it."""
    about = machine.describe()
    versions, memory = about["versions"], about["memory_bytes"]
    size = f", {memory / 2**30:.0f} GiB of memory" if memory else ""
    native, missing = _native()
    cuda, more = _cuda()
    layer, cache = _numba()
    lines = [
        ("schuss", versions["schuss"]),
        ("python", f"{about['python']} on {about['system']}"),
        ("numpy", versions["numpy"]),
        ("processor", f"{about['processor']}, {about['cores']} core(s){size}"),
        ("threads", f"up to {max_threads()} for a step"),
        ("native", native),
        ("numba", f"{versions['numba']} (llvmlite {versions['llvmlite']}); {layer}"),
        ("cache", cache),
        ("cuda", cuda),
    ]
    missing += more
    missing += [
        f"{why}: pip install {what}"
        for module, why, what in (
            ("sklearn", "scikit-learn, for schuss demo", "'schuss[demo]'"),
            ("torch", "torch, which schuss bench compares with", "torch"),
        )
        if importlib.util.find_spec(module) is None
    ]
    lines += zip(["missing", *[""] * len(missing)], missing or ["nothing"], strict=False)
    return "\n".join(f"{label:<{_LABEL}}{value}" for label, value in lines)


def _native() -> tuple[str, list[str]]:
    """Name the levels of the kernels compiled ahead of time, the one in use, and what is missing."""
    from schuss_kernels.native import library as native_library

    reason = native_library.available()
    if reason is not None:
        return "not usable: numba compiles the kernels when they are first used", [reason]
    library = native_library.library()
    built = ", ".join(name + ("" if runs else " (not on this processor)") for name, runs in library.levels)
    chosen = f"{library.level} in use" + (f" ({native_library.LEVEL})" if native_library.LEVEL in os.environ else "")
    old = native_library.outdated()
    if old:
        return f"kernels for {built}; {chosen}", [
            f"native kernels of {', '.join(old)}: they were compiled from other source files than those that are here, "
            "and numba's are used instead; install schuss again"
        ]
    return f"{len(library.kernels)} kernels compiled ahead of time for {built}; {chosen}", []


def _numba() -> tuple[str, str]:
    """Say what numba compiles, and where it keeps it."""
    from schuss_kernels.cpu import launcher

    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return "switched off by NUMBA_DISABLE_JIT: what is not native runs the slow numpy reference", "none"
    folder = launcher.run_alone.stats.cache_path
    return (
        "compiles what is not native, such as your own rules",
        folder or "none: no folder can be written; set NUMBA_CACHE_DIR to one",
    )


def _cuda() -> tuple[str, list[str]]:
    """Say whether CUDA can be used, and what is missing for it."""
    try:
        from schuss_kernels.cuda.engine import available
    except ImportError as error:
        return "not usable", [f"CUDA kernels cannot be loaded ({error}): pip install 'schuss[cuda]'"]
    reason = available()
    if reason is None:
        return "usable", []
    return "not usable", [f"CUDA arrays: {reason}"]


def optimizers() -> str:
    """Write every optimizer there is as a table."""
    found = registry.optimizers()
    columns = (
        Column("name", max(len(entry.name) for entry in found), left=True),
        Column("class", max(len(entry.cls.__name__) for entry in found), left=True),
        Column("bytes/\nparam", 6),
        Column("kind", 12, left=True),
        Column("states", max(len(", ".join(entry.states)) for entry in found), left=True),
        Column("source", 0, left=True),
    )
    rows = [
        (e.name, e.cls.__name__, f"{e.bytes_per_parameter:.4g}", e.kind, ", ".join(e.states) or "none", e.source)
        for e in found
    ]
    said = f"{len({entry.cls for entry in found})} optimizers in {len(found)} forms; bytes are those of a float32 step."
    return "\n".join((console.heading(columns), *(console.row(columns, row) for row in rows), "", said))
