"""The native engine: kernels compiled ahead of time, launched by the C extension. It needs no numba and no compiler.

:mod:`.aot` compiles the kernels from the same rules when the package is built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import cpu
from ..engine.extension import ExtensionEngine
from ..lang.rule import Rule
from ..plan.spec import GradSquares, Spec
from ..plan.tensor import Tensor
from .library import Unavailable, finish, grad_squares_key, kernel, library, missing_kernel_reason


class NativeEngine(ExtensionEngine):
    """Run kernels that were compiled ahead of time with the C extension.

    ``strict``: raise :class:`.Unavailable` for a kernel that was not compiled ahead of time. Else numba compiles it.
    """

    name = "native"

    def __init__(
        self,
        tensors: Sequence[Tensor],
        clock: np.ndarray | None = None,
        threads: int | None = None,
        strict: bool = False,
    ) -> None:
        self._strict = strict
        super().__init__(tensors, clock, threads)

    def finish_kernel(self, rule: Rule) -> int | None:
        return finish(rule)

    def kernel(self, rule: Rule, spec: Spec) -> int:
        address = kernel(rule, spec)
        if address is not None:
            return address
        if self._strict:
            raise Unavailable(f"backend='native': {missing_kernel_reason(rule, spec)}; use backend='auto' or 'numba'")
        return _numba(lambda: missing_kernel_reason(rule, spec)).kernel(rule, spec)

    def grad_squares_kernel(self, wanted: GradSquares) -> int:
        address = library().kernels.get(grad_squares_key(wanted))
        if address is not None:
            return address
        missing = f"sums of squares were not compiled ahead of time for {wanted.gradient.dtype} gradients"
        return _numba(lambda: missing).grad_squares_kernel(wanted)


def _numba(missing: Callable[[], str]) -> Any:
    """Return the module that compiles kernels. ``missing`` says what was not compiled ahead of time, for an error.

    Raises
    ------
    Unavailable
        When numba may not compile.
    """
    reason = cpu.available()
    if reason is not None:
        raise Unavailable(f"{missing()}, and numba cannot compile: {reason}; unset it, or use backend='numpy'")
    from ..cpu import compile

    return compile


def make_engine(tensors: Sequence[Tensor], clock: np.ndarray, threads: int | None, strict: bool) -> NativeEngine:
    """Return the native engine."""
    return NativeEngine(tensors, clock, threads, strict)
