"""What ``schuss info`` prints."""

from __future__ import annotations

import importlib.util
import os

from . import machine

_LABEL = 12


def text() -> str:
    """Versions, machine, what runs a step here, and what is missing and how to get it."""
    about = machine.describe()
    versions, memory = about["versions"], about["memory_bytes"]
    size = f", {memory / 2**30:.0f} GiB of memory" if memory else ""
    cuda, missing = _cuda()
    threads, layer, cache = _numba()
    lines = [
        ("schuss", versions["schuss"]),
        ("python", f"{about['python']} on {about['system']}"),
        ("numpy", versions["numpy"]),
        ("numba", f"{versions['numba']} (llvmlite {versions['llvmlite']}); {layer}"),
        ("processor", f"{about['processor']}, {about['cores']} core(s){size}"),
        ("threads", threads),
        ("cuda", cuda),
        ("cache", cache),
    ]
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


def _numba() -> tuple[str, str, str]:
    """Threads a step uses, what compiles the kernels, and where they are kept."""
    from schuss_kernels import launch
    from schuss_kernels.threads import most_threads

    threads = f"up to {most_threads()} for a step"
    if os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0"):
        return threads, "switched off by NUMBA_DISABLE_JIT: steps run the slow numpy reference", "none"
    folder = launch.run_alone.stats.cache_path
    return threads, "compiles the CPU kernels", folder or "none: no folder can be written; set NUMBA_CACHE_DIR to one"


def _cuda() -> tuple[str, list[str]]:
    """Whether CUDA can be used, and what is missing for it."""
    try:
        from schuss_kernels import cuda
    except ImportError as error:
        return "not usable", [f"CUDA kernels cannot be loaded ({error}): pip install 'schuss[cuda]'"]
    reason = cuda.available()
    if reason is None:
        return "usable", []
    return "not usable", [f"CUDA arrays: {reason}"]
