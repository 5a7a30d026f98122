"""Write down what the catalogue of optimizers says: ``docs/optimizers.md``, and the names for type checkers.

    python bench/list_optimizers.py            after a new row in src/schuss/catalogue.py

A test compares both files with what this makes.
"""

from __future__ import annotations

from pathlib import Path

from schuss.optim import registry
from schuss.problems import rates

ROOT = Path(__file__).parents[1]
TABLE, STUB = ROOT / "docs" / "optimizers.md", ROOT / "src" / "schuss" / "optim" / "__init__.pyi"

_ABOUT = """# Optimizers

{classes} optimizers in {forms} forms; `schuss info --optimizers` and `schuss.optimizers()` tell the same. *Name* is
what `schuss.make(name, params)` takes. *Bytes* is what a step moves for each float32 parameter, gradient included,
and what is read in a first pass, which kinds other than element-wise need (matrix: NumPy's own passes are not counted).
*Kind* says what an element's step depends on beside the element: a number of its tensor, one of all tensors, or its
row and column.

*Rates* are learning rates that the tests use: of the network that reads digits (`schuss demo digits_mlp`; within two
points of AdamW's accuracy after 20 epochs), and of a parabola and of Rosenbrock's valley, where the rate falls to zero
along half a wave of the cosine over {steps:,} steps and the descent ends at the minimum. `tests/test_convergence.py`
says which do not, and why.

| name | class | states | bytes | kind | rates | source |
|:---|:---|:---|---:|:---|:---|:---|
"""


def table() -> str:
    """Every optimizer in every form, one line each, as markdown."""
    found = registry.optimizers()
    rows = [
        f"| `{e.name}` | `{_call(e)}` | {', '.join(f'`{state}`' for state in e.states) or 'none'} | "
        f"{e.bytes_per_parameter:.4g} | {e.kind} | {_rates(e.name)} | {e.source} |"
        for e in found
    ]
    return (
        _ABOUT.format(classes=len({e.cls for e in found}), forms=len(found), steps=rates.STEPS) + "\n".join(rows) + "\n"
    )


def _rates(name: str) -> str:
    of = (registry.VARIANTS[name].demo_lr, *(found[name] for found in rates.SETTLING.values()))
    return ", ".join(f"{rate:g}" for rate in of)


def _call(entry: registry.Listed) -> str:
    said = ", ".join(f"{name}={value!r}" for name, value in entry.options.items())
    return f"{entry.cls.__name__}({said})" if said else entry.cls.__name__


def stub() -> str:
    """What a type checker sees of the package of the classes, which are imported when they are used."""
    modules: dict[str, list[str]] = {}
    for name, module in sorted(registry.CLASSES.items(), key=lambda item: (item[1], not item[0].isupper(), item[0])):
        modules.setdefault(module, []).append(name)
    lines = [
        f"from .{module} import {name} as {name}"
        for module, names in modules.items()
        for name in names
    ]  # fmt: skip
    return "\n".join(("# By bench/list_optimizers.py, from catalogue.py.", *lines, ""))


def main() -> None:
    """Write both files."""
    TABLE.write_text(table(), encoding="utf-8")
    STUB.write_text(stub(), encoding="utf-8")


if __name__ == "__main__":
    main()
