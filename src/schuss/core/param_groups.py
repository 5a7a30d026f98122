"""Parameter groups: dicts of options that are checked the moment they are written."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from inspect import Parameter
from typing import Any

import numpy as np
from schuss_kernels.lang.convention import Conventions
from schuss_kernels.lang.rule import Interval, Rule

from . import conventions, tree
from .validate import did_you_mean, flag, number, shown

Select = Callable[..., Rule]
"""Chooses a rule by a group's options, which are its keyword arguments."""

FIXED = ("params",)
"""Keys of a group that cannot be changed."""


class EditCount:
    """Counts how often the options of an optimizer's groups have been changed: a step sees whether there is news."""

    count = 0


class ParamGroup(dict[str, Any]):
    """The options of some parameters; ``group["lr"] = 1e-4`` between steps takes effect at the next one.

    Keys are the optimizer's hyper-parameters, ``maximize`` and ``params`` (the structure that was passed; it cannot be
    replaced). A value that does not fit raises at once and leaves the group as it was. Another ``convention`` changes
    the arithmetic from the next step on, and no number: the defaults are taken when the group is made.
    """

    def __init__(
        self,
        number: int,
        select: Select,
        defaults: Mapping[str, Any],
        given: Mapping[str, Any],
        edits: EditCount,
        known: Conventions,
    ) -> None:
        self._edits = edits
        self.last_rate: Any = None
        """What a learning rate that is a function has returned last."""
        self._where = f"parameter group {number}"
        self._select = select
        self._defaults = dict(defaults)
        self._conventions = known
        unknown = [name for name in given if name not in defaults and name not in FIXED]
        if unknown:
            raise TypeError(unknown_option(unknown[0], defaults, self._where))
        options = {name: given.get(name, default) for name, default in defaults.items()}
        options = conventions.filled(options, known, self._where)
        missing = [name for name, value in options.items() if value is Parameter.empty]
        if missing:
            raise TypeError(f"{self._where}: the hyper-parameter {missing[0]!r} has no default and was not given")
        self.rule = select(**options)
        checked = {name: self._checked(name, value) for name, value in options.items()}
        self.rule = select(**checked)
        self._options = checked
        super().__init__(params=given["params"], **checked)

    def _checked(self, name: str, value: Any) -> Any:
        if name == "convention" and self._conventions:
            return conventions.checked(value, self._conventions, self._where)
        default = self._defaults[name]
        if default is None and self._conventions:  # all conventions agree on the form of the value
            default = next(iter(self._conventions.values())).defaults.get(name)
        return check(name, value, default, self.rule.interval(name), self._where)

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several options at once; all are checked before one is set."""
        new = dict(*args, **kwargs)
        for name in new:
            if name in FIXED:
                raise ValueError(f"{self._where}: {name!r} cannot be replaced; build a new optimizer")
            if name not in self._defaults:
                raise TypeError(unknown_option(name, self._defaults, self._where))
        checked = {name: self._checked(name, value) for name, value in new.items()}
        options = {**self._options, **checked}
        self.rule = self._select(**options)
        self._options = options
        super().update(checked)
        self._edits.count += 1

    def __ior__(self, other: Any) -> ParamGroup:  # type: ignore[override, misc]
        self.update(other)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return the value of an option; every option always has one."""
        if name not in self:
            raise TypeError(unknown_option(name, self._defaults, self._where))
        return self[name]

    def _refuse_removal(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"{self._where}: options can be changed, not removed")

    __delitem__ = pop = popitem = clear = _refuse_removal

    @property
    def options(self) -> dict[str, Any]:
        """The options without the parameters."""
        return dict(self._options)

    def options_of(self, rule: Rule) -> dict[str, Any]:
        """Return the options that ``rule``, one of those that move its tensors, computes a step's scalars from."""
        return {name: self._options[name] for name in rule.scalar_names}

    def initial_options(self, step: int) -> dict[str, Any]:
        """Return the options that states start from, the learning rate as it is after ``step`` steps."""
        rate = self._options.get("lr")
        if not callable(rate) or "lr" not in self.rule.initial_names:
            return self.options
        return {**self._options, "lr": self.checked_rate(rate(step), step)}

    def checked_rate(self, value: Any, step: int) -> float:
        """Return the learning rate of a step, ``value``, that the group's function of the step has returned.

        Raises
        ------
        TypeError, ValueError
            When it is no number, or one that a learning rate must not be.
        """
        self.last_rate = value
        try:
            return _number(value, self.rule.interval("lr"))
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self._where}: lr({step}) returned {shown(value)}: {error}") from None

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


