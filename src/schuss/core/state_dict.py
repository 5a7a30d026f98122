"""State dicts: an optimizer's state as plain dicts, and the check of one against the optimizer that is to take it over.

Nothing here knows or changes an optimizer: functions take what is to be saved, or checked against, and return the
result.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from schuss_kernels.lang.rule import Rule
from schuss_kernels.storage.memory import Memory

from . import arrays
from .param_groups import ParamGroup
from .states import by_saved_name
from .step_counts import History

FORMAT = 1
"""Version of the format; a higher one comes from a later schuss."""


class Progress(NamedTuple):
    """How far training has come.

    ``steps``: steps made. ``seed``: of the random bits, None where values are rounded to nearest. ``phase``: steps
    since the last sync with the slow weights, None without Lookahead.
    """

    steps: int
    seed: int | None
    phase: int | None


class TensorState(NamedTuple):
    """What is saved of a tensor: the rule that moves it, its history, and arrays by the names they are saved under.

    ``states``: None where it has had no gradient yet, and so has none. ``described``: the states that it has or would
    have, perhaps without memory. ``others``: what there is beside the states.
    """

    name: str
    rule: Rule
    history: History
    states: Mapping[str, Memory] | None
    described: tuple[Memory, ...]
    others: Mapping[str, Memory]


class Checkpoint(NamedTuple):
    """Checked states: every tensor's history, and the values of its states and what there is beside them, by name.

    The states are None where the tensor had no gradient yet.
    """

    histories: list[History]
    states: list[dict[str, np.ndarray] | None]
    others: list[dict[str, np.ndarray]]


def save(
    optimizer: str,
    progress: Progress,
    groups: Sequence[ParamGroup],
    names: Sequence[list[str]],
    tensors: Sequence[TensorState],
) -> dict[str, Any]:
    """Make the dict that :meth:`schuss.Optimizer.state_dict` returns.

    ``optimizer``: the name of its class. ``names``: of the tensors in every group.
    """
    saved_groups = []
    for group, members in zip(groups, names, strict=True):
        options = {name: repr(value) if callable(value) else value for name, value in group.options.items()}
        saved_groups.append({**options, "rule": group.rule.name, "params": members})
    return {
        "schuss": FORMAT,
        **({} if progress.seed is None else {"random": {"seed": progress.seed}}),
        **({} if progress.phase is None else {"lookahead": {"phase": progress.phase}}),
        "optimizer": optimizer,
        "steps": progress.steps,
        "param_groups": saved_groups,
        "state": {
            name: {
                "step": step,
                **({} if rule.running is None else {"running": _running(rule, running)._asdict()}),
                **{field: arrays.read(memory) for field, memory in {**(held or {}), **others}.items()},
            }
            for name, rule, (step, running), held, _, others in tensors
        },
    }


def check_progress(saved: Mapping[str, Any], optimizer: str, own: Progress) -> Progress:
    """Check a state dict's format, class name and progress. ``own``: the progress of the optimizer.

    Raises
    ------
    TypeError, ValueError
        When it belongs to another optimizer or a newer format, or was saved with other rounding or (no) Lookahead.
    """
    version = _count(_get(saved, "schuss", "state_dict"), "state_dict['schuss']")
    if version > FORMAT:
        raise ValueError(
            f"state_dict: format {version} is newer than this schuss reads (up to {FORMAT}); upgrade schuss"
        )
    name = _get(saved, "optimizer", "state_dict")
    if name != optimizer:
        raise ValueError(f"state_dict: it belongs to {name}, this optimizer is {optimizer}")
    steps = _count(_get(saved, "steps", "state_dict"), "state_dict['steps']")
    return Progress(steps, _seed(saved, own.seed is not None), _phase(saved, own.phase is not None))


def check_options(
    saved: Mapping[str, Any], groups: Sequence[ParamGroup], names: Sequence[list[str]]
) -> list[dict[str, Any]]:
    """Check a state dict's groups and names of tensors; return every group's options as they are to be set.

    ``names``: of the tensors in every group. A learning rate that is a function is left out: it stays the optimizer's.

    Raises
    ------
    TypeError, ValueError
        When the groups or the names are others.
    """
    saved_groups = _get(saved, "param_groups", "state_dict")
    if not isinstance(saved_groups, Sequence) or len(saved_groups) != len(groups):
        got = str(len(saved_groups)) if isinstance(saved_groups, Sequence) else type(saved_groups).__name__
        raise ValueError(f"state_dict: expected {len(groups)} parameter group(s), got {got}")
    options = [
        _options(group, members, given, f"state_dict['param_groups'][{number}]")
        for number, (group, members, given) in enumerate(zip(groups, names, saved_groups, strict=True))
    ]
    states, known = _get(saved, "state", "state_dict"), dict.fromkeys(name for members in names for name in members)
    missing = [name for name in known if name not in states]
    extra = [name for name in states if name not in known]
    if missing or extra:
        said = [
            f"{word} {', '.join(map(repr, names))}"
            for word, names in (("no", missing), ("not expected:", extra))
            if names
        ]
        raise ValueError(f"state_dict: the states are not those of the parameters: {'; '.join(said)}")
    return options


def check_rules(saved: Mapping[str, Any], groups: Sequence[ParamGroup]) -> None:
    """Raise a ValueError where a group was saved with another rule than its options choose."""
    for number, (group, given) in enumerate(zip(groups, saved["param_groups"], strict=True)):
        if group.rule.name != _get(given, "rule", f"state_dict['param_groups'][{number}]"):
            raise ValueError(
                f"state_dict: it belongs to the rule {given['rule']!r}, this optimizer runs {group.rule.name!r}"
            )


def check_tensors(saved: Mapping[str, Any], tensors: Sequence[TensorState]) -> Checkpoint:
    """Check a state dict's states against those of the optimizer, which has the options of the state dict by now.

    Raises
    ------
    TypeError, ValueError
        When a state is missing, unknown, or has another shape or dtype.
    """
    found = Checkpoint([], [], [])
    for name, rule, _, _, kept, others in tensors:
        described = by_saved_name(dict(zip(rule.State._fields, kept, strict=True)))
        entry, where = saved["state"][name], f"state_dict['state'][{name!r}]"
        step = _count(_get(entry, "step", where), f"{where}['step']")
        found.histories.append((step, None if rule.running is None else _loaded_running(rule, entry, where)))
        known = {"step", *described, *others, *(() if rule.running is None else ("running",))}
        unknown = [field for field in entry if field not in known]
        if unknown:
            has = ", ".join([*described, *others]) or "none"
            raise ValueError(f"{where}: {unknown[0]!r} is no state of this optimizer (it has {has})")
        # What has had no gradient yet has no states; its steps are counted where they are those of its group.
        counts_alone = rule.measure is None or rule.over == "tensor"
        fresh = not any(field in entry for field in described) and not (step and counts_alone)
        found.states.append(None if fresh else _values(entry, described, where))
        found.others.append(_values(entry, others, where))
    return found


def _values(entry: Any, expected: Mapping[str, Memory], where: str) -> dict[str, np.ndarray]:
    return {
        field: _checked(_get(entry, field, where), memory, f"{where}[{field!r}]") for field, memory in expected.items()
    }


def _running(rule: Rule, running: Any) -> Any:
    """The running numbers of a rule: its first ones where the tensor has none of this rule yet."""
    assert rule.running is not None
    return running if type(running) is rule.running else rule.running()


def _loaded_running(rule: Rule, entry: Any, where: str) -> Any:
    assert rule.running is not None
    numbers = _get(entry, "running", where)
    values = [_get(numbers, field, f"{where}['running']") for field in rule.running._fields]
    for field, value in zip(rule.running._fields, values, strict=True):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{where}['running'][{field!r}]: expected a number, got {value!r}")
    return rule.running(*values)


def _seed(saved: Mapping[str, Any], stochastic: bool) -> int | None:
    """The saved seed. ``stochastic``: whether the optimizer rounds at random."""
    random = "random" in saved
    if random != stochastic:
        kept, own = ("stochastic", "nearest") if random else ("nearest", "stochastic")
        raise ValueError(f"state_dict: it was rounded to {kept!r}, this optimizer rounds to {own!r}")
    return _count(_get(saved["random"], "seed", "state_dict['random']"), "the seed") if random else None


def _phase(saved: Mapping[str, Any], lookahead: bool) -> int | None:
    """The saved phase of Lookahead. ``lookahead``: whether the optimizer has slow weights."""
    there = "lookahead" in saved
    if there != lookahead:
        raise ValueError(
            f"state_dict: it was saved {'with' if there else 'without'} Lookahead, this optimizer is "
            f"{'without' if there else 'with'}"
        )
    where = "state_dict['lookahead']"
    return _count(_get(saved["lookahead"], "phase", where), f"{where}['phase']") if there else None


def _options(group: ParamGroup, members: list[str], given: Any, where: str) -> dict[str, Any]:
    """The options of a saved group as they are to be set."""
    names = _get(given, "params", where)
    if list(names) != members:
        raise ValueError(f"{where}: it holds the parameters {list(names)}, this optimizer's are {members}")
    options = {name: _get(given, name, where) for name in group.options}
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
