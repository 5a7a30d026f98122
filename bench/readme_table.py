"""Write the README's tables from the JSON file of ``schuss bench --json FILE``.

    schuss bench --json bench.json
    python bench/readme_table.py bench.json README.md

replaces what stands between ``<!-- bench:begin -->`` and ``<!-- bench:end -->``. Without a README it prints the text.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"

HEADER = ("optimizer", "bytes/param", "ms/step", "GB/s", "of the floor", "numpy", "torch fused", "torch")
BASELINES = ("numpy", "torch_fused", "torch")


def figure(value: float) -> str:
    """A number with about three figures that count."""
    for least, digits in ((99.95, 0), (9.995, 1), (0.9995, 2), (0.0995, 3)):
        if value >= least:
            return f"{value:,.{digits}f}"
    return f"{value:.4f}"


def table(results: list[dict[str, Any]]) -> str:
    """The results of one workload as a markdown table."""
    lines = ["| " + " | ".join(HEADER) + " |", "|:---" + "|---:" * (len(HEADER) - 1) + "|"]
    for result in results:
        cells = [
            result["title"],
            f"{result['bytes_per_parameter']:g}",
            f"**{figure(result['contenders']['schuss']['median_s'] * 1e3)}**",
            f"{result['gb_per_s']:.1f}",
            f"{result['share_of_floor']:.0%}",
        ]
        for name in BASELINES:
            summary = result["contenders"].get(name)
            times = result["times_faster"].get(name)
            cells.append(f"{figure(summary['median_s'] * 1e3)} ({figure(times)}x)" if summary else "-")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def latency(figures: dict[str, Any]) -> str:
    """The latency figures as a markdown list."""
    return "\n".join(
        (
            f"- `opt.step(grads)` on one tensor of 1000: {figure(figures['step_1x1000_s'] * 1e6)} µs, the whole call;",
            f"- {figures['tensors']} tensors of up to 100 elements, new gradient arrays at every step: "
            f"{figure(figures['step_fresh_gradients_s'] * 1e6)} µs a step;",
            "- a new process that imports schuss, builds AdamW, makes one step and ends: "
            f"{figures['cold_start_s'] * 1e3:.0f} ms beyond `import numpy` "
            f"(which takes {figures['process_numpy_s'] * 1e3:.0f} ms);",
            f'- the same with `backend="numba"`, in the process: {figure(figures["numba_cold_first_step_s"])} s, '
            f"{figure(figures['numba_cached_first_step_s'])} s once the kernel is in numba's cache.",
        )
    )


def storage(figures: dict[str, Any]) -> str:
    """AdamW with values in fewer bytes on one workload, as a markdown table, and what a whole step takes."""
    rows, whole = figures["rows"], figures["whole_step"]
    lines = [f"| AdamW, {figures['workload_title']} | bytes/param | ms/step | time |", "|:---|---:|---:|---:|"]
    for row in rows:
        share = row["median_s"] / rows[0]["median_s"]
        cells = (f"{row['bytes_per_parameter']:.4g}", figure(row["median_s"] * 1e3), f"{share:.0%}")
        lines.append(f"| {row['title']} | {' | '.join(cells)} |")
    ours = whole["schuss"]["median_s"]
    said = f"Unscale, clip by norm, AdamW, moving average, zero-grad and bfloat16 copy: {figure(ours * 1e3)} ms"
    if "torch" in whole:
        theirs = whole["torch"]["median_s"]
        said += f"; torch's foreach functions around its fused AdamW: {figure(theirs * 1e3)} ms ({theirs / ours:.1f}x)"
    return "\n".join((*lines, "", f"{said}."))


def text(report: dict[str, Any], workloads: list[str] | None = None) -> str:
    """Everything between the markers: the machine, a table for each workload, the latency figures."""
    about = report["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items() if number)
    parts = [
        f"{about['processor']}, {report['threads']} threads; Python {about['python']}, {versions}. Medians in ms a "
        "step; in parentheses how many times faster schuss is. *Of the floor*: the time of a loop that only reads and "
        "writes the same memory, over ours."
    ]
    keys = list(dict.fromkeys(result["workload"] for result in report["results"]))
    for key in keys if workloads is None else [key for key in keys if key in workloads]:
        results = [result for result in report["results"] if result["workload"] == key]
        first = results[0]
        tensors = f"{first['tensors']} tensor{'s' * (first['tensors'] != 1)}"
        parts.append(f"**{first['workload_title']}**: {tensors}, {first['parameters']:,} parameters, {first['dtype']}")
        parts.append(table(results))
    parts += [
        storage(figures) for figures in report["storage"] if workloads is None or figures["workload"] in workloads
    ]
    if report["latency"] is not None:
        parts.append(latency(report["latency"]))
    return "\n\n".join(parts)


def replaced(readme: str, new: str) -> str:
    """``readme`` with ``new`` between the markers.

    Raises
    ------
    ValueError
        When the markers are not there, once each and in order.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise ValueError(f"expected {BEGIN} and, below it, {END}, once each")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{new}\n{END}{rest.split(END)[1]}"


def main(argv: list[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", type=Path, help="what schuss bench --json wrote")
    parser.add_argument("readme", type=Path, nargs="?", help="file with the markers (default: print)")
    parser.add_argument("--workload", help="names joined by commas (default: all that were measured)")
    args = parser.parse_args(argv)
    try:
        report = json.loads(args.json.read_text(encoding="utf-8"))
        new = text(report, args.workload.split(",") if args.workload else None)
        if args.readme is None:
            print(new)
        else:
            args.readme.write_text(replaced(args.readme.read_text(encoding="utf-8"), new), encoding="utf-8")
    except KeyError as error:
        return _failed(f"{args.json} is not what schuss bench writes: {error} is missing")
    except (OSError, ValueError) as error:
        return _failed(str(error))
    if any(result["busy"] for result in report["results"]):
        print("readme_table: some of it was measured on a busy machine; measure again", file=sys.stderr)
    return 0


def _failed(message: str) -> int:
    print(f"readme_table: error: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
