"""Compile CPU kernels with numba: each once in a process, and once for all processes where numba's disk cache works."""

from __future__ import annotations

import os
import threading
from typing import Any

from numba import types

from ..lang.rule import Rule
from ..lowering import diagnostics
from ..plan.spec import GradSquares, Spec
from ..storage.quantization import QUANT_BLOCK
from . import finish, intrinsics
from .kernels import (
    dense_kernel,
    dense_measure_kernel,
    dense_squares_kernel,
    finish_kernel,
    quantized_kernel,
    strided_kernel,
    strided_measure_kernel,
    strided_squares_kernel,
)

_ROW = types.void(types.int64)
_lock = threading.RLock()
_kernels: dict[str, Any] = {}


def _after_fork() -> None:
    """Replace the lock: a thread of the parent may have held it, and is not here to release it."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def grad_squares_kernel(wanted: GradSquares) -> int:
    """Return the address of the kernel that adds up the squares of a gradient."""
    return compiled_grad_squares(wanted)[1]


def compiled_grad_squares(wanted: GradSquares) -> tuple[Any, int]:
    """Return the numba dispatcher of the kernel that adds up the squares of a gradient, and its address."""
    text = wanted.form
    if text in _kernels:
        return _kernels[text]
    with _lock:
        if text not in _kernels:
            code, size = wanted.gradient.code, wanted.gradient.itemsize
            made = strided_squares_kernel(code) if wanted.strided else dense_squares_kernel(code, size)
            _kernels[text] = made, _address(made)
        return _kernels[text]


def compiled_finish(rule: Rule) -> tuple[Any, int]:
    """Return the numba dispatcher of the kernel that calls the rule's ``finish``, and its address."""
    text = f"{rule.finish_key}|finish"
    with _lock:
        if text not in _kernels:
            finish.FINISHERS[text] = rule
            made = finish_kernel(text)
            _kernels[text] = made, _address(made)
        return _kernels[text]


def _address(made: Any) -> int:
    """Compile a numba dispatcher for a row's address. Return the address of the machine code."""
    made.compile(_ROW)
    result = made.overloads[_ROW.args]
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))


def kernel(rule: Rule, spec: Spec) -> int:
    """Return the address of the kernel of a spec. On first use it is compiled, or read from the disk cache.

    Raises
    ------
    RuleError
        When the rule's function cannot be compiled, returns other states than the rule has, or computes in float64
        where it should in float32.
    """
    return compiled(rule, spec)[1]


def compiled(rule: Rule, spec: Spec) -> tuple[Any, int]:
    """Return the numba dispatcher of the kernel of a spec, and its address."""
    text = str(spec)
    if text in _kernels:
        return _kernels[text]
    with _lock, diagnostics.explain_compile_errors(rule, spec):
        if text not in _kernels:  # another thread may have been first; a kernel in use must not be replaced
            intrinsics.KNOWN[text] = (spec, rule)
            sizes = (spec.parameter.itemsize, spec.gradient.itemsize)
            if spec.measure:
                sums = 8 * len(rule.Sums._fields)
                made = strided_measure_kernel(text, sums) if spec.strided else dense_measure_kernel(text, *sizes, sums)
            elif spec.strided:
                made = strided_kernel(text, QUANT_BLOCK if spec.quantized_states else 1 << 62)
            else:
                made = (quantized_kernel if spec.quantized_states else dense_kernel)(text, *sizes)
            _check_before_saving(made, rule, spec)
            _kernels[text] = made, _address(made)
        return _kernels[text]


def _check_before_saving(made: Any, rule: Rule, spec: Spec) -> None:
    """Have a kernel checked before numba saves it to the disk cache, so that one read from there needs no check."""
    save = made._cache.save_overload

    def checked(signature: Any, result: Any) -> None:
        diagnostics.kernel_is_plain(rule, spec, result.library)
        save(signature, result)

    made._cache.save_overload = checked
