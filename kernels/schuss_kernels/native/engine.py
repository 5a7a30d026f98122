"""The native engine: kernels compiled ahead of time, launched by the C extension. No numba, no compiler, no wait.

:mod:`.aot` compiles the kernels when the package is built, from the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..engine.extension import ExtensionEngine
from ..lang.rule import Rule
from ..plan.spec import Spec, Squares
from ..plan.tensor import Tensor
from .library import Unavailable, finish, kernel, library, squares_key, why_not


class NativeEngine(ExtensionEngine):
    """Kernels compiled ahead of time, launched by the C extension.

    ``strict``: a kernel that was not compiled ahead of time is an error; else numba compiles it.
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
            raise Unavailable(f"backend='native': {why_not(rule, spec)}; use backend='auto' or 'numba'")
        from ..cpu import compile

        return compile.kernel(rule, spec)

    def squares_kernel(self, wanted: Squares) -> int:
        address = library().kernels.get(squares_key(wanted))
        if address is not None:
            return address
        from ..cpu import compile

        return compile.squares_kernel(wanted)


def make_engine(tensors: Sequence[Tensor], clock: np.ndarray, threads: int | None, strict: bool) -> NativeEngine:
    """Return the native engine."""
    return NativeEngine(tensors, clock, threads, strict)
