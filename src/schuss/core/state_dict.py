"""An optimizer's state as plain dicts, and back."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from schuss_kernels.lang.rule import Rule
from schuss_kernels.storage.memory import Memory

from . import arrays
from . import states as states_
from .step_counts import History

if TYPE_CHECKING:
    from ..optimizer import Optimizer

FORMAT = 1
"""Version of the format; a higher one comes from a later schuss."""


def save(optimizer: Optimizer) -> dict[str, Any]:
    """The content of :meth:`Optimizer.state_dict`."""
    optimizer._swap.refuse("state_dict()")
    if optimizer._sums is not None and optimizer._sums.added:
        raise RuntimeError("state_dict(): there are accumulated gradients that no step has taken yet")
    histories = optimizer._counts.histories()
    groups = []
    for number, group in enumerate(optimizer.param_groups):
        options = {name: repr(value) if callable(value) else value for name, value in group.options.items()}
        groups.append({**options, "rule": group.rule.name, "params": _names(optimizer, number)})
    random = {"random": {"seed": optimizer._storage.seed}} if optimizer._storage.stochastic else {}
    slow = {} if optimizer._slow is None else {"lookahead": {"phase": optimizer._slow.phase(optimizer.steps)}}
    return {
        "schuss": FORMAT,
        **random,
        **slow,
        "optimizer": type(optimizer).__name__,
        "steps": optimizer.steps,
        "param_groups": groups,
        "state": {
            name: {
                "step": step,
                **({} if rule.running is None else {"running": _running(rule, running)._asdict()}),
                **{field: arrays.read(memory) for field, memory in states.items()},
            }
            for name, (step, running), rule, states in zip(
                optimizer._names, histories, _rules(optimizer), _in_use(optimizer), strict=True
            )
        },
    }


def load(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """The work of :meth:`Optimizer.load_state_dict`: all checks first, then all writing."""
    version = _count(_get(saved, "schuss", "state_dict"), "state_dict['schuss']")
    if version > FORMAT:
        raise ValueError(
            f"state_dict: format {version} is newer than this schuss reads (up to {FORMAT}); upgrade schuss"
        )
    kind = _get(saved, "optimizer", "state_dict")
    if kind != type(optimizer).__name__:
        raise ValueError(f"state_dict: it belongs to {kind}, this optimizer is {type(optimizer).__name__}")
    steps = _count(_get(saved, "steps", "state_dict"), "state_dict['steps']")
    seed = _seed(optimizer, saved)
    phase = _phase(optimizer, saved)
    groups = _get(saved, "param_groups", "state_dict")
    if not isinstance(groups, Sequence) or len(groups) != len(optimizer.param_groups):
        raise ValueError(
            f"state_dict: expected {len(optimizer.param_groups)} parameter group(s), got {_count_of(groups)}"
        )
    options = [_options(optimizer, number, group) for number, group in enumerate(groups)]

    states = _get(saved, "state", "state_dict")
    missing = [name for name in optimizer._names if name not in states]
    extra = [name for name in states if name not in optimizer._names]
    if missing or extra:
        said = [
            f"{word} {', '.join(map(repr, names))}"
            for word, names in (("no", missing), ("not expected:", extra))
            if names
        ]
        raise ValueError(f"state_dict: the states are not those of the parameters: {'; '.join(said)}")

    before = [group.options for group in optimizer.param_groups]
    try:
        for group, new in zip(optimizer.param_groups, options, strict=True):
            group.update(new)
        writes: list[tuple[Memory, np.ndarray]] = []
        histories: list[History] = []
        for number, (group, kept) in enumerate(zip(optimizer.param_groups, groups, strict=True)):
            if group.rule.name != _get(kept, "rule", f"state_dict['param_groups'][{number}]"):
                raise ValueError(
                    f"state_dict: it belongs to the rule {kept['rule']!r}, this optimizer runs {group.rule.name!r}"
                )
        optimizer._rebuild_engine()
        in_use = _in_use(optimizer)
        for name, rule, held in zip(optimizer._names, _rules(optimizer), in_use, strict=True):
            entry, where = states[name], f"state_dict['state'][{name!r}]"
            step = _count(_get(entry, "step", where), f"{where}['step']")
            histories.append((step, None if rule.running is None else _loaded(rule, entry, where)))
            known = {"step", *held, *(() if rule.running is None else ("running",))}
            unknown = [field for field in entry if field not in known]
            if unknown:
                raise ValueError(
                    f"{where}: {unknown[0]!r} is no state of this optimizer (it has {', '.join(held) or 'none'})"
                )
            writes += [
                (memory, _checked(_get(entry, field, where), memory, f"{where}[{field!r}]"))
                for field, memory in held.items()
            ]
    except BaseException:
        for group, old in zip(optimizer.param_groups, before, strict=True):
            group.update(old)
        optimizer._rebuild_engine()
        raise
    for memory, value in writes:
        arrays.write(memory, value)
    optimizer._states = [
        {field: held[field] for field in rule.State._fields}
        for rule, held in zip(_rules(optimizer), in_use, strict=True)
    ]
    optimizer._storage = dataclasses.replace(optimizer._storage, seed=seed)
    if optimizer._slow is not None:
        optimizer._slow = dataclasses.replace(optimizer._slow, since=steps - phase)
    optimizer._restart(steps, histories)


def _running(rule: Rule, running: Any) -> Any:
    """The running numbers of a rule, from the start where there are none of its own yet."""
    assert rule.running is not None
    return running if type(running) is rule.running else rule.running()


def _loaded(rule: Rule, entry: Any, where: str) -> Any:
    assert rule.running is not None
    numbers = _get(entry, "running", where)
    values = [_get(numbers, field, f"{where}['running']") for field in rule.running._fields]
    for field, value in zip(rule.running._fields, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{where}['running'][{field!r}]: expected a number, got {value!r}")
    return rule.running(*values)


def _seed(optimizer: Optimizer, saved: Mapping[str, Any]) -> int:
    """What random bits go on from: the saved seed where both round at random."""
    random = "random" in saved
    if random != optimizer._storage.stochastic:
        kept, own = ("stochastic", "nearest") if random else ("nearest", "stochastic")
        raise ValueError(f"state_dict: it was rounded to {kept!r}, this optimizer rounds to {own!r}")
    return _count(_get(saved["random"], "seed", "state_dict['random']"), "the seed") if random else 0


def _phase(optimizer: Optimizer, saved: Mapping[str, Any]) -> int:
    """Steps since the parameters last met their slow weights."""
    there = "lookahead" in saved
    if there != (optimizer._slow is not None):
        raise ValueError(
            f"state_dict: it was saved {'with' if there else 'without'} Lookahead, this optimizer is "
            f"{'without' if there else 'with'}"
        )
    where = "state_dict['lookahead']"
    return _count(_get(saved["lookahead"], "phase", where), f"{where}['phase']") if there else 0


def _in_use(optimizer: Optimizer) -> list[dict[str, Memory]]:
    """Every tensor's states that its rule has now (options that were changed may have left others behind), its master
    weight and its moving average."""
    return [
        {
            **states_.shown({field: states[field] for field in rule.State._fields}),
            **{n: m for n, m in others.items() if n != "copy"},
        }
        for rule, states, others in zip(_rules(optimizer), optimizer._states, optimizer._others, strict=True)
    ]


def _rules(optimizer: Optimizer) -> list[Rule]:
    return [optimizer._rule_for(number) for number in range(len(optimizer._names))]


def _options(optimizer: Optimizer, number: int, saved: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a saved group as they are to be set; a function stays the optimizer's own."""
    where, group = f"state_dict['param_groups'][{number}]", optimizer.param_groups[number]
    names = _get(saved, "params", where)
    if list(names) != _names(optimizer, number):
        raise ValueError(
            f"{where}: it holds the parameters {list(names)}, this optimizer's are {_names(optimizer, number)}"
        )
    options = {name: _get(saved, name, where) for name in group.options}
    if isinstance(options.get("lr"), str) != callable(group.get("lr")):
        kept, own = ("a function", "a number") if isinstance(options["lr"], str) else ("a number", "a function")
        raise ValueError(f"{where}: lr was {kept} ({options['lr']}), this optimizer's is {own}; build it with the same")
    if isinstance(options.get("lr"), str):
        del options["lr"]
    return options


