"""Draw the README's pictures of gradient descent into docs/: a contour map and the race.

python bench/readme_pictures.py
"""

from __future__ import annotations

from pathlib import Path

from schuss import plots, problems
from schuss.commands.runs import SOME
from schuss.commands.workloads import VARIANTS

DOCS = Path(__file__).parents[1] / "docs"

LARGEST = 300_000
"""Bytes that a picture on the page may have."""


def runs(problem: problems.Problem, steps: int) -> dict[str, problems.History]:
    """What each optimizer visits, at the learning rate that the problem has for it."""
    return {VARIANTS[key].title: problems.train(problem, key, epochs=steps, record="step") for key in SOME}


def main() -> None:
    DOCS.mkdir(exist_ok=True)
    valley = problems.rosenbrock()
    title = "Rosenbrock's valley after 300 steps"
    plots.contour(valley, runs(valley, 300), title=title, path=DOCS / "descent.png")
    waves = problems.ripples()
    plots.race(waves, runs(waves, 60), path=DOCS / "race.gif")
    for name in ("descent.png", "race.gif"):
        size = (DOCS / name).stat().st_size
        assert size <= LARGEST, f"{name} has {size:,} bytes"
        print(f"{DOCS / name}: {size:,} bytes")


if __name__ == "__main__":
    main()
