"""State dicts: an optimizer's state as plain dicts, and the check of one against the optimizer that is to take it over.

Nothing here knows or changes an optimizer: functions take what is to be saved, or checked against, and return the
result. Numbers, texts and lists that NumPy's files have made arrays of are read as what they were.
"""

from __future__ import annotations

import operator
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from schuss_kernels.lang.rule import Rule
from schuss_kernels.storage.memory import Memory

from . import arrays
from .lookahead import SlowWeights
from .param_groups import ParamGroup
from .states import by_saved_name, compute_dtype
from .step_counts import History

FORMAT = 1
"""Version of the format; a higher one comes from a later schuss."""


class Progress(NamedTuple):
    """How far training has come.

    ``steps``: steps made. ``seed``: of the random bits, None where values are rounded to nearest. ``slow``: when
    parameters and slow weights sync, None without Lookahead. ``ema``: decay of the moving average, None without one.
    """

    steps: int
    seed: int | None
    slow: SlowWeights | None
    ema: float | None


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
    steps, seed, slow, ema = progress
    saved_groups = []
    for group, members in zip(groups, names, strict=True):
        options = {name: repr(value) if callable(value) else value for name, value in group.options.items()}
        saved_groups.append({**options, "rule": group.rule.name, "params": members})
    return {
        "schuss": FORMAT,
        **({} if seed is None else {"random": {"seed": seed}}),
        **({} if slow is None else {"lookahead": {"phase": slow.phase(steps), "k": slow.k, "alpha": slow.alpha}}),
        **({} if ema is None else {"ema": {"decay": ema}}),
        "optimizer": optimizer,
        "steps": steps,
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

    Other numbers of Lookahead or of the moving average than the optimizer's are told in a warning: those stay.

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
    checked = Progress(steps, _seed(saved, own.seed is not None), _slow(saved, own.slow, steps), own.ema)
    if own.slow is not None:
        _tell_changes(saved, "lookahead", {"k": own.slow.k, "alpha": own.slow.alpha})
    if own.ema is not None:
        _tell_changes(saved, "ema", {"decay": own.ema})
    return checked


def check_options(
    saved: Mapping[str, Any], groups: Sequence[ParamGroup], names: Sequence[list[str]]
) -> list[dict[str, Any]]:
    """Check a state dict's groups and names of tensors; return every group's options as they are to be set.

    ``names``: of the tensors in every group; their order means nothing. A learning rate that is a function is left out:
    it stays the optimizer's, and a warning tells where the saved one was another.

    Raises
    ------
    TypeError, ValueError
        When the groups or the names are others.
    """
    saved_groups = _get(saved, "param_groups", "state_dict")
    if not isinstance(saved_groups, (list, tuple)) or len(saved_groups) != len(groups):
        got = str(len(saved_groups)) if isinstance(saved_groups, (list, tuple)) else type(saved_groups).__name__
        raise ValueError(f"state_dict: expected {len(groups)} parameter group(s), got {got}")
    options = []
    for number, (group, members, given) in enumerate(zip(groups, names, saved_groups, strict=True)):
        options.append(_options(group, members, given, f"state_dict['param_groups'][{number}]"))
    states = _mapping(_get(saved, "state", "state_dict"), "state_dict['state']")
    known = dict.fromkeys(name for members in names for name in members)
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
    for number, (group, given) in enumerate(zip(groups, _get(saved, "param_groups", "state_dict"), strict=True)):
        rule = _get(given, "rule", f"state_dict['param_groups'][{number}]")
        if group.rule.name != rule:
            raise ValueError(f"state_dict: it belongs to the rule {rule!r}, this optimizer runs {group.rule.name!r}")


def check_tensors(saved: Mapping[str, Any], tensors: Sequence[TensorState]) -> Checkpoint:
    """Check a state dict's states against those of the optimizer, which has the options of the state dict by now.

    Raises
    ------
    TypeError, ValueError
        When a state is missing, unknown, or has another shape or dtype.
    """
    found = Checkpoint([], [], [])
    entries = _mapping(_get(saved, "state", "state_dict"), "state_dict['state']")
    for name, rule, _, _, kept, others in tensors:
        described = by_saved_name(dict(zip(rule.State._fields, kept, strict=True)))
        where = f"state_dict['state'][{name!r}]"
        entry = _mapping(entries[name], where)
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
        field: _checked(_get_raw(entry, field, where), memory, f"{where}[{field!r}]")
        for field, memory in expected.items()
    }


def check_accumulated(
    saved: Mapping[str, Any], names: Sequence[str], parameters: Sequence[Memory]
) -> dict[str, np.ndarray]:
    """Return the sums of gradients that no step had taken yet, by name, checked: none where there were none.

    Raises
    ------
    TypeError, ValueError
        When one belongs to no parameter, or has not its shape or the dtype that it is computed in.
    """
    sums, where = saved.get("accumulated", {}), "state_dict['accumulated']"
    if not isinstance(sums, Mapping):
        raise TypeError(f"{where}: expected a dict, got {type(sums).__name__}")
    own = dict(zip(names, parameters, strict=True))
    for name in sums:
        if name not in own:
            raise ValueError(f"{where}: {name!r} is no parameter of this optimizer")
    return {
        name: _checked(value, replace(own[name], dtype=compute_dtype(own[name])), f"{where}[{name!r}]")
        for name, value in sums.items()
    }


