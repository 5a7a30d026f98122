"""A description of what a step moves and what runs it, for people."""

from __future__ import annotations

from collections import defaultdict

from schuss_kernels.engine.base import Engine
from schuss_kernels.engine.matrix import MixedEngine
from schuss_kernels.engine.plan_engine import PlanEngine
from schuss_kernels.lang.rule import Rule
from schuss_kernels.plan.spec import Spec
from schuss_kernels.plan.tensor import Tensor

_BACKENDS = {
    "native": "compiled ahead of time",
    "numba": "compiled for the CPU by numba",
    "numpy": "whole-array numpy, no kernel",
    "cuda": "compiled for CUDA",
}


def explain(engine: Engine, optimizer: str, groups: int, steps: int, k: int | None) -> str:
    """Make the text of :meth:`schuss.Optimizer.explain`.

    ``optimizer``: the name of its class. ``groups``: number of its parameter groups. ``steps``: steps made. ``k``: of
    Lookahead, None without it.
    """
    kernels: dict[Spec, list[Tensor]] = defaultdict(list)
    matrices: dict[Rule, list[Tensor]] = defaultdict(list)
    for tensor in engine.tensors:
        if tensor.rule.matrix:
            matrices[tensor.rule].append(tensor)
        else:
            kernels[tensor.spec(tensor.strided_layout() is not None)].append(tensor)
    elements = sum(t.parameter.size for t in engine.tensors)
    moved = sum(tensor.bytes_moved() for tensor in engine.tensors)
    lines = [
        f"{optimizer}: {len(engine.tensors)} tensors, {elements:,} parameters, {groups} group(s), {steps} step(s) made",
        f"backend {engine.name}: {_BACKENDS[engine.name]}; {_launches(engine)}",
        f"a step moves {round(moved):,} bytes" + (f", {moved / elements:.3g} per parameter" if elements else ""),
    ]
    if k is not None:
        more = 2 * sum(tensor.others["slow"].nbytes for tensor in engine.tensors)
        lines.append(f"every {k} steps the slow weights too, in the same pass: {more:,} bytes more")
    for spec, tensors in kernels.items():
        rule = tensors[0].rule
        states = ", ".join(
            f"{field} {storage.dtype.name}" for field, storage in zip(rule.State._fields, spec.states, strict=True)
        )
        form = "strided" if spec.strided else "dense"
        size = sum(t.parameter.size for t in tensors)
        p, g = spec.parameter.dtype.name, spec.gradient.dtype.name
        lines += [
            f"kernel {rule.name} ({form}): {len(tensors)} tensors, {size:,} parameters",
            f"    parameter {p}, gradient {g}, states: {states or 'none'}",
        ]
        if rule.measure is not None:
            measuring = spec.measure_spec()
            over = "every tensor" if rule.over == "tensor" else "all tensors"
            lines.append(
                f"    {measuring.bytes_per_element:.4g} bytes per parameter in a first pass, for sums over {over} of "
                f"{', '.join(rule.Sums._fields)}: {_named(measuring, 'reads')} read"
            )
        second = " in the second" if rule.measure is not None else ""
        read, written = _named(spec, "reads"), _named(spec, "writes")
        lines.append(
            f"    {spec.bytes_per_element:.4g} bytes per parameter{second}: {read} read, {written} written, each once"
        )
        others = [f"{s.name} {s.storage.name}" for s in spec.streams[2 + len(spec.states) :]]
        if others:
            lines.append(f"    in the same pass: {', '.join(others)}")
        if spec.stochastic:
            lines.append("    rounded at random: " + ", ".join(spec.streams[n].name for n in spec.stochastic_streams))
        if spec.strided:
            names = ", ".join(repr(t.name) for t in tensors[:5]) + (", ..." if len(tensors) > 5 else "")
            lines.append(f"    slower: parameter and gradient are not dense in the same order ({names})")
        if rule.paper:
            lines.append(f"    {rule.paper}")
    for rule, tensors in matrices.items():
        size, bytes_ = sum(t.parameter.size for t in tensors), sum(t.bytes_moved() for t in tensors)
        pairs = [pair for t in tensors for pair in zip(rule.State._fields, t.states, strict=True)]
        kept = dict.fromkeys(f"{field} {memory.dtype.name}" for field, memory in pairs)
        lines += [
            f"rule {rule.name} (numpy, whole arrays: not one element-wise launch): {len(tensors)} tensors, "
            f"{size:,} parameters",
            f"    states: {', '.join(kept) or 'none'}",
        ]
        if size:
            lines.append(f"    {bytes_ / size:.4g} bytes per parameter, and the passes of numpy over its own arrays")
        if rule.paper:
            lines.append(f"    {rule.paper}")
    return "\n".join(lines)


def _named(spec: Spec, moves: str) -> str:
    """The streams that a pass ``reads`` or ``writes``."""
    return ", ".join(stream.name for stream in spec.moved_streams() if getattr(stream, moves)) or "nothing"


def _launches(engine: Engine) -> str:
    if isinstance(engine, MixedEngine):
        return f"{_launches(engine.others)}, and numpy for {sum(engine.whole)} tensor(s)"
    if not isinstance(engine, PlanEngine):
        return "one call per tensor"
    rows = len(engine.plan.rows)
    workers = getattr(engine, "workers", None)
    by = f" by {workers} thread(s)" if workers is not None else ""
    if engine.two_pass_table is not None:
        portions = len(engine.portion_starts) - 1
        return f"two passes over {rows} chunk(s){by}, in {portions} portion(s) that are measured and then moved"
    launches = "two launches" if any(tensor.rule.measure is not None for tensor in engine.tensors) else "one launch"
    return f"{launches} over {rows} chunk(s){by}"
