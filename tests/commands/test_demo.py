"""schuss demo: every problem runs, the tables say what the training came to, the files listed are the files written."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from schuss import problems
from schuss.commands import cli, console, demo, runs, steps
from schuss.optim import registry

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from PIL import Image

PROBLEMS = {
    "bids_roi": {"curve.png", "losses.png"},
    "bids_roi_100": {"contour.png", "surface.png", "field.png", "race.gif", "losses.png"},
    "sine_parabola": {"curve.png", "losses.png"},
    "sigmoid_neuron": {"contour.png", "surface.png", "field.png", "race.gif", "losses.png"},
    "sigmoid_neuron_b": {"contour.png", "surface.png", "field.png", "race.gif", "losses.png"},
    "quadratic": {"contour.png", "surface.png", "field.png", "race.gif", "losses.png"},
    "ripples": {"contour.png", "surface.png", "field.png", "race.gif", "losses.png"},
    "rosenbrock": {"contour.png", "surface.png", "field.png", "race.gif", "losses.png"},
    "linear_regression": {"losses.png"},
    "logistic_regression": {"losses.png"},
    "blobs_network": {"losses.png"},
    "digits_mlp": {"losses.png"},
}


def ran(capsys, *arguments):
    """What a command that succeeds puts out."""
    code = cli.main(["demo", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "\r" not in out
    return out


def error_of(capsys, *arguments):
    """The one line that a command that fails says."""
    code = cli.main(["demo", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert code == 2
    assert out == ""
    assert err.startswith("schuss: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("schuss: error: ").rstrip("\n")


def listed(out):
    """The files that the end of the output names."""
    return [line.strip() for line in out.split("Files written:\n")[1].splitlines()]


def checked(out, folder):
    """The names of the files, which are all there, and pictures."""
    paths = listed(out)
    assert sorted(paths) == sorted(map(str, folder.iterdir()))
    for path in paths:
        with Image.open(path) as image:
            image.verify()
            assert min(image.size) >= 300
    return {os.path.basename(path) for path in paths}


def test_every_problem_is_known():
    assert set(PROBLEMS) == set(problems.names())


SIMILAR = ("bids_roi_100", "sigmoid_neuron", "sigmoid_neuron_b", "ripples", "quadratic", "logistic_regression")
"""Problems that are drawn as another one is; the tour has them too."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] if name in SIMILAR else []) for name in PROBLEMS]
)
def test_problem(name, capsys, tmp_path):
    out = ran(capsys, name, "--optimizer", "momentum,adam", "--epochs", 5, "--out", tmp_path / "new" / "folder")
    assert checked(out, tmp_path / "new" / "folder") == {f"{name}-{kind}" for kind in PROBLEMS[name]}
    problem = problems.make(name)
    assert out.startswith(f"{name}: {problem.title}\n")
    assert re.search(r"^SGD momentum +\S", out, re.MULTILINE)
    assert re.search(r"^Adam +\S", out, re.MULTILINE)
    assert max(map(len, out.replace(str(tmp_path), "").splitlines())) <= 120


def test_digits_table(capsys, tmp_path):
    arguments = ["--optimizer", "adamw,sgd", "--epochs", 2, "--batch-size", 64, "--seed", 1, "--out", tmp_path]
    out = ran(capsys, "digits_mlp", *arguments)
    rows = re.findall(r"^(SGD|AdamW) +(\S+) +(\S+)% +(\S+) +(\S+) +(\S+) +(\S+)%$", out, re.MULTILINE)
    assert [(name, float(lr)) for name, lr, *_ in rows] == [("SGD", 0.3), ("AdamW", 0.003)]
    problem = problems.digits_mlp(seed=1)
    for (_, _, accuracy, loss, count, ms, share), key in zip(rows, ("sgd", "adamw"), strict=True):
        history = problems.train(problem, key, strategy="mini-batch", batch_size=64, epochs=2, seed=1)
        assert accuracy == f"{problem.score(history.params):.1%}"[:-1]
        assert loss == f"{history.loss:.4f}"
        assert int(count) == history.steps == 44
        assert float(ms) > 0
        assert 0 < float(share) < 100