def _checked(value: Any, memory: Memory, where: str) -> np.ndarray:
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{where}: expected an array, got {type(value).__name__}")
    if value.shape != memory.shape:
        raise ValueError(f"{where}: expected shape {memory.shape}, got {value.shape}")
    if value.dtype.kind == "V" and value.dtype.itemsize == 2 and memory.dtype.name == "bfloat16":
        value = value.view(memory.dtype)  # what numpy's files make of it
    if value.dtype != memory.dtype:
        raise TypeError(f"{where}: expected dtype {memory.dtype}, got {value.dtype}")
    return value


def _get(mapping: Any, key: str, where: str) -> Any:
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{where}: expected a dict, got {type(mapping).__name__}")
    if key not in mapping:
        raise ValueError(f"{where}: the key {key!r} is missing")
    return mapping[key]


def _count(value: Any, where: str) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{where}: expected a whole number, got {value!r}") from None
    if number < 0:
        raise ValueError(f"{where}: expected a number of steps, got {number}")
    return number


def _count_of(groups: Any) -> str:
    return str(len(groups)) if isinstance(groups, Sequence) else type(groups).__name__


def _names(optimizer: Optimizer, group: int) -> list[str]:
    return [name for name, owner in zip(optimizer._names, optimizer._group_of, strict=True) if owner == group]
