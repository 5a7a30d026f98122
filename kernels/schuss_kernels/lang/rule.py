"""What an optimizer is: one scalar update and the numbers it needs.

A :class:`Rule` says how one element of a parameter moves. It holds no loop, no dtype and no device: the engine turns
the same ``update`` into a CPU kernel, a CUDA kernel and, without a compiler, plain Python.
"""

from __future__ import annotations

import dataclasses
import dis
import inspect
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Self

from . import calls, digest


class RuleError(TypeError):
    """A rule that cannot be run as written; the message names the rule and the part to change."""


@dataclass(frozen=True)
class Interval:
    """The values a hyper-parameter may take: ``low <= x``, and ``x < high`` where ``high`` is finite."""

    low: float = -math.inf
    high: float = math.inf

    def __contains__(self, value: float) -> bool:
        return math.isfinite(value) and self.low <= value < self.high

    def __str__(self) -> str:
        if self.high < math.inf:
            return f"at least {self.low:g} and below {self.high:g}"
        return "a finite number" if self.low == -math.inf else f"a finite number, at least {self.low:g}"


FINITE = Interval()
NOT_NEGATIVE = Interval(0.0)
FRACTION = Interval(0.0, 1.0)


class _Parameter:
    """What ``initial`` puts in place of a number for a state that starts as the parameter itself."""

    def __repr__(self) -> str:
        return "PARAMETER"


PARAMETER: Any = _Parameter()