@pytest.mark.parametrize("key", registry.CLASSIC)
def test_the_classic_optimizers_learn_digits(key):
    plan = runs.Plan([key], epochs=8, record=False)
    (one,) = runs.quiet(runs.make("digits_mlp", 0), plan, console.Progress())
    assert one.problem.score(one.history.params) > 0.90
    assert one.history.loss < 0.3


def test_digits_are_done_by_every_optimizer(capsys, tmp_path):
    out = ran(capsys, "digits_mlp", "--epochs", 1, "--out", tmp_path)
    for variant in map(registry.VARIANTS.get, registry.CLASSIC):
        assert f"\n{variant.title}  " in out


def test_seed(capsys, tmp_path):
    def table(seed):
        out = ran(capsys, "digits_mlp", "--optimizer", "adam", "--epochs", 1, "--seed", seed, "--out", tmp_path)
        return re.search(r"^Adam +\S+ +(\S+ +\S+)", out, re.MULTILINE)[1]

    first, again, other = table(3), table(3), table(4)
    assert first == again != other


def test_batch_sizes_are_compared(capsys, tmp_path):
    out = ran(
        capsys,
        "blobs_network",
        "--optimizer",
        "adam",
        "--strategy",
        "mini-batch",
        "--batch-size",
        "32,64,128",
        "--epochs",
        3,
        "--out",
        tmp_path,
    )
    steps_of = dict(re.findall(r"mini-batch of (\d+) .* (\d+) +\S+ +\S+%$", out, re.MULTILINE))
    assert steps_of == {"32": "72", "64": "36", "128": "18"}  # 750 rows, 3 epochs
    expected = {"blobs_network-batch-sizes.png", *(f"blobs_network-losses-mini-batch-{n}.png" for n in (32, 64, 128))}
    assert checked(out, tmp_path) == expected


def test_strategies_are_compared(capsys, tmp_path):
    out = ran(
        capsys,
        "bids_roi_100",
        "--optimizer",
        "sgd",
        "--strategy",
        "stochastic,batch,mini-batch",
        "--batch-size",
        20,
        "--epochs",
        2,
        "--out",
        tmp_path,
    )
    found = re.findall(r"^SGD +\S+ +(batch|mini-batch of 20|stochastic) .* (\d+) +\S+ +\S+%$", out, re.MULTILINE)
    assert found == [("batch", "2"), ("mini-batch of 20", "10"), ("stochastic", "200")]
    assert "bids_roi_100-strategies.png" in checked(out, tmp_path)


def test_learning_rates_are_compared(capsys, tmp_path):
    out = ran(capsys, "quadratic", "--optimizer", "sgd", "--lr", "0.001,0.01,1e9", "--out", tmp_path)
    rows = re.findall(r"^SGD +(\S+) +(\S+)", out, re.MULTILINE)
    assert [rate for rate, _ in rows] == ["0.001", "0.01", "1e+09"]
    assert rows[-1][1] == "diverged"
    assert float(rows[1][1]) < float(rows[0][1])
    assert "quadratic-lr.png" in checked(out, tmp_path)


def test_where_everything_diverges_there_is_still_a_table(capsys, tmp_path):
    out = ran(capsys, "rosenbrock", "--optimizer", "sgd", "--lr", "1e9,1e10", "--out", tmp_path)
    assert out.count("diverged") == 2
    assert checked(out, tmp_path) == {"rosenbrock-field.png", "rosenbrock-lr.png"}


def test_names_may_be_written_in_other_ways(capsys, tmp_path):
    out = ran(capsys, "Bids-ROI", "--optimizer", "Momentum, nesterov", "--epochs", 2, "--out", tmp_path)
    assert re.findall(r"^(SGD \w+) ", out, re.MULTILINE) == ["SGD momentum", "SGD Nesterov"]