def _running(rule: Rule, running: Any) -> Any:
    """The running numbers of a rule: its first ones where the tensor has none of this rule yet."""
    assert rule.running is not None
    return running if type(running) is rule.running else rule.running()


def _loaded_running(rule: Rule, entry: Any, where: str) -> Any:
    assert rule.running is not None
    numbers, where = _get(entry, "running", where), f"{where}['running']"
    return rule.running(
        *(_number(_get(numbers, field, where), f"{where}[{field!r}]") for field in rule.running._fields)
    )


def _seed(saved: Mapping[str, Any], stochastic: bool) -> int | None:
    """The saved seed. ``stochastic``: whether the optimizer rounds at random."""
    random = "random" in saved
    if random != stochastic:
        kept, own = ("stochastic", "nearest") if random else ("nearest", "stochastic")
        raise ValueError(f"state_dict: it was rounded to {kept!r}, this optimizer rounds to {own!r}")
    return (
        _count(_get(_get(saved, "random", "state_dict"), "seed", "state_dict['random']"), "the seed", 1 << 64)
        if random
        else None
    )


def _slow(saved: Mapping[str, Any], own: SlowWeights | None, steps: int) -> SlowWeights | None:
    """The slow weights that an optimizer with ``own`` goes on with after ``steps`` steps."""
    there = "lookahead" in saved
    if there != (own is not None):
        raise ValueError(
            f"state_dict: it was saved {'with' if there else 'without'} Lookahead, this optimizer is "
            f"{'without' if there else 'with'}"
        )
    if own is None:
        return None
    where = "state_dict['lookahead']"
    phase = _count(_get(_get(saved, "lookahead", "state_dict"), "phase", where), f"{where}['phase']")
    return own._replace(start=steps - phase)


def _tell_changes(saved: Mapping[str, Any], part: str, own: Mapping[str, float]) -> None:
    """Warn of the numbers in a part of a state dict that are not the optimizer's ``own``; older ones have none."""
    there, where = _mapping(saved.get(part, {}), f"state_dict[{part!r}]"), f"state_dict[{part!r}]"
    for name, number in own.items():
        if name in there and _number(_get(there, name, where), f"{where}[{name!r}]") != number:
            _tell_change(f"{where}[{name!r}]", _get(there, name, where), number)


def _tell_change(where: str, saved: Any, own: Any) -> None:
    """Warn of something that is not loaded, and was another when the state dict was saved."""
    warnings.warn(
        f"{where} was {saved}, this optimizer's is {own}, which stays", UserWarning, stacklevel=5
    )  # the caller's line


def _options(group: ParamGroup, members: list[str], given: Any, where: str) -> dict[str, Any]:
    """The options of a saved group as they are to be set."""
    names = _get(given, "params", where)
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{where}['params']: expected a list of names, got {names!r}")
    if sorted(names) != sorted(members):
        raise ValueError(f"{where}: it holds the parameters {list(names)}, this optimizer's are {members}")
    options = {name: _get(given, name, where) for name in group.options}
    rate, own = options.get("lr"), group.get("lr")
    if isinstance(rate, str) != callable(own):
        kinds = ("a function", "a number") if isinstance(rate, str) else ("a number", "a function")
        raise ValueError(f"{where}: lr was {kinds[0]} ({rate}), this optimizer's is {kinds[1]}; build it with the same")
    if isinstance(rate, str):
        del options["lr"]
        if _without_addresses(rate) != _without_addresses(repr(own)):
            _tell_change(f"{where}['lr']", rate, repr(own))
    return options


def _without_addresses(text: str) -> str:
    """The repr of a function without the place where it lies in memory, which every process has another of."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)


def _checked(value: Any, memory: Memory, where: str) -> np.ndarray:
    if isinstance(value, np.generic):  # what numpy makes of a 0-d array
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or arrays.is_masked(value):
        raise TypeError(f"{where}: expected an array, got {arrays.described(value)}")
    if value.shape != memory.shape:
        raise ValueError(f"{where}: expected shape {memory.shape}, got {value.shape}")
    if value.dtype.kind == "V" and value.dtype.itemsize == 2 and memory.dtype.name == "bfloat16":
        value = value.view(memory.dtype)  # what numpy's files make of it
    if value.dtype != memory.dtype:
        raise TypeError(f"{where}: expected dtype {memory.dtype}, got {value.dtype}")
    return value


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    value = _plain(value)
    if not isinstance(value, Mapping):
        raise TypeError(f"{where}: expected a dict, got {type(value).__name__}")
    return value


def _get_raw(mapping: Any, key: str, where: str) -> Any:
    mapping = _mapping(mapping, where)
    if key not in mapping:
        raise ValueError(f"{where}: the key {key!r} is missing")
    return mapping[key]


def _get(mapping: Any, key: str, where: str) -> Any:
    """What stands under a key and is no state: an array or a number of NumPy's is read as Python's own."""
    return _plain(_get_raw(mapping, key, where))


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def _count(value: Any, where: str, end: int = 1 << 63) -> int:
    """A whole number from 0 to ``end``, a power of two, which it does not reach."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{where}: expected a whole number, got {value!r}") from None
    if not 0 <= number < end:
        got = number if number.bit_length() <= 128 else f"one of {number.bit_length()} bits"
        raise ValueError(f"{where}: expected a number of at least 0 and below 2**{end.bit_length() - 1}, got {got}")
    return number


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{where}: expected a number, got {value!r}")
    return value
