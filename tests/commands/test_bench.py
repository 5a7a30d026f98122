"""schuss bench: figures that add up, a check that fails when it should, the README's table."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import os
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cases import BACKENDS
from schuss_kernels.lang.traffic import traffic
from schuss_kernels.rules import RULES, adam

import schuss
from schuss.commands import (
    bandwidth_floor,
    bench,
    bench_checks,
    bench_latency,
    cli,
    console,
    machine,
    timing,
    workloads,
)
from schuss.optim import registry

ROOT = Path(__file__).parents[2]
TORCH = importlib.util.find_spec("torch") is not None


@pytest.fixture(scope="module")
def readme_table():
    path = ROOT / "bench" / "readme_table.py"
    spec = importlib.util.spec_from_file_location("readme_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    """The JSON file of a short run."""
    path = tmp_path_factory.mktemp("bench") / "bench.json"
    arguments = ["bench", "--optimizer", "adamw,rmsprop-centered-momentum,sgd", "--workload", "1x1000,500x1000"]
    assert cli.main([*arguments, "--rounds", "3", "--json", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def report(written) -> dict:
    return json.loads(written.read_text(encoding="utf-8"))


# -------------------------------------------------------------------------------------------------------- workloads


@pytest.mark.parametrize(("key", "tensors", "parameters"), [("resnet18", 62, 11_689_512), ("gpt2", 148, 124_439_808)])
def test_real_shapes(key, tensors, parameters):
    load = workloads.workload(key)
    assert (len(load.shapes), load.parameters) == (tensors, parameters)


def test_every_optimizer_has_a_row():
    named = {name for name in schuss.__all__ if isinstance(getattr(schuss, name), type)}
    named = {name for name in named if issubclass(getattr(schuss, name), schuss.Optimizer)} - {"Optimizer"}
    assert {variant.optimizer for variant in registry.VARIANTS.values() if not variant.of} == named


@pytest.mark.parametrize("key", registry.VARIANTS)
def test_variant_is_checked_on_small_tensors(key):
    bench_checks.check_small(registry.VARIANTS[key])


def test_random_arrays_are_never_zero():
    (array,) = workloads.random_arrays([(1000,)], 1)
    assert array.dtype == np.float32
    assert (array != 0).all()


# ------------------------------------------------------------------------------------------------------------ figures


def test_report(report):
    assert report["schuss_bench"] == bench.FORMAT
    assert report["machine"]["cores"] >= 1
    assert report["machine"]["processor"]
    assert report["machine"]["versions"]["schuss"] == schuss.__version__
    assert report["machine"]["versions"]["numpy"] == np.__version__
    assert report["latency"] is None
    found = [(result["workload"], result["optimizer"]) for result in report["results"]]
    assert sorted(found) == sorted(
        (load, name) for load in ("500x1000", "1x1000") for name in ("sgd", "adamw", "rmsprop-centered-momentum")
    )


def test_figures_add_up(report):
    states = {"sgd": 0, "adamw": 2, "rmsprop-centered-momentum": 3}
    for result in report["results"]:
        assert result["states"] == states[result["optimizer"]]
        assert result["bytes_per_parameter"] == 12 + 8 * result["states"]
        assert result["bytes"] == result["bytes_per_parameter"] * result["parameters"]
        ours, least = (result["contenders"][name]["median_s"] for name in ("schuss", "floor"))
        assert math.isclose(result["gb_per_s"], result["bytes"] / ours / 1e9)
        assert math.isclose(result["time_over_floor"], ours / least)
        assert math.isclose(result["share_of_floor"] * result["time_over_floor"], 1.0)
        for name, times in result["times_faster"].items():
            assert math.isclose(times, result["contenders"][name]["median_s"] / ours)


def test_contenders(report):
    for result in report["results"]:
        expected = {"schuss", "floor", "numpy"}
        if TORCH:
            expected |= {"torch"} | ({"torch_fused"} if registry.VARIANTS[result["optimizer"]].fused else set())
        assert set(result["contenders"]) == expected
        for summary in result["contenders"].values():
            assert 0 < summary["min_s"] <= summary["q1_s"] <= summary["median_s"] <= summary["q3_s"]
            assert summary["rounds"] == 3
            assert summary["calls"] >= 1


def test_output(capsys):
    arguments = ["bench", "--optimizer", "adamw", "--workload", "1x1000", "--rounds", "2"]
    assert cli.main([*arguments, "--no-torch", "--no-reference", "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    assert "\r" not in out
    assert max(map(len, out.splitlines())) <= 120
    assert "1 x 1000: 1 tensor, 1,000 parameters, float32" in out
    (line,) = [line for line in out.splitlines() if line.startswith("AdamW ")]
    name, per_parameter, ms, gb_per_s, share, ratio, *others = line.replace("  busy", "").split()
    assert (name, per_parameter, set(others)) == ("AdamW", "28", {"-"})
    assert 0 < float(ms) < 100
    assert float(gb_per_s) > 0
    assert share.endswith("%")
    assert float(ratio) > 0


def test_threads_are_put_back():
    import numba

    before = numba.get_num_threads()
    with bench_checks.same_threads(1, with_torch=False):
        assert numba.get_num_threads() == 1
    assert numba.get_num_threads() == before


def test_workload_that_does_not_fit(monkeypatch, capsys):
    monkeypatch.setattr(machine, "available_memory", lambda: 10_000)
    assert cli.main(["bench", "--optimizer", "sgd", "--workload", "1x1000", "--no-torch"]) == 0
    assert "SGD: skipped, it needs about" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------ the check before the time


def wrong_reference(p, g, s, step, **options):
    moved, state = adam.reference_adamw(p, g, s, step, **options)
    moved.flat[-1] = np.nextafter(moved.flat[-1], np.float32(np.inf))
    return moved, state


def test_one_wrong_bit_ends_the_bench(monkeypatch, capsys):
    def wrong(p, g, s, step, **options):
        return wrong_reference(p, g, s, step, **options) if p.size else (p, s)

    rule = dataclasses.replace(adam.ADAMW, reference=wrong)
    monkeypatch.setattr(adam, "rule_for_adamw", lambda **options: rule)
    assert cli.main(["bench", "--optimizer", "adamw", "--workload", "1x1000", "--no-torch", "--rounds", "1"]) == 1
    out, err = capsys.readouterr()
    assert err.startswith(
        "schuss: error: AdamW on small tensors: parameter of tensor 1 is not what the numpy reference"
    )
    assert err.count("\n") == 1
    assert not any(line.startswith("AdamW") for line in out.splitlines())


def test_real_shapes_are_checked_too(monkeypatch, capsys):
    def wrong(p, g, s, step, **options):
        make = wrong_reference if p.shape == (1000,) and step == 1 else adam.reference_adamw
        return make(p, g, s, step, **options)

    monkeypatch.setattr(bench, "check_small", lambda variant, backend: None)
    rule = dataclasses.replace(adam.ADAMW, reference=wrong)
    monkeypatch.setattr(adam, "rule_for_adamw", lambda **options: rule)
    assert cli.main(["bench", "--optimizer", "adamw", "--workload", "500x1000", "--no-torch", "--no-reference"]) == 1
    assert "AdamW on 500 x 1000: parameter of tensor 0 is not" in capsys.readouterr().err


def test_states_are_checked_too():
    variant = registry.VARIANTS["adamw"]
    one, other = (variant.build([np.ones(9, np.float32)], backend=backend) for backend in ("auto", "numpy"))
    for optimizer in (one, other):
        optimizer.step([np.ones(9, np.float32)])
    bench_checks.check_equal(one, other, "same")
    other._stepper.stored.states[0]["exp_avg_sq"].array[3] *= 2
    with pytest.raises(console.Mismatch, match=r"exp_avg_sq of tensor 0 .* 1 of 9 elements differ, .* element 3"):
        bench_checks.check_equal(one, other, "doubled")


@pytest.mark.skipif(not TORCH, reason="torch is not installed")
def test_torch_has_to_agree(monkeypatch):
    def different(variant, arrays, gradients, fused):
        arrays[0][0] += 1.0
        return lambda: None

    monkeypatch.setattr(bench, "_torch_step", different)
    source = bench.Source(workloads.workload("1x1000"))
    with pytest.raises(console.Mismatch, match="not what torch_fused makes of it"):
        bench.contenders(registry.VARIANTS["adamw"], source)


# ------------------------------------------------------------------------------------------------- floor, time, latency


SIZES = pytest.mark.parametrize("elements", [100, bandwidth_floor.SERIAL_BELOW + 1])


@SIZES
@pytest.mark.parametrize(("written", "read"), [(1, 0), (1, 1), (3, 1), (6, 1), (4, 2)])
def test_floor_reads_and_writes(written, read, elements):
    loop = bandwidth_floor._loop(bandwidth_floor._update, elements, written, read)
    arrays = np.arange(1, 1 + written + read, dtype=np.float32)[:, None].repeat(elements, 1)
    before = arrays.copy()
    loop(arrays)
    expected = before + (np.arange(written + read) < written)[:, None] * (1 + before[written:].sum(0))
    np.testing.assert_array_equal(arrays, expected)


@SIZES
@pytest.mark.parametrize("reads", [1, 2, 5])
def test_floor_of_a_first_pass_reads(reads, elements):
    arrays = np.random.default_rng(0).random((reads, elements), np.float32)
    loop = bandwidth_floor._loop(bandwidth_floor._measure, elements, reads)
    assert loop(arrays) == pytest.approx(float(arrays.sum(dtype=np.float64)), rel=1e-4)


@pytest.mark.parametrize(("make", "counts"), [("_update", (3, 1)), ("_update", (6, 2)), ("_measure", (4,))])
def test_floor_is_vectorised(make, counts):
    loop = bandwidth_floor._loop(getattr(bandwidth_floor, make), 100, *counts)
    loop(np.ones((sum(counts), 100), np.float32))
    (code,) = loop.inspect_llvm().values()
    assert re.search(r"fadd \w* ?<\d+ x float>", code)


@pytest.mark.parametrize(
    ("name", "loops"),
    [
        ("adamw", [("_update", 3, 1)]),
        ("lamb", [("_update", 3, 1), ("_measure", 4)]),
        ("novograd", [("_update", 2, 1), ("_measure", 1)]),
        ("dog", [("_update", 1, 1), ("_measure", 3)]),
        ("madgrad", [("_update", 3, 2)]),
    ],
)
def test_floor_is_the_traffic_of_the_rule(name, loops, monkeypatch):
    asked, ran = [], []

    def loop(make, elements, *counts):
        asked.append((make.__name__, *counts))
        return lambda arrays: ran.append((make.__name__, *arrays.shape))

    monkeypatch.setattr(bandwidth_floor, "_loop", loop)
    bandwidth_floor.step(9, traffic(RULES[name]))
    assert asked == loops
    arrays = [("_measure", loops[1][1], 9)] if len(loops) > 1 else []
    assert ran == [*arrays, ("_update", max(sum(counts) for _, *counts in loops), 9)]


def test_turns_are_taken():
    order: list[str] = []
    contenders = [timing.Contender(name, lambda name=name: order.append(name)) for name in "abc"]
    for contender in contenders:
        contender.calibrate = lambda: 0.0  # one call a batch
    timing.interleave(contenders, 4)
    assert "".join(order) == "abc" + "bca" + "cab" + "abc"
    assert [len(contender.samples) for contender in contenders] == [4, 4, 4]


def test_slow_ones_sit_out():
    contenders = [timing.Contender(name, lambda: None) for name in ("fast", "slow")]
    contenders[0].calibrate = lambda: 0.0
    contenders[1].calibrate = lambda: timing.LONG
    timing.interleave(contenders, 25)
    assert [len(contender.samples) for contender in contenders] == [25, 5]
    for contender in contenders:
        contender.samples.clear()
    timing.interleave(contenders, 2)
    assert [len(contender.samples) for contender in contenders] == [2, 2]


def test_batch_lasts():
    calls = Counter()
    contender = timing.Contender("fast", lambda: calls.update(n=1))
    assert contender.calibrate() >= timing.BATCH
    calls.clear()
    contender.batch()
    assert calls["n"] == contender.calls > 100


def test_quartiles():
    assert timing.quartiles([3.0]) == (3.0, 3.0, 3.0)
    assert timing.quartiles([4.0, 1.0, 2.0, 3.0, 5.0]) == (2.0, 3.0, 4.0)


def test_latency(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_latency, "ROUNDS", 2)
    monkeypatch.setattr(bench_latency, "STEPS", 10)
    path = tmp_path / "latency.json"
    arguments = ["bench", "--optimizer", "sgd", "--workload", "1x1000", "--rounds", "1", "--no-torch", "--latency"]
    assert cli.main([*arguments, "--json", str(path)]) == 0
    out = capsys.readouterr().out
    figures = json.loads(path.read_text(encoding="utf-8"))["latency"]
    assert figures["tensors"] == 62
    assert 0 < figures["step_1x1000_s"] < 0.01
    assert figures["numba_cached_first_step_s"] < figures["numba_cold_first_step_s"] < 60
    assert figures["backend"] == schuss.AdamW([np.ones(1, np.float32)]).backend
    assert 0 < figures["process_numpy_s"] < figures["process_first_step_s"] < 60
    assert figures["cold_start_s"] == figures["process_first_step_s"] - figures["process_numpy_s"]
    assert "numba: first step in a new process, kernels not cached" in out
    assert bench_latency.table({**figures, "fresh_gradients_add_s": -2e-6}).count("-2.00") == 1


def test_first_step_that_fails(monkeypatch, tmp_path):
    monkeypatch.setattr(bench_latency, "FIRST_STEP", "raise SystemExit('no cores left')")
    with pytest.raises(console.CommandError, match="no cores left"):
        bench_latency.first_step("numba", os.fspath(tmp_path))
    with pytest.raises(console.CommandError, match="no cores left"):
        bench_latency.cold_start()


def test_small_resnet18():
    shapes = bench_latency.small_resnet18()
    assert len(shapes) == 62
    assert max(shapes) == (100,)
    assert min(shapes) == (64,)


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_the_backend_that_is_measured(backend, capsys, tmp_path):
    path = tmp_path / "bench.json"
    arguments = ["bench", "--optimizer", "sgd", "--workload", "1x1000", "--rounds", "1", "--no-torch"]
    assert cli.main([*arguments, "--backend", backend, "--json", str(path)]) == 0
    assert [r["backend"] for r in json.loads(path.read_text(encoding="utf-8"))["results"]] == [backend]


def test_a_backend_that_is_missing(monkeypatch, capsys):
    monkeypatch.setattr(bench.library, "available", lambda: "it was not built")
    assert cli.main(["bench", "--backend", "native"]) == 2
    assert capsys.readouterr().err == "schuss: error: --backend: it was not built\n"


# ------------------------------------------------------------------------------------------------------- README's table


def test_readme_table(readme_table, report, written, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"# schuss\n{readme_table.BEGIN}\nold\n{readme_table.END}\nafter\n", encoding="utf-8")
    assert readme_table.main([str(written), str(readme)]) == 0
    once = readme.read_text(encoding="utf-8")
    assert "old" not in once
    assert once.startswith("# schuss\n")
    assert once.endswith("\nafter\n")
    rows = [line for line in once.splitlines() if line.startswith("|")]
    assert len(rows) == 2 * (2 + 3)
    assert {row.count("|") for row in rows} == {9}
    assert "**500 x 1000**: 500 tensors, 500,000 parameters, float32" in once
    assert readme_table.main([str(written), str(readme)]) == 0
    assert readme.read_text(encoding="utf-8") == once


def test_readme_table_of_one_workload(readme_table, written, capsys):
    assert readme_table.main([str(written), "--workload", "1x1000"]) == 0
    out = capsys.readouterr().out
    assert "1 x 1000" in out
    assert "500 x 1000" not in out


@pytest.mark.parametrize("text", ["no markers", "<!-- bench:end --> <!-- bench:begin -->"])
def test_readme_without_markers(readme_table, written, tmp_path, capsys, text):
    readme = tmp_path / "README.md"
    readme.write_text(text, encoding="utf-8")
    assert readme_table.main([str(written), str(readme)]) == 2
    assert capsys.readouterr().err.startswith("readme_table: error: expected <!-- bench:begin -->")
    assert readme.read_text(encoding="utf-8") == text


def test_readme_of_another_file(readme_table, tmp_path, capsys):
    other = tmp_path / "other.json"
    other.write_text("{}", encoding="utf-8")
    assert readme_table.main([str(other)]) == 2
    assert "'machine' is missing" in capsys.readouterr().err


def test_machine(monkeypatch):
    assert machine.cores() >= 1
    assert machine.processor()
    assert machine.version("no-such-distribution") is None
    if sys.platform == "linux":
        assert machine.available_memory() > 0