def test_resnet18(capsys, tmp_path):
    out = ran(capsys, "resnet18", "--optimizer", "sgd,adam", "--out", tmp_path)
    assert "11,689,512 parameters" in out
    rows = re.findall(r"^(SGD|Adam) +(\d+) +(\S+) +(\S+) +(\S+) +(\d+)%", out, re.MULTILINE)
    assert [(name, int(moved)) for name, moved, *_ in rows] == [("SGD", 12), ("Adam", 28)]
    for _, moved, ms, speed, floor, share in rows:
        np.testing.assert_allclose(float(speed), int(moved) * 11_689_512 / float(ms) / 1e6, rtol=0.02)
        np.testing.assert_allclose(int(share), 100 * float(floor) / float(ms), atol=1.5)
    assert checked(out, tmp_path) == {"resnet18-steps.png"}


@pytest.mark.parametrize(
    ("ours", "floor", "scattered", "disturbed"),
    [(1.0, 0.98, False, False), (1.0, 1.05, False, False), (1.0, 1.2, False, True), (1.0, 0.9, True, True)],
)
def test_a_floor_above_the_step_is_not_believed(ours, floor, scattered, disturbed):
    result = {"busy": scattered, "contenders": {"schuss": {"median_s": ours}, "floor": {"median_s": floor}}}
    assert steps._disturbed(result) == disturbed


def test_a_calm_measurement_goes_before_a_faster_disturbed_one(monkeypatch):
    def result(ours, floor):
        return {"busy": False, "contenders": {"schuss": {"median_s": ours}, "floor": {"median_s": floor}}}

    made = iter([result(1.0, 1.5), result(2.0, 1.9), result(0.1, 0.1)])
    monkeypatch.setattr(steps.bench, "measure", lambda *_: next(made))
    assert steps._measured(registry.VARIANTS["sgd"], None, 1, None) == result(2.0, 1.9)  # and the third is not taken


def test_tour_in_a_process_without_a_display(tmp_path):
    """As after a fresh installation: numba's cache is empty too."""
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    env.pop("DISPLAY", None)
    command = [sys.executable, "-m", "schuss", "demo"]
    # Less than a minute where nobody else is at work; a busy machine has five.
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    paths = listed(done.stdout)
    assert all((tmp_path / path).stat().st_size > 10_000 for path in paths)
    assert sorted(paths) == sorted(f"schuss-demo/{path.name}" for path in (tmp_path / "schuss-demo").iterdir())
    assert [int(number) for number in re.findall(r"^(\d+) of 12\. ", done.stdout, re.MULTILINE)] == list(range(1, 13))
    kinds = {re.search(r"-([a-z-]+)\.\w+$", path)[1] for path in paths}
    everything = {"contour", "surface", "field", "curve", "race", "losses", "lr", "strategies", "batch-sizes", "steps"}
    assert kinds == everything
    assert max(map(len, done.stdout.splitlines())) <= 120


