"""Write what follows from a row of the registry of optimizers. Run it after adding one.

    python bench/new_optimizer.py             missing learning rates, docs/optimizers.md, names for type checkers
    python bench/new_optimizer.py NAME ...    the same, and the rates of these optimizers are searched for again
    python bench/new_optimizer.py --check     says what is missing or stale; a test does it

It reads this checkout, installed or not. A search takes a minute or so for each optimizer; rates that are there stay.
For a NAME it also prints the rate at which the network of ``schuss demo digits_mlp`` reads most digits, which stands
in ``src/schuss/optim/registry.py``.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "kernels")]

from schuss import problems, schedules  # noqa: E402
from schuss.optim import registry  # noqa: E402
from schuss.problems import rates  # noqa: E402

TABLE = ROOT / "docs" / "optimizers.md"
STUB = ROOT / "src" / "schuss" / "optim" / "__init__.pyi"
RATES = ROOT / "src" / "schuss" / "problems" / "rates.py"

GRID = [digit * 10.0**power for power in range(-5, 2) for digit in (1.0, 2.0, 5.0)]
DIGITS_EPOCHS, DIGITS_SEEDS = 20, 2

_ABOUT = """# Optimizers

{classes} optimizers in {forms} forms; `schuss info --optimizers` and `schuss.optimizers()` tell the same. *Name* is
what `schuss.make(name, params)` takes. *Bytes* is what a step moves for each float32 parameter, gradient included,
and what is read in a first pass, which kinds other than element-wise need (matrix: NumPy's own passes are not counted).
*Kind* says what an element's step depends on beside the element: a number of its tensor, one of all tensors, or its
row and column.

*Rates* are learning rates that the tests use: of the network that reads digits (`schuss demo digits_mlp`; within two
points of AdamW's accuracy after 20 epochs), and of a parabola and of Rosenbrock's valley, where the rate falls to zero
along half a wave of the cosine over {steps:,} steps and the descent ends at the minimum.
`tests/optim/test_convergence.py` says which do not, and why.

| name | class | states | bytes | kind | rates | source |
|:---|:---|:---|---:|:---|:---|:---|
"""


def files() -> dict[Path, str]:
    """Return what each generated file has to be."""
    return {TABLE: _table(), STUB: _stub(), RATES: _rates()}


def _table() -> str:
    """List every optimizer in every form, one line each, as markdown."""
    found = registry.optimizers()
    rows = [
        f"| `{e.name}` | `{_call(e)}` | {', '.join(f'`{state}`' for state in e.states) or 'none'} | "
        f"{e.bytes_per_parameter:.4g} | {e.kind} | {_rates_of(e.name)} | {e.source} |"
        for e in found
    ]
    about = _ABOUT.format(classes=len({e.cls for e in found}), forms=len(found), steps=rates.STEPS)
    return about + "\n".join(rows) + "\n"


def _rates_of(name: str) -> str:
    settling = (of.get(name, math.nan) for of in rates.SETTLING.values())
    return ", ".join(f"{rate:g}" for rate in (registry.VARIANTS[name].demo_lr, *settling))


def _call(entry: registry.Listed) -> str:
    said = ", ".join(f"{name}={value!r}" for name, value in entry.options.items())
    return f"{entry.cls.__name__}({said})" if said else entry.cls.__name__


def _stub() -> str:
    """Write what a type checker sees of the package of the classes, which are imported when they are used."""
    ordered = sorted(registry.CLASSES.items(), key=lambda item: (item[1], not item[0].isupper(), item[0]))
    lines = [f"from .{module} import {name} as {name}" for name, module in ordered]
    return "\n".join(("# By bench/new_optimizer.py, from registry.py.", *lines, ""))


def _rates() -> str:
    """Write the file of learning rates, in the order of the registry."""
    text = RATES.read_text(encoding="utf-8")
    head = text[: text.index("RATES: ")]
    middle = text[text.index("\nSTEPS = ") : text.index("SETTLING: ")]
    return "".join((head, _literal("RATES", rates.RATES), middle, _literal("SETTLING", rates.SETTLING)))


def _literal(name: str, values: dict[str, dict[str, float]]) -> str:
    lines = [f"{name}: dict[str, dict[str, float]] = {{"]
    for problem, of in values.items():
        lines.append(f'    "{problem}": {{')
        lines += [f'        "{key}": {of[key]!r},' for key in registry.VARIANTS if key in of]
        lines.append("    },")
    return "\n".join((*lines, "}", ""))


def best_rate(problem: problems.Problem, key: str) -> float:
    """Find the rate that :mod:`schuss.problems.rates` asks for; NaN where the loss rises at every rate."""
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
    """Find the rate that ends nearest to the minimum where it falls to zero along half a wave of the cosine."""
    distances = {}
    for rate in GRID:
        history = problems.train(problem, key, lr=schedules.cosine(rate, rates.STEPS), epochs=rates.STEPS)
        if not history.diverged:
            distances[rate] = np.linalg.norm(problem.vector(history.params) - problem.vector(problem.answer))
    return min(distances, key=distances.__getitem__, default=math.nan)


def digits_rate(key: str) -> tuple[float, float]:
    """Find the rate whose network reads most digits right, on the mean of some seeds, and that share in percent."""
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


def search(key: str, again: bool) -> None:
    """Find an optimizer's missing rates, or all. The problems' own rates are the classic optimizers', or asked for."""
    searches = [(best_rate, rates.RATES)] if again or key in registry.CLASSIC else []
    for find, tables in (*searches, (settling_rate, rates.SETTLING)):
        for name, of in tables.items():
            if again or key not in of:
                rate = find(problems.make(name), key)
                print(f"{key} on {name}: {rate:g}", flush=True)
                if math.isnan(rate):  # at every rate it diverges, or the loss rises above where it started
                    of.pop(key, None)
                else:
                    of[key] = rate


def stale() -> dict[Path, str]:
    """Return the generated files that are not what they have to be, and what that is."""
    return {path: text for path, text in files().items() if path.read_text(encoding="utf-8") != text}


def without_rates() -> list[str]:
    """Name the optimizers whose rates are missing."""
    return [key for key in registry.VARIANTS if any(key not in of for of in rates.SETTLING.values())]


def write() -> None:
    """Write the files that are stale."""
    for path, text in stale().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}", flush=True)


def check() -> int:
    """Say what is missing or stale; 1 where anything is."""
    wrong = [f"{key} has no learning rates" for key in without_rates()]
    wrong += [f"{path.relative_to(ROOT)} is not what the registry says" for path in stale()]
    if wrong:
        print("\n".join((*wrong, "run python bench/new_optimizer.py")))
    return int(bool(wrong))


def main(names: list[str]) -> None:
    """Search, and write after each optimizer: what was found stays when it is broken off."""
    for key in dict.fromkeys((*without_rates(), *names)):
        again = key in names
        search(key, again)
        write()
        if again:
            rate, score = digits_rate(key)
            print(f"{key} on digits_mlp: {rate:g} ({score:.1f}%); it stands in registry.py", flush=True)
    write()


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(check())
    main([registry.key(name) for name in sys.argv[1:]])