@dataclass(frozen=True, eq=False)
class Rule:
    """One optimizer as a scalar rule.

    Parameters
    ----------
    name
        Short lower-case name; it is written into state dicts.
    State
        A namedtuple class: one field for each state value an element keeps between steps (no field: no state).
    Scalars
        A namedtuple class: the numbers ``update`` reads besides the element itself.
    scalars
        ``scalars(step, *, lr, ...) -> Scalars``. Called on the host, in Python floats, once a step; ``step`` counts
        from 1. Its keyword parameters *are* the rule's hyper-parameters; defaults, where they have some, are those of
        ``Optimizer(params, rule)``.
    update
        ``update(p, g, s, h) -> (p, State)``: parameter, gradient, state and scalars of one element in, the new
        parameter and state out. It may use ``+ - * /``, comparisons, conditional expressions, ``abs``, ``min``,
        ``max``, ``math.sqrt``, the functions of :mod:`schuss.elementary`, and functions that are made of these. Float
        literals take the type the rule computes in; integer literals would turn the arithmetic into float64 and are
        refused.
    reference
        ``reference(p, g, s, step, *, lr, ...) -> (p, State)``: the same in whole-array numpy, new arrays out.
        Without one, ``backend="numpy"`` evaluates ``update`` element by element.
    initial
        ``initial(*, ...) -> State`` of numbers the state starts from; zeros when not given. It receives the
        hyper-parameters it names. :data:`PARAMETER` in place of a number: a copy of the parameter, which is a weight
        and always kept as it is computed.
    limits
        Hyper-parameter name -> :class:`Interval`. What is not named must be finite; ``lr`` must not be negative.
    paper
        Where the optimizer comes from.
    running
        A namedtuple class with defaults: numbers that go from step to step on the host, such as a sum of learning
        rates. ``scalars(step, running, *, lr, ...)`` then returns ``(Scalars, Running)``, the second what they are
        after the step; ``reference`` takes the keyword argument ``running``, as it is before it. Where there is a
        measure, ``scalars`` may do without: ``finish`` has the running numbers then as they are.
    Sums
        A namedtuple class: what is added up over the elements of a tensor (or of all) before the update.
    measure
        ``measure(p, g, s, h) -> Sums``: an element's share of the sums, written as ``update`` is. A first pass over
        memory adds them up, in float64 and in an order that neither threads nor chunks change.
    finish
        ``finish(h, sums, step) -> Scalars``, or a namedtuple of some of them: on the host, in float64, the scalars that
        follow from the sums; with running numbers ``finish(h, sums, step, running) -> (Scalars, Running)``, which go on
        from what ``scalars`` returned. It is plain Python and may call anything. (Of the built-in rules it is compiled
        as well: it must not raise, and calls what ``update`` may call.)
    over
        ``"tensor"``: every tensor has its own sums (and scalars, and running numbers); ``"all"``: a group has one, and
        counts its steps together: those in which a tensor has no gradient too.
    reference_measure
        ``measure`` in whole-array numpy: ``reference_measure(p, g, s, step, *, lr, ...) -> Sums`` of arrays. A rule
        with a measure gives ``reference`` the keyword argument ``sums``.
    not_negative
        The states that are never below zero, such as second moments: in 8 bits they keep smaller values than others.

    Raises
    ------
    RuleError
        When a part is missing or of the wrong kind, or ``update`` or ``measure`` call something else.
    """

    name: str
    State: Any
    Scalars: Any
    scalars: Callable[..., Any]
    update: Callable[..., Any]
    reference: Callable[..., Any] | None = None
    initial: Callable[..., Any] | None = None
    limits: Mapping[str, Interval] = field(default_factory=dict)
    paper: str = ""
    not_negative: tuple[str, ...] = ()
    running: Any = None
    Sums: Any = None
    measure: Callable[..., Any] | None = None
    finish: Callable[..., Any] | None = None
    over: str = "tensor"
    reference_measure: Callable[..., Any] | None = None

    matrix: ClassVar[bool] = False
    """Whether an element's step depends on its row and column: :class:`.matrix.MatrixRule`."""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise RuleError(f"a rule's name is a Python identifier such as 'adamw'; got {self.name!r}")
        for part in ("State", "Scalars"):
            cls = getattr(self, part)
            if not (isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields")):
                raise RuleError(f"rule {self.name!r}: {part} must be a namedtuple class; got {cls!r}")
        for part in ("scalars", "update"):
            if not isinstance(getattr(self, part), types.FunctionType):
                raise RuleError(f"rule {self.name!r}: {part} must be a plain function; got {getattr(self, part)!r}")
        count = len(inspect.signature(self.update).parameters)
        if count != 4:
            raise RuleError(f"rule {self.name!r}: update takes (p, g, s, h); this one takes {count} arguments")
        self._check_measure()
        if not str(self.update.__module__).startswith("schuss_kernels."):  # the tests check those
            self._check_calls()
        for state in self.not_negative:
            if state not in self.State._fields:
                raise RuleError(f"rule {self.name!r}: not_negative: {state!r} is not one of its states")
        if self.running is not None and not hasattr(self.running, "_field_defaults"):
            raise RuleError(f"rule {self.name!r}: running must be a namedtuple class; got {self.running!r}")
        if self.running is not None and set(self.running._fields) != set(self.running._field_defaults):
            raise RuleError(f"rule {self.name!r}: running must have a default for every number")
        given = [p for p in inspect.signature(self.scalars).parameters.values() if p.kind is not p.KEYWORD_ONLY]
        if not given:
            raise RuleError(f"rule {self.name!r}: scalars takes (step, *, lr, ...); this one takes nothing")
        if self.running is not None and len(given) != 2 and not (len(given) == 1 and self.measure is not None):
            raise RuleError(f"rule {self.name!r}: scalars takes (step, running, *, lr, ...) where there is running")

    def _check_measure(self) -> None:
        if self.over not in ("tensor", "all"):
            raise RuleError(f"rule {self.name!r}: over must be 'tensor' or 'all'; got {self.over!r}")
        parts = {"Sums": self.Sums, "measure": self.measure, "finish": self.finish}
        missing = [name for name, part in parts.items() if part is None]
        if len(missing) == len(parts):
            return
        if missing:
            raise RuleError(f"rule {self.name!r}: Sums, measure and finish go together; {missing[0]} is missing")
        if not (isinstance(self.Sums, type) and issubclass(self.Sums, tuple) and hasattr(self.Sums, "_fields")):
            raise RuleError(f"rule {self.name!r}: Sums must be a namedtuple class; got {self.Sums!r}")
        for part in ("measure", "finish"):
            if not isinstance(getattr(self, part), types.FunctionType):
                raise RuleError(f"rule {self.name!r}: {part} must be a plain function; got {getattr(self, part)!r}")

    def _check_calls(self) -> None:
        """Raise a RuleError where ``update`` or ``measure`` call what has other bits on other backends."""
        for part, function in (("update", self.update), ("measure", self.measure)):
            complaint = None if function is None else calls.complaint(function)
            if complaint is not None:
                raise RuleError(f"rule {self.name!r}: {part}() {complaint}")

    def variant(self, name: str, **changes: Any) -> Self:
        """A copy of this rule under another name, with some of its parts replaced.

        Parameters
        ----------
        name
            The new rule's.
        **changes
            Parts of a rule by name, such as ``update`` and ``reference``; all others are this rule's.

        Raises
        ------
        TypeError
            When a rule has no part of such a name; :class:`RuleError` when the parts do not fit together.
        """
        return dataclasses.replace(self, name=name, **changes)

    @cached_property
    def options(self) -> dict[str, Any]:
        """Hyper-parameter name -> default, ``inspect.Parameter.empty`` where there is none.

        The built-in rules have no defaults: their optimizers' classes have them.
        """
        parameters = self._options_of_scalars()
        if self.initial is not None:
            parameters += inspect.signature(self.initial).parameters.values()
        named = [q for q in parameters if q.kind not in (q.VAR_KEYWORD, q.VAR_POSITIONAL)]
        return {q.name: q.default for q in named}

    def rule_for_shape(self, shape: tuple[int, ...]) -> Rule | None:
        """The rule for a tensor of this shape; None: there is none."""
        return self

    def interval(self, option: str) -> Interval:
        """The values ``option`` may take."""
        return self.limits.get(option, NOT_NEGATIVE if option == "lr" else FINITE)

    def _options_of_scalars(self) -> list[inspect.Parameter]:
        before = 1 if self.keeps_running else 2
        return list(inspect.signature(self.scalars).parameters.values())[before:]

    def numbers(self, step: int, options: Mapping[str, Any], running: Any = None, sums: Any = None) -> tuple[Any, Any]:
        """The ``Scalars`` of a step, and the running numbers after it (None, where there are none).

        ``options`` are those of :attr:`scalar_names`, ``running`` as it is before. ``sums``: what was measured; without
        them the scalars are those to measure with.
        """
        begun = self.begin(step, options, running)
        return begun if sums is None else self.end(begun, sums, step)

    def begin(self, step: int, options: Mapping[str, Any], running: Any = None) -> tuple[Any, Any]:
        """:meth:`numbers` without sums."""
        if self.keeps_running:
            return self._checked("scalars", (self.scalars(step, **options), running))
        return self._checked("scalars", self.scalars(step, running, **options))

    def end(self, begun: tuple[Any, Any], sums: Any, step: int) -> tuple[Any, Any]:
        """:meth:`numbers` with sums, from what :meth:`begin` has found."""
        assert self.finish is not None
        if self.running is None:
            made = self.finish(begun[0], self.Sums(*sums), step), None
        else:
            made = self.finish(begun[0], self.Sums(*sums), step, begun[1])
        if type(made) is tuple and made and self._is_some(made[0]):
            made = begun[0]._replace(**made[0]._asdict()), *made[1:]
        return self._checked("finish", made)

    def _is_some(self, found: Any) -> bool:
        """Whether these are some of the scalars by name, and not all."""
        if type(found) is self.Scalars:
            return False
        return isinstance(found, tuple) and set(getattr(found, "_fields", ("",))) <= set(self.Scalars._fields)

    @cached_property
    def keeps_running(self) -> bool:
        """Whether ``scalars`` takes no running numbers, and so does not change them."""
        given = [p for p in inspect.signature(self.scalars).parameters.values() if p.kind is not p.KEYWORD_ONLY]
        return self.running is None or len(given) == 1

    @cached_property
    def constant_scalars(self) -> bool:
        """Whether scalars are the same in every step: ``scalars`` never reads its number, and nothing is measured."""
        code = self.scalars.__code__
        read = (instruction.argval for instruction in dis.get_instructions(code))
        names = (name for names in read for name in (names if isinstance(names, tuple) else (names,)))
        return self.running is None and self.measure is None and code.co_varnames[0] not in names

    def _checked(self, name: str, made: Any) -> tuple[Any, Any]:
        """Return what ``scalars`` or ``finish``, the function ``name``, has made; raise a RuleError if it is not that.

        Every step comes here: what an error says is put together where there is one.
        """
        alone = self.running is None or (self.keeps_running and name == "scalars")
        if alone and type(made[0]) is self.Scalars:
            return made
        pair = not alone and type(made) is tuple and len(made) == 2
        if pair and type(made[0]) is self.Scalars and type(made[1]) is self.running:
            return made
        expected, shown = _with_fields(self.Scalars), _shown(made[0] if alone else made)
        if not alone:
            expected = f"({expected}, {_with_fields(self.running)})"
        some = ", where a namedtuple of some of the scalars will do" if name == "finish" else ""
        raise RuleError(f"rule {self.name!r}: {name}() must return {expected}{some}; it returned {shown}")

    def initial_state(self, options: Mapping[str, Any]) -> tuple[Any, ...]:
        """The numbers a new state is filled with, :data:`PARAMETER` for the parameter itself."""
        if self.initial is None:
            return (0.0,) * len(self.State._fields)
        values = self.initial(**{name: options[name] for name in self.initial_names})
        if len(values) != len(self.State._fields):
            raise RuleError(
                f"rule {self.name!r}: initial() must return {len(self.State._fields)} numbers "
                f"({', '.join(self.State._fields)}); it returned {len(values)}"
            )
        return tuple(values)

    @cached_property
    def initial_names(self) -> tuple[str, ...]:
        """The hyper-parameters that ``initial`` takes."""
        return () if self.initial is None else tuple(inspect.signature(self.initial).parameters)

    @cached_property
    def weights(self) -> tuple[str, ...]:
        """The states that start as the parameter, whatever the hyper-parameters are."""
        if self.initial is None:
            return ()
        needed = inspect.signature(self.initial).parameters.values()
        values = self.initial(**{q.name: math.nan if q.default is q.empty else q.default for q in needed})
        return tuple(name for name, value in zip(self.State._fields, values, strict=True) if value is PARAMETER)

    @cached_property
    def scalar_names(self) -> tuple[str, ...]:
        """The hyper-parameters that ``scalars`` (and ``reference``) take."""
        parameters = self._options_of_scalars()
        return tuple(q.name for q in parameters if q.kind not in (q.VAR_KEYWORD, q.VAR_POSITIONAL))

    @cached_property
    def finish_key(self) -> str:
        """Name and digest of ``finish``."""
        assert self.finish is not None
        assert self.Sums is not None
        running = None if self.running is None else self.running._fields
        fields = self.Scalars._fields, self.Sums._fields, running
        return f"{self.name}@{digest.of(self.finish, fields=fields)}"

    @cached_property
    def key(self) -> str:
        """Name and digest of the update: equal in every process, different once the code differs."""
        self._check_calls()  # once more: helpers may have been defined after the rule
        functions = [self.update] if self.measure is None else [self.update, self.measure]
        fields = self.State._fields, self.Scalars._fields, self.Sums and self.Sums._fields
        return f"{self.name}@{digest.of(*functions, fields=fields)}"


def _with_fields(cls: Any) -> str:
    """A namedtuple class with its fields, as it is called."""
    return f"{cls.__name__}({', '.join(cls._fields)})"


def _shown(made: Any) -> str:
    """The type of what a function returned, or the types in a tuple."""
    if type(made) is tuple:
        return f"({', '.join(map(_shown, made))})"
    return _with_fields(type(made)) if hasattr(made, "_fields") else type(made).__name__