def check(name: str, value: Any, default: Any, interval: Interval, where: str) -> Any:
    """Return a hyper-parameter's value in its plain form: a float, a bool, a tuple of floats, or a function (lr).

    ``default``: says which form it has. ``where``: names its group in errors.

    Raises
    ------
    TypeError, ValueError
        When the value has another form, or lies outside ``interval``.
    """
    if name == "lr" and callable(value):
        return value
    try:
        if isinstance(default, (bool, np.bool_)):
            return flag(value)
        if (
            isinstance(value, (tuple, list))
            and name != "lr"
            and (isinstance(default, tuple) or default is Parameter.empty)
        ):
            if isinstance(default, tuple) and len(value) != len(default):
                raise ValueError(f"expected {len(default)} numbers")
            return tuple(_number(item, interval) for item in value)
        if isinstance(default, tuple):
            raise TypeError(f"expected a tuple of {len(default)} numbers")
        return _number(value, interval)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}: {name}: {error}; got {shown(value)}") from None


def _number(value: Any, interval: Interval) -> float:
    found = number(value)
    if found not in interval:
        raise ValueError(f"expected {interval}")
    return found


def unknown_option(name: str, known: Mapping[str, Any], where: str) -> str:
    """Make the message for an option that does not exist."""
    meant = ", did you mean 'lr'?" if name == "learning_rate" and "lr" in known else did_you_mean(name, known)
    return f"{where}: unknown option {name!r}{meant} (the options are {', '.join(known)})"


def as_groups(params: Any) -> tuple[list[Mapping[str, Any]], bool]:
    """Return the parameter groups, and whether the caller wrote them as groups."""
    params = _reusable(params)
    if isinstance(params, (list, tuple)) and params and all(isinstance(p, Mapping) and "params" in p for p in params):
        return [{**group, "params": _reusable(group["params"])} for group in params], True
    return [{"params": params}], False


def _reusable(params: Any) -> Any:
    """Return parameters in a form that can be iterated more than once."""
    return list(params) if isinstance(params, Iterator) else params


def unwrapped(structures: Sequence[Any]) -> list[Any]:
    """Return one structure a group; each may be written as ``{"params": structure}``."""
    if tree.is_rows(structures):  # for many groups that are lists the search takes longer than the step
        return list(structures)
    return [s["params"] if isinstance(s, Mapping) and set(s) == {"params"} else s for s in structures]


def option_defaults(cls: type, base: type, common: Iterable[str]) -> dict[str, Any]:
    """Return the hyper-parameters that an optimizer class names in its constructors, and their defaults.

    ``base``: where the search along the classes ends. ``common``: arguments of all optimizers, which are none.
    """
    found: dict[str, Any] = {}
    for owner in cls.__mro__[: cls.__mro__.index(base)]:
        for parameter in inspect.signature(owner.__init__).parameters.values():  # type: ignore[misc]
            plain = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if plain and parameter.name not in ("self", "params", *common):
                found.setdefault(parameter.name, parameter.default)
    return found


def choose_rule(
    rule: Any, named: Mapping[str, Any], given: Mapping[str, Any], where: str
) -> tuple[Select, dict[str, Any]]:
    """Return what chooses the rule of a group, and the options that groups have with their defaults.

    Parameters
    ----------
    rule
        A :class:`schuss.Rule`, or a function that chooses one by the options.
    named
        As :func:`option_defaults` finds it; empty for an optimizer that is built from a rule.
    given
        The options of the call.
    where
        Names the optimizer in errors.

    Raises
    ------
    TypeError
        When ``rule`` is neither, or an option is unknown.
    """
    if isinstance(rule, Rule):
        empty = Parameter.empty
        defaults = {name: named.get(name, own) if own is empty else own for name, own in rule.options.items()}
        select: Select = lambda **_: rule  # noqa: E731
    elif callable(rule):
        known = named or dict.fromkeys(given, Parameter.empty)
        defaults, select = {name: known[name] for name in given if name in known}, rule
    else:
        raise TypeError(f"rule: expected a schuss.Rule, got {rule!r}")
    defaults["maximize"] = False
    unknown = [name for name in given if name not in defaults]
    if unknown:
        raise TypeError(unknown_option(unknown[0], defaults, where))
    return select, defaults


@contextlib.contextmanager
def kept_on_success(
    groups: Sequence[ParamGroup], options: Sequence[Mapping[str, Any]], on_undone: Callable[[], None]
) -> Iterator[None]:
    """Set the groups' options, and set the old ones again where the block fails; ``on_undone`` is called after that."""
    before = [group.options for group in groups]
    try:
        for group, given in zip(groups, options, strict=True):
            group.update(given)
        yield
    except BaseException:
        for group, old in zip(groups, before, strict=True):
            group.update(old)
        on_undone()
        raise
