from typing import Any

class Plan:
    def __init__(
        self,
        *,
        rows: Any,
        spans: Any,
        expected: Any,
        layouts: Any,
        intervals: Any,
        numbers32: Any,
        numbers64: Any,
        clock: Any,
        elements: int,
        threads: int,
        fixed: bool,
        array_type: type,
        memmap_type: type,
    ) -> None: ...
    def step(self, gradients: list[Any], share: bool, /) -> bool: ...
    def place(self, gradients: tuple[Any, ...], /) -> bool: ...
    def look(self, share: bool, /) -> None: ...
    def run(self, share: bool, /) -> None: ...
    def scalars(self, slot: int, riders: tuple[float, ...], numbers: tuple[float, ...], /) -> None: ...

def levels() -> list[tuple[str, bool]]: ...
def kernels(level: str, /) -> dict[str, int]: ...
