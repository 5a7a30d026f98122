"""Find the learning rates of ``src/schuss/problems/rates.py`` for optimizers that have none there yet.

    python bench/tune_rates.py [NAME ...]      of these optimizers (again); without names, of those that have none

Takes minutes. Writes the file. The rates of the digits' network stand in ``catalogue.py``; they are printed.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

from schuss import problems, schedules
from schuss.optim import registry
from schuss.problems import rates

FILE = Path(rates.__file__)
GRID = [digit * 10.0**power for power in range(-5, 2) for digit in (1.0, 2.0, 5.0)]
DIGITS_EPOCHS, DIGITS_SEEDS = 20, 2


def best_rate(problem: problems.Problem, key: str) -> float:
    """As :mod:`schuss.problems.rates` says it is chosen."""
    runs = {}
    for rate in GRID:
        history = problems.train(
            problem, key, lr=rate, strategy=problem.strategy, batch_size=problem.batch_size, epochs=problem.epochs
        )
        up = -1.0 if problem.maximize else 1.0
        losses = up * np.array(history.losses)
        if not history.diverged and (losses <= losses[0] + 1e-9 * abs(losses[0])).all():
            runs[rate] = losses
    if not runs:
        return math.nan
    if problem.answer is not None and not problem.maximize:
        least = min(problem.loss(problem.answer), min(losses.min() for losses in runs.values()))
    else:
        least = min(losses.min() for losses in runs.values())
    return min(runs, key=lambda rate: np.log10(runs[rate] - least + 1e-12 * (1.0 + abs(least))).mean())


def settling_rate(problem: problems.Problem, key: str) -> float:
    """The rate that ends nearest to the minimum where it falls to zero along half a wave of the cosine."""
    distances = {}
    for rate in GRID:
        history = problems.train(problem, key, lr=schedules.cosine(rate, rates.STEPS), epochs=rates.STEPS)
        if not history.diverged:
            distances[rate] = np.linalg.norm(problem.vector(history.params) - problem.vector(problem.answer))
    return min(distances, key=distances.__getitem__)


def digits_rate(key: str) -> tuple[float, float]:
    """The rate whose network reads most digits right, on the mean of some seeds, and that share in percent."""
    scores = {}
    for rate in GRID:
        found = []
        for seed in range(DIGITS_SEEDS):
            problem = problems.digits_mlp(seed=seed)
            history = problems.train(
                problem, key, lr=rate, strategy="mini-batch", batch_size=64, epochs=DIGITS_EPOCHS, seed=seed
            )
            found.append(0.0 if history.diverged else problem.score(history.params))
        scores[rate] = float(np.mean(found))
    rate = max(scores, key=lambda rate: (round(scores[rate], 3), -abs(math.log10(rate) + 2.5)))
    return rate, 100.0 * scores[rate]


def write(found: dict[str, dict[str, float]], settling: dict[str, dict[str, float]]) -> None:
    """Replace the tables of the file."""
    text = FILE.read_text(encoding="utf-8")
    head = text[: text.index("RATES: ")]
    middle = text[text.index("\nSTEPS = ") : text.index("SETTLING: ")]
    tables = [_table("RATES", found), middle, _table("SETTLING", settling)]
    FILE.write_text(head + "".join(tables), encoding="utf-8")


def _table(name: str, values: dict[str, dict[str, float]]) -> str:
    lines = [f"{name}: dict[str, dict[str, float]] = {{"]
    for problem, of in values.items():
        lines.append(f'    "{problem}": {{')
        lines += [f'        "{key}": {of[key]:.10g},' for key in registry.VARIANTS if key in of]
        lines.append("    },")
    return "\n".join((*lines, "}", ""))


def main() -> None:
    """Search, and write after each optimizer: what was found stays when it is broken off."""
    found = {name: dict(of) for name, of in rates.RATES.items()}
    settling = {name: dict(of) for name, of in rates.SETTLING.items()}
    for key in sys.argv[1:] or registry.VARIANTS:
        asked = key in sys.argv[1:]
        for name, of in found.items():
            if asked or key not in of:
                rate = best_rate(problems.make(name), key)
                if math.isnan(rate):
                    of.pop(key, None)
                    print(f"{key} on {name}: at every rate the loss rises above where it started", flush=True)
                else:
                    of[key] = rate
        for name, of in settling.items():
            if asked or key not in of:
                of[key] = settling_rate(problems.make(name), key)
        write(found, settling)
        if asked or key not in registry.CLASSIC:
            rate, score = digits_rate(key)
            print(f"{key}: digits {rate:g} ({score:.1f}%)", flush=True)


if __name__ == "__main__":
    main()
