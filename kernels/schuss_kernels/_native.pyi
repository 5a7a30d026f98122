from typing import Any

SOURCES: str

class Plan:
    def __init__(
        self,
        *,
        rows: Any,
        spans: Any,
        gradient_table: Any,
        shapes: Any,
        intervals: Any,
        scalars32: Any,
        scalars64: Any,
        clock: Any,
        two_pass: Any,
        portions: Any,
        written_table: Any,
        written: tuple[Any, ...],
        elements: int,
        threads: int,
        threads_given: bool,
        writes_gradients: bool,
        array_type: type,
        memmap_type: type,
    ) -> None: ...
    def step(self, gradients: list[Any], use_openmp: bool, /) -> bool: ...
    def set_gradients(self, gradients: list[Any], /) -> bool: ...
    def add_grad_squares(self, use_openmp: bool, /) -> None: ...
    def add_measures(self, use_openmp: bool, /) -> None: ...
    def run(self, use_openmp: bool, /) -> None: ...
    def step_two_pass(self, use_openmp: bool, /) -> None: ...
    def scalars(self, slots: list[int], riders: tuple[float, ...], numbers: tuple[float, ...], /) -> None: ...

def levels() -> list[tuple[str, bool]]: ...
def kernels(level: str, /) -> dict[str, int]: ...
def folded(measured: Any, first_sum: Any, sum_counts: Any, /) -> list[tuple[float, ...]]: ...
