"""The command line: exit codes, errors in one line, output that can be read and piped."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time

import numba
import numpy as np
import pytest
from cases import needs_native
from schuss_kernels.engine.thread_count import max_threads
from schuss_kernels.native import library

import schuss
from schuss.commands import cli, console


def python(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **options)


def error_of(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    """The message of a command line that is refused: exit code 2, one line, nothing on stdout."""
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("schuss: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("schuss: error: ").rstrip()


def test_module_prints_the_version():
    done = python("-m", "schuss", "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"schuss {schuss.__version__}\n", "")


@pytest.mark.parametrize("arguments", [["--help"], ["bench", "--help"], ["demo", "--help"], ["info", "--help"]])
def test_help(arguments, capsys):
    assert cli.main(arguments) == 0
    out, err = capsys.readouterr()
    assert "usage: schuss" in out
    assert err == ""
    assert max(map(len, out.splitlines())) <= 120


def test_help_names_the_commands(capsys):
    assert cli.main([]) == 0
    out = capsys.readouterr().out
    for word in ("bench", "demo", "info", "--version", "examples:"):
        assert word in out


def test_help_imports_nothing_heavy():
    heavy = ("numba", "sklearn", "torch", "matplotlib", "schuss.commands.bench", "schuss.commands.demo")
    code = (
        "import sys; from schuss.commands.cli import main; main(['bench', '--help']); "
        f"loaded = [name for name in {heavy!r} if name in sys.modules]; assert not loaded, loaded"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bnech"], "unknown command 'bnech', did you mean 'bench'?"),
        (["bench", "--quik"], "unknown argument '--quik', did you mean '--quick'?"),
        (["demo", "more"], "unknown problem 'more'"),
        (["info", "more"], "unknown argument 'more'"),
        (["--verbose"], "unknown argument '--verbose'"),
        (["bench", "--optimizer", "adam,adamv"], "--optimizer: unknown name 'adamv', did you mean 'adam'?"),
        (["bench", "--optimizer", ","], "--optimizer: expected at least one of"),
        (["bench", "--workload", "resnet19"], "--workload: unknown name 'resnet19', did you mean 'resnet18'?"),
        (["bench", "--rounds", "0"], "--rounds: expected a whole number of at least 1, got '0'"),
        (["bench", "--rounds", "many"], "--rounds: expected a whole number of at least 1, got 'many'"),
        (["bench", "--json", "/no/such/folder/b.json"], "--json: there is no folder /no/such/folder"),
        (["bench", "--json", "/"], "--json: / cannot be written"),
        (["bench", "--threads", "4096", "--no-torch"], "--threads: expected at most"),
        (["bench", "--json"], "--json: expected one argument"),
        (["demo", "--epochs", "1.5"], "--epochs: expected a whole number of at least 1, got '1.5'"),
        (["demo", "--seed", "-1"], "--seed: expected a whole number of at least 0, got '-1'"),
        (["demo", "--optimizer", "sdg"], "--optimizer: unknown name 'sdg', did you mean 'sgd'?"),
    ],
)
def test_error_is_one_line(arguments, said, capsys):
    assert said in error_of(capsys, *arguments)


def test_bench_without_compiler(monkeypatch, capsys):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert "NUMBA_DISABLE_JIT" in error_of(capsys, "bench")


def test_names_may_be_written_as_in_the_table():
    assert console.choose("SGD Nesterov, adamw_amsgrad", ("sgd-nesterov", "adamw-amsgrad"), "--optimizer") == [
        "sgd-nesterov",
        "adamw-amsgrad",
    ]


def test_info(capsys):
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    said = dict(line.split(maxsplit=1) for line in out.splitlines() if line[0] != " ")
    assert said["schuss"] == schuss.__version__
    assert said["numpy"] == np.__version__
    assert said["numba"].startswith(numba.__version__)
    assert f"up to {max_threads()} " in said["threads"]
    labels = "schuss python numpy processor threads native numba cache cuda missing"
    assert set(said) == set(labels.split())
    if library.available() is None:
        assert f"{library.library().level} in use" in said["native"]


def test_info_without_the_native_extension(monkeypatch, capsys):
    reason = "the native extension is missing: no C compiler was found when schuss was installed"
    monkeypatch.setattr(library, "available", lambda: reason)
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert "not usable: numba compiles the kernels when they are first used" in out
    assert reason in out


@needs_native
def test_info_on_kernels_of_other_sources(monkeypatch, capsys):
    monkeypatch.setattr(library, "outdated", lambda: ["adamw", "sgd"])
    assert cli.main(["info"]) == 0
    assert "native kernels of adamw, sgd: they were compiled from other source files" in capsys.readouterr().out


def test_info_says_how_to_get_what_is_missing(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sklearn" else find(name))
    assert cli.main(["info"]) == 0
    assert "pip install 'schuss[demo]'" in capsys.readouterr().out


def test_info_without_compiler():
    done = python("-m", "schuss", "info", env={**os.environ, "NUMBA_DISABLE_JIT": "1"})
    assert done.returncode == 0, done.stderr
    assert "switched off by NUMBA_DISABLE_JIT" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="signals are different there")
def test_interrupt_is_quiet_and_leaves_what_was_measured(tmp_path):
    path = tmp_path / "bench.json"
    command = [sys.executable, "-m", "schuss", "bench", "--no-torch", "--optimizer", "sgd,adam", "--workload", "1x1000"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs in the background may ignore it
    try:
        running = subprocess.Popen(
            [*command, "--rounds", "300", "--json", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith("SGD"):
                break
        time.sleep(1.5)  # into the rounds of the second, past what is compiled for it
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=300)
    assert (running.returncode, err) == (130, "")
    assert [result["optimizer"] for result in json.loads(path.read_text())["results"]] == ["sgd"]


@pytest.mark.skipif(os.name == "nt", reason="pipes are different there")
def test_reader_that_leaves(tmp_path):
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m schuss demo bids_roi --out {tmp_path} | head -n 1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


def test_progress_is_quiet_when_piped_and_clears_up_on_a_terminal():
    class Stream:
        def __init__(self, terminal):
            self.text, self.terminal = "", terminal

        def isatty(self):
            return self.terminal

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    piped, terminal = Stream(False), Stream(True)
    for stream in (piped, terminal):
        with console.Progress(stream) as progress:
            progress.show("a long line")
            progress.show("short")
    assert piped.text == ""
    assert terminal.text == "\ra long line" + "\rshort      " + "\r" + " " * 5 + "\r"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (1234.5, "1,234"),
        (99.96, "100"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.1234, "0.123"),
        (0.00341, "0.0034"),
    ],
)
def test_figure(value, text):
    assert console.figure(value) == text


def test_table_lines_up():
    columns = (console.Column("\nname", 6, left=True), console.Column("two\nlines", 7))
    head = console.heading(columns).split("\n")
    assert head == ["           two", "name     lines", "-" * 14]
    assert console.row(columns, ("a", "1")) == "a            1"
    assert not re.search(r"\s$", console.row(columns, ("a", "")))
