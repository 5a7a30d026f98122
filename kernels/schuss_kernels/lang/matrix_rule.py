"""Rules whose step of an element depends on its row and column: whole-array numpy, no kernel."""

from __future__ import annotations

import inspect
import types
from collections import namedtuple
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from .rule import Interval, Rule, RuleError

_Nothing = namedtuple("_Nothing", [])


class MatrixRule(Rule):
    """One optimizer as a rule for whole tensors.

    Tensors that such a rule moves are stepped by NumPy; those that it leaves to another rule are moved by that rule's
    kernel, in the same optimizer and the same step. Storages, master weights and riders are as for any
    other rule.

    Parameters
    ----------
    name
        Short lower-case name; it is written into state dicts.
    State
        A namedtuple class: one field for each array a tensor keeps between steps.
    reference
        ``reference(p, g, s, step, *, lr, ...) -> (p, State)``: parameter, gradient (scaled, limited), ``State`` and the
        number of the step, from 1, in; new arrays out. All are in the type the tensor is computed in, and in C order.
        Its keyword parameters *are* the rule's hyper-parameters; defaults, where they have some, are those of
        ``Optimizer(params, rule)``.
    shapes
        ``shapes(shape)``: for each state of a tensor its shape, and None where it is the tensor's; without it all are.
        A state that has a shape of its own is always kept in the type it is computed in.
    fits
        ``fits(shape) -> bool``: whether the rule takes a tensor of this shape. Without it: any.
    otherwise
        The rule for the others; its hyper-parameters are the optimizer's too.
    side_by_side
        Whether tensors may be stepped at once, in several threads: ``reference`` changes nothing but its own arrays,
        and has no threads itself (as NumPy's matrix products do, for which this must be False).
    initial, limits, paper, not_negative
        As in :class:`.Rule`.

    Raises
    ------
    RuleError
        When a part is missing or of the wrong kind.
    """

    matrix: ClassVar[bool] = True

    shapes: Callable[[tuple[int, ...]], Any] | None
    fits: Callable[[tuple[int, ...]], bool] | None
    otherwise: Rule | None
    side_by_side: bool

    def __init__(
        self,
        name: str,
        State: Any,
        reference: Callable[..., Any],
        *,
        shapes: Callable[[tuple[int, ...]], Any] | None = None,
        fits: Callable[[tuple[int, ...]], bool] | None = None,
        otherwise: Rule | None = None,
        side_by_side: bool = False,
        initial: Callable[..., Any] | None = None,
        limits: Mapping[str, Interval] | None = None,
        paper: str = "",
        not_negative: tuple[str, ...] = (),
    ) -> None:
        if not isinstance(reference, types.FunctionType):
            raise RuleError(f"rule {name!r}: reference must be a plain function; got {reference!r}")
        count = len([p for p in inspect.signature(reference).parameters.values() if p.kind is not p.KEYWORD_ONLY])
        if count != 4:
            raise RuleError(f"rule {name!r}: reference takes (p, g, s, step, *, lr, ...); this one takes {count} first")
        if otherwise is not None and not isinstance(otherwise, Rule):
            raise RuleError(f"rule {name!r}: otherwise must be a rule or None; got {otherwise!r}")
        super().__init__(
            name, State, _Nothing, _no_scalars, _no_update, reference, initial, limits or {}, paper, not_negative
        )
        own = {"shapes": shapes, "fits": fits, "otherwise": otherwise, "side_by_side": side_by_side}
        for part, value in own.items():
            object.__setattr__(self, part, value)  # the class is frozen

    def variant(self, name: str, **changes: Any) -> Self:
        """A copy of this rule under another name, with some of its parts replaced; see :meth:`.Rule.variant`."""
        parts = {part: getattr(self, part) for part in inspect.signature(type(self)).parameters}
        return type(self)(**{**parts, **changes, "name": name})

    def rule_for_shape(self, shape: tuple[int, ...]) -> Rule | None:
        if self.fits is None or self.fits(shape):
            return self
        return None if self.otherwise is None else self.otherwise.rule_for_shape(shape)

    @cached_property
    def options(self) -> dict[str, Any]:
        """Hyper-parameter name -> default; those of the rule for other tensors too."""
        own = super().options
        return own if self.otherwise is None else {**own, **{**self.otherwise.options, **own}}

    def interval(self, option: str) -> Interval:
        if self.otherwise is not None and option not in self.limits and option not in self.scalar_names:
            return self.otherwise.interval(option)
        return super().interval(option)

    def _options_of_scalars(self) -> list[inspect.Parameter]:
        assert self.reference is not None
        return list(inspect.signature(self.reference).parameters.values())[4:]

    def state_shape(self, field: str, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the shape of a state of a tensor of this shape; None where it is the tensor's."""
        if self.shapes is None:
            return None
        made = self.shapes(shape)
        if len(made) != len(self.State._fields):
            raise RuleError(
                f"rule {self.name!r}: shapes() must return {len(self.State._fields)} shapes "
                f"({', '.join(self.State._fields)}); it returned {len(made)}"
            )
        own = made[self.State._fields.index(field)]
        return None if own is None else tuple(int(extent) for extent in own)

    def checked(self, made: Any, p: np.ndarray, s: Any) -> tuple[np.ndarray, Any]:
        """Check what the reference returned, and convert it to the compute type.

        Raises
        ------
        RuleError
            When it is not a parameter and states of the shapes there were.
        """
        moved, state = made
        if len(state) != len(s):
            raise RuleError(f"rule {self.name!r}: reference() returned {len(state)} states instead of {len(s)}")
        for what, new, old in zip(("p", *self.State._fields), (moved, *state), (p, *s), strict=True):
            if np.shape(new) != np.shape(old):
                raise RuleError(
                    f"rule {self.name!r}: reference() returned {what} of shape {np.shape(new)}, "
                    f"expected {np.shape(old)}"
                )
        return np.asarray(moved, p.dtype), self.State(*(np.asarray(array, p.dtype) for array in state))


_SHORT = 32
"""Elements of an axis below which NumPy's loop along it takes longer to begin than to run."""


def long_loops(x: np.ndarray) -> np.ndarray:
    """Copy an array so that its short last axes come first in memory; the shape stays.

    NumPy's innermost loop runs along what is last in memory: of shape (512, 512, 3, 3) a mean over an axis of 3 takes
    15 ms with 3 elements to a loop, and 2 ms so.
    """
    long = x.ndim
    while long > 1 and x.shape[long - 1] < _SHORT:
        long -= 1
    order = [*range(long, x.ndim), *range(long)]
    return np.ascontiguousarray(x.transpose(order)).transpose(np.argsort(order)) if long < x.ndim else x


def _no_scalars(step, **_):
    return _Nothing()


def _no_update(p, g, s, h):
    raise RuleError("a matrix rule has no kernel")
