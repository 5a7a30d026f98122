"""The command line: ``schuss bench``, ``schuss demo``, ``schuss info``."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ..core.validate import did_you_mean
from ..optim import registry
from .console import CommandError

EXAMPLES = """\
examples:
  schuss info                                        what is installed and usable here
  schuss demo                                        a tour of gradient descent, with pictures
  schuss demo rosenbrock --optimizer adam,momentum   one problem
  schuss bench --quick                               measure for a minute
  schuss bench --optimizer adamw --workload resnet18 --json adamw.json
"""


DEMO = """\
problems:
  bids_roi, bids_roi_100                  a straight line through points: one parameter, two
  sine_parabola                           25 sin x - x^2, uphill to the nearest maximum
  sigmoid_neuron, sigmoid_neuron_b        y = sigmoid(w x + b) on two toy sets
  quadratic, ripples, rosenbrock          functions of two numbers
  linear_regression, logistic_regression  on data that scikit-learn ships, against the known solution
  blobs_network, digits_mlp               networks, written in NumPy
  resnet18                                steps of real size: the time of each beside the memory's floor

examples:
  schuss demo
  schuss demo rosenbrock --optimizer adam,momentum --epochs 500
  schuss demo digits_mlp --optimizer adam --strategy mini-batch --batch-size 32,64,128
  schuss demo bids_roi_100 --optimizer sgd --strategy batch,mini-batch,stochastic --batch-size 20
  schuss demo quadratic --lr 0.001,0.003,0.01,0.03,0.1 --out pictures