def test_tour_is_of_problems_that_there_are():
    assert {chapter.problem for chapter in demo.TOUR} <= set(problems.names())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rosenbrok"], "unknown problem 'rosenbrok', did you mean 'rosenbrock'? (problems: bids_roi, "),
        (["resnet19"], "unknown problem 'resnet19', did you mean 'resnet18'?"),
        (["ripples", "--optimizer", "momentun"], "--optimizer: unknown name 'momentun', did you mean 'momentum'?"),
        (["ripples", "--optimizer", ","], "--optimizer: expected at least one of"),
        (["bids_roi_100", "--strategy", "minibatch"], "--strategy: unknown name 'minibatch', did you mean 'mini-"),
        (["bids_roi_100", "--strategy", ""], "--strategy: expected at least one of batch, mini-batch, stochastic"),
        (["bids_roi_100", "--batch-size", "0"], "--batch-size: expected a whole number of at least 1, got '0'"),
        (["bids_roi_100", "--batch-size", "32,x"], "--batch-size: expected a whole number of at least 1, got 'x'"),
        (["bids_roi_100", "--batch-size", "9,101"], "--batch-size: expected at most the 100 rows of bids_roi_100, got"),
        (["bids_roi_100", "--batch-size", "5", "--strategy", "batch"], "--batch-size: only the strategy mini-batch"),
        (["ripples", "--batch-size", "5"], "--batch-size: ripples is a function without data"),
        (["ripples", "--strategy", "stochastic"], "--strategy: ripples is a function without data"),
        (["ripples", "--lr", "0"], "--lr: expected a finite number above 0, got '0'"),
        (["ripples", "--lr", "0.1,nan"], "--lr: expected a finite number above 0, got 'nan'"),
        (["ripples", "--lr", "inf"], "--lr: expected a finite number above 0, got 'inf'"),
        (["ripples", "--epochs", "0"], "--epochs: expected a whole number of at least 1, got '0'"),
        (["--epochs", "3"], "--epochs: name the problem that it is for, as in schuss demo digits_mlp --epochs ..."),
        (["--batch-size", "32"], "--batch-size: name the problem that it is for"),
        (["resnet18", "--lr", "0.1"], "--lr: resnet18 only times steps"),
        (["ripples", "--oput", "x"], "unknown argument '--oput', did you mean '--out'?"),
        (["ripples", "rosenbrock"], "unknown argument 'rosenbrock'"),
    ],
)
def test_error_is_one_line(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert error_of(capsys, *arguments).startswith(said)
    assert not list(tmp_path.iterdir())  # nothing was begun


@pytest.mark.parametrize("problem", [[], ["ripples"], ["resnet18"]], ids=["tour", "problem", "resnet18"])
def test_folder_that_cannot_be_written(problem, capsys, tmp_path):
    (tmp_path / "file").write_text("")
    said = error_of(capsys, *problem, "--out", tmp_path / "file")
    assert said == f"--out: {tmp_path / 'file'} is a file, not a folder"
    below = error_of(capsys, *problem, "--out", tmp_path / "file" / "below")
    assert below.startswith(f"--out: {tmp_path / 'file' / 'below'} cannot be written (")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(capsys, tmp_path):
    tmp_path.chmod(0o500)
    assert "cannot be written (Permission denied)" in error_of(capsys, "ripples", "--out", tmp_path)


@pytest.mark.parametrize(
    ("module", "package", "problem"),
    [
        ("matplotlib.figure", "matplotlib", []),
        ("matplotlib.figure", "matplotlib", ["ripples"]),
        ("matplotlib.figure", "matplotlib", ["resnet18"]),
        ("sklearn.datasets", "scikit-learn", []),
        ("sklearn.datasets", "scikit-learn", ["digits_mlp"]),
        ("scipy.optimize", "SciPy", ["ripples"]),
    ],
)
def test_without_a_package(module, package, problem, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    said = error_of(capsys, *problem)
    assert said.endswith(f" needs {package}: pip install 'schuss[demo]'")
    assert not list(tmp_path.iterdir())


def test_without_a_compiler(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert error_of(capsys, "resnet18", "--out", tmp_path).startswith("NUMBA_DISABLE_JIT is set")


def test_progress_is_live_on_a_terminal(tmp_path):
    class Terminal:
        text = ""

        def isatty(self):
            return True

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    terminal = Terminal()
    plan = runs.Plan(["adam"], epochs=40, record=False)
    runs.quiet(runs.make("digits_mlp", 0), plan, console.Progress(terminal))
    shown = re.findall(r"\rdigits_mlp, Adam, mini-batch of 64, lr 0.003: epoch (\d+) of 40, loss \S+", terminal.text)
    assert len(shown) >= 1
    assert sorted(map(int, shown)) == list(map(int, shown))


def test_help_names_every_problem_and_optimizer_family(capsys):
    assert cli.main(["demo", "--help"]) == 0
    out = capsys.readouterr().out
    for name in (*problems.names(), steps.NAME, *demo.ORDER, "--out", "--batch-size", "examples:"):
        assert name in out
