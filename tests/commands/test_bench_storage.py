"""schuss bench --storage, and that networks train as well with states in fewer bits."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from schuss import problems
from schuss.commands import bench_checks, bench_storage, cli, console, workloads
from schuss.optim import registry

pytest.importorskip("ml_dtypes")
ROOT = Path(__file__).parents[2]
TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "bench.json"
    arguments = ["bench", "--storage", "--optimizer", "sgd", "--workload", "500x1000", "--rounds", "2"]
    assert cli.main([*arguments, "--no-reference", "--json", str(path)]) == 0
    return json.loads(path.read_text(encoding="utf-8"))


def test_figures(report):
    (figures,) = report["storage"]
    bytes_ = {row["title"]: row["bytes_per_parameter"] for row in figures["rows"]}
    assert list(bytes_) == list(bench_storage.KEPT)
    assert bytes_["float32"] == 28
    assert bytes_["float32, bfloat16 states"] == 20
    assert bytes_["all bfloat16, stochastic"] == 14
    assert bytes_["float32, 8-bit states"] == 12 + 2 * 2 * (1 + 4 / 256)
    assert all(row["median_s"] > 0 for row in figures["rows"])
    assert set(figures["whole_step"]) == {"schuss", *(["torch"] if TORCH else [])}
    text = bench_storage.table(figures)
    assert "all bfloat16 " in text
    assert ("torch" in text) == TORCH


def test_readme_table(report, capsys, tmp_path):
    spec = importlib.util.spec_from_file_location("readme_table", ROOT / "bench" / "readme_table.py")
    if spec is None or not (ROOT / "bench").exists():
        pytest.skip("the tests run without the repository around them")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    assert module.main([str(path)]) == 0
    out = capsys.readouterr().out
    assert "| AdamW, 500 x 1000 | bytes/param | ms/step | time |" in out
    assert "| float32 | 28 |" in out


def test_a_wrong_step_is_found(monkeypatch):
    load = workloads.Workload("2x3000", "2 x 3000", ((3000,),) * 2, 2)
    made = bench_storage._kept(load, "float32, 8-bit states", console.Progress())
    other = bench_storage._kept(load, "float32, 8-bit states", console.Progress())
    bench_checks.check_equal(made.optimizer, other.optimizer, "same")
    made.optimizer._stepper.engine.tensors[1].states[0].scales.array[3] *= 2
    with pytest.raises(console.Mismatch, match=r"exp_avg scale of tensor 1 .* the first is element 3"):
        bench_checks.check_equal(made.optimizer, other.optimizer, "spoiled")


def test_without_ml_dtypes(monkeypatch, capsys):
    monkeypatch.setattr(bench_storage.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["bench", "--storage", "--workload", "1x1000"]) == 2
    assert capsys.readouterr().err == "schuss: error: --storage: it needs ml_dtypes: pip install 'schuss[bfloat16]'\n"


def trained(key, seed, **kept):
    """Test accuracy, in percent, of a network on handwritten digits."""
    problem, variant = problems.digits_mlp(seed=seed), registry.VARIANTS[key]

    def build(params):
        return variant.build(params, lr=problem.lrs[key], **kept)

    return 100 * problem.score(problems.train(problem, build, strategy="mini-batch", epochs=20, seed=seed).params)


@pytest.mark.parametrize("key", ["adamw", "sgd-momentum"])
def test_networks_train_as_well(key):
    """Over three seeds, within half a point of float32 states."""
    pytest.importorskip("sklearn")

    def mean(**options):
        return np.mean([trained(key, seed, **options) for seed in range(3)])

    exact = mean()
    assert exact > 96
    for kept in ({"state_dtype": "bfloat16"}, {"state_dtype": "8bit", "min_8bit_size": 0}):
        assert abs(mean(**kept) - exact) <= 0.5, kept