Several learning rates, batch sizes or strategies are compared. Pictures of the same name are replaced.
"""


class Parser(argparse.ArgumentParser):
    """Reports errors as one line."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        raise CommandError(message.removeprefix("argument "))

    def options(self) -> list[str]:
        """Return the long options there are."""
        return [text for action in self._actions for text in action.option_strings if text.startswith("--")]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code. 0: done, 1: a result was wrong, 2: it could not be run as asked."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except SystemExit as stop:  # argparse, after --help and --version
        return int(stop.code or 0)
    except CommandError as error:
        print(f"schuss: error: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader (a pager, head) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(arguments: list[str]) -> int:
    parser, commands = _parser()
    if not arguments:
        parser.print_help()
        return 0
    command = arguments[0]
    if not command.startswith("-") and command not in commands:
        there = ", ".join(commands)
        raise CommandError(f"unknown command {command!r}{did_you_mean(command, commands)} (commands: {there})")
    args, rest = parser.parse_known_args(arguments)
    if rest:
        known = commands[args.command].options() if args.command else parser.options()
        raise CommandError(f"unknown argument {rest[0]!r}{did_you_mean(rest[0], known)}")
    if args.command is None:
        parser.error("a command is missing; see schuss --help")
    run = {"bench": run_bench, "demo": run_demo, "info": run_info}[args.command]
    return run(args)


def run_bench(args: argparse.Namespace) -> int:
    """Run ``schuss bench``."""
    from . import bench, console, workloads

    every = args.optimizer is None and args.workload is None
    settings = bench.Settings(
        rounds=args.rounds or (5 if args.quick else None),
        threads=args.threads,
        backend=args.backend,
        torch=not args.no_torch,
        reference=not args.no_reference,
        latency=args.latency or (every and not args.quick),
        storage=args.storage,
        json=args.json,
    )
    if args.optimizer is not None:
        settings.variants = console.choose(args.optimizer, tuple(registry.VARIANTS), "--optimizer")
    if args.workload is not None:
        settings.workloads = console.choose(args.workload, workloads.WORKLOADS, "--workload")
    elif args.quick:
        settings.workloads = [key for key in workloads.WORKLOADS if key != "gpt2"]
    bench.run(settings)
    return 0


def run_demo(args: argparse.Namespace) -> int:
    """Run ``schuss demo``."""
    from . import demo

    settings = demo.Settings(
        problem=args.problem,
        optimizer=args.optimizer,
        strategy=args.strategy,
        batch_sizes=args.batch_size,
        lrs=args.lr,
        epochs=args.epochs,
        seed=args.seed,
        out=args.out,
    )
    demo.run(settings)
    return 0


def run_info(args: argparse.Namespace) -> int:
    """Run ``schuss info``."""
    from . import info

    print(info.optimizers() if args.optimizers else info.text())
    return 0


def _parser() -> tuple[Parser, dict[str, Parser]]:
    from .. import __version__

    about = "Fused optimizer kernels for NumPy and CUDA arrays: one pass over memory per step."
    parser = Parser(prog="schuss", description=about, epilog=EXAMPLES)
    parser.add_argument("--version", action="version", version=f"schuss {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands", parser_class=Parser)

    names = "names joined by commas, such as sgd,lion, or all (default: the classic ones, sgd to adamw)"
    bench = commands.add_parser(
        "bench",
        help="measure every optimizer beside the memory's limit, numpy and torch",
        description="Measure every optimizer on the tensors of ResNet18 and GPT-2 124M, on 500 tensors of 1000 and on\n"
        "one, beside a loop that only moves the same memory, the numpy reference and, where installed, torch.\n"
        "Every step is compared with the reference, bit for bit, before it is timed. Takes some minutes.",
    )
    bench.add_argument("--optimizer", metavar="NAMES", help=names)
    bench.add_argument("--workload", metavar="NAMES", help="some of resnet18,gpt2,500x1000,1x1000 (default: all)")
    bench.add_argument("--rounds", type=_count, metavar="N", help="samples of each (default: 25, for gpt2 9)")
    bench.add_argument("--threads", type=_count, metavar="N", help="threads of every contender (default: one a core)")
    bench.add_argument(
        "--backend",
        choices=("auto", "native", "numba"),
        default="auto",
        help="what runs schuss: kernels compiled ahead of time, or by numba (default: auto, native where it is there)",
    )
    bench.add_argument("--no-torch", action="store_true", help="leave torch out")
    bench.add_argument(
        "--no-reference", action="store_true", help="check against the numpy reference, but do not time it"
    )
    bench.add_argument("--quick", action="store_true", help="5 rounds, and no gpt2 unless asked for")
    bench.add_argument(
        "--latency",
        action="store_true",
        help="measure the cost of a call, of new gradients and of a cold start as well (a full run does)",
    )
    bench.add_argument(
        "--storage",
        action="store_true",
        help="measure values kept in 16 and 8 bits as well, and a step that does everything, on resnet18 and 500x1000",
    )
    bench.add_argument("--json", metavar="FILE", help="write machine, versions and all figures to FILE")

    demo = commands.add_parser(
        "demo",
        help="see gradient descent at work: problems, optimizers, data strategies, pictures",
        description="Run optimizers on problems from a straight line to a network, print what came of it, write\n"
        "pictures. Without a PROBLEM: a tour of them all, under a minute. Needs: pip install 'schuss[demo]'.",
        epilog=DEMO,
    )
    demo.add_argument("problem", nargs="?", metavar="PROBLEM", help="one of those below (default: the tour)")
    some = "names joined by commas, such as adam,momentum,sgd (default: one of each kind; digits_mlp, resnet18: all)"
    demo.add_argument("--optimizer", metavar="NAMES", help=some)
    demo.add_argument(
        "--strategy", metavar="NAMES", help="some of batch,mini-batch,stochastic (default: the problem's)"
    )
    demo.add_argument("--batch-size", type=_counts, metavar="N,...", help="rows a step, of mini-batch: 32,64,128")
    demo.add_argument("--lr", type=_rates, metavar="R,...", help="learning rates (default: good ones, by optimizer)")
    demo.add_argument("--epochs", type=_count, metavar="N", help="passes over the data, or steps where there is none")
    demo.add_argument("--seed", type=_natural, default=0, metavar="N", help="of the order of the data (default: 0)")
    demo.add_argument("--out", default="schuss-demo", metavar="DIR", help="where pictures go (default: ./schuss-demo)")

    info = commands.add_parser(
        "info",
        help="say what is installed, what runs a step here, and what is missing",
        description="Versions, processor, instruction-set levels, threads, CUDA, where compiled kernels are kept, and\n"
        "what is missing and how to get it.",
    )
    info.add_argument(
        "--optimizers",
        action="store_true",
        help="list every optimizer instead: its name, class, states, bytes a parameter, kind and source",
    )
    return parser, {"bench": bench, "demo": demo, "info": info}


def _count(text: str) -> int:
    return _whole(text, 1)


def _natural(text: str) -> int:
    return _whole(text, 0)


def _counts(text: str) -> list[int]:
    return list(dict.fromkeys(_count(part) for part in text.split(",")))


def _rates(text: str) -> list[float]:
    return list(dict.fromkeys(_rate(part) for part in text.split(",")))


def _rate(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a finite number above 0, got {text!r}")
    return number


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, got {text!r}")
    return number
