"""What is stored beside every tensor: the states, which it has from its first gradient on, and all else.

A tensor that never has a gradient takes no memory for states.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from schuss_kernels.lang.rule import Rule
from schuss_kernels.plan.tensor import Tensor
from schuss_kernels.storage.memory import Memory

from . import arrays, states
from .arena import Arena
from .parameters import Parameters
from .step_counts import History
from .storage_options import StorageOptions

if TYPE_CHECKING:
    from .state_dict import Checkpoint, TensorState


class TensorStates:
    """The states of all tensors, and what else there is beside a parameter.

    Attributes
    ----------
    states, others
        For every tensor its states by name, and the arrays ``master``, ``ema``, ``copy`` and ``slow``, as far as there
        are any. Options that were changed may have left states behind that the present rule does not use.
    made
        bool (tensors): whether the tensor has its states, which may be none.
    times_made
        How often states were made.
    """

    def __init__(self, parameters: Parameters, storage: StorageOptions, copies: Sequence[Memory | None]) -> None:
        self._parameters, self._storage = parameters, storage
        self.arena = Arena()
        self.states: list[dict[str, Memory]] = [{} for _ in parameters.names]
        self.made, self.times_made = np.zeros(len(parameters.names), bool), 0
        self.others = [
            states.beside(self.arena, storage, *pair) for pair in zip(parameters.memories, copies, strict=True)
        ]

    def tensors(self, steps: int) -> tuple[list[Tensor], list[dict[str, Memory]]]:
        """Return the tensors as the groups' rules are now, and their states: those that were missing are made.

        States of tensors that had no gradient yet are described, without memory. ``steps``: steps made.
        """
        parameters, storage, made = self._parameters, self._storage, self.made.tolist()
        forms: dict[Any, Any] = {}  # states and gradients of tensors that are alike
        tensors, kept = [], []
        rows = zip(parameters.names, parameters.memories, parameters.group_of, parameters.rules(), strict=True)
        for number, (name, parameter, group, rule) in enumerate(rows):
            held, fields = dict(self.states[number]), rule.State._fields
            form = group, rule, parameter.dtype, parameter.shape, parameter.strides
            if form not in forms:
                fills = self._initial(group, rule, steps)
                described = states.described(storage, parameter, rule, fills)
                forms[form] = dict(zip(fields, fills, strict=True)), described, states.expected_gradient(parameter)
            initial, own, (dtype, strides) = forms[form]
            if made[number]:
                for field in fields:
                    if field not in held or held[field].shape != states.state_shape(rule, field, parameter):
                        held[field] = states.new_state(self.arena, storage, parameter, rule, field, initial[field])
                own = tuple(held[field] for field in fields)
            kept.append(held)
            others = self.others[number]
            tensor = Tensor(name, rule, parameter, own, dtype, strides, others, storage.master, storage.stochastic)
            tensors.append(tensor)
        return tensors, kept

    def make(self, numbers: Sequence[int], tensors: Sequence[Tensor], steps: int) -> None:
        """Make the states of some tensors, given by their numbers in ``tensors``. ``steps``: steps made."""
        initial: dict[Any, tuple[Any, ...]] = {}
        for number in numbers:
            tensor, group = tensors[number], self._parameters.group_of[number]
            rule, key = tensor.rule, (group, tensor.rule)
            if key not in initial:
                initial[key] = self._initial(group, rule, steps)
            named = zip(rule.State._fields, initial[key], strict=True)
            own = [states.new_state(self.arena, self._storage, tensor.parameter, rule, *pair) for pair in named]
            tensor.states = tuple(own)
            self.states[number] = dict(zip(rule.State._fields, own, strict=True))

    def _initial(self, group: int, rule: Rule, steps: int) -> tuple[Any, ...]:
        """Return the numbers that new states of a rule are filled with."""
        return rule.initial_state(self._parameters.groups[group].initial_options(steps))

    def saved(self, histories: Sequence[History], tensors: Sequence[Tensor]) -> list[TensorState]:
        """Return what a state dict has of every tensor: the states that its rule has now, master weight, average."""
        from .state_dict import TensorState  # here, for a short start

        rows = zip(tensors, histories, self.states, self.others, self.made.tolist(), strict=True)
        return [
            TensorState(
                tensor.name,
                tensor.rule,
                history,
                states.by_saved_name({field: held[field] for field in tensor.rule.State._fields}) if made else None,
                tensor.states,
                {name: memory for name, memory in others.items() if name != "copy"},
            )
            for tensor, history, held, others, made in rows
        ]

    def drop_missing(self, checkpoint: Checkpoint) -> list[int]:
        """Forget states that a state dict does not have. Return the numbers of tensors that need theirs made."""
        there = np.array([values is not None for values in checkpoint.states], bool)
        for number in np.flatnonzero(self.made & ~there).tolist():
            self.states[number] = {}
        self.made &= there
        return np.flatnonzero(there & ~self.made).tolist()

    def load(self, checkpoint: Checkpoint) -> None:
        """Write a state dict's values, and fill copies; states of rules that are no longer used are forgotten."""
        rows = zip(self.states, checkpoint.states, self.others, checkpoint.others, strict=True)
        for held, saved, others, saved_others in rows:
            by_name = states.by_saved_name(held)
            for name, values in (saved or {}).items():
                arrays.write(by_name[name], values)
            for name in [name for name in held if name not in (saved or {})]:
                del held[name]
            for name, values in saved_others.items():
                arrays.write(others[name], values)
        for parameter, others in zip(self._parameters.memories, self.others, strict=True):
            states.fill_copy(self._storage, parameter, others)

    def add_slow_weights(self) -> None:
        """Make slow weights of all parameters, with the values that these have now."""
        pairs = zip(self._parameters.memories, self.others, strict=True)
        slow = [states.copy_of_weights(self.arena, self._storage, *pair) for pair in pairs]
        for others, memory in zip(self.others, slow, strict=True):
            others["slow"] = memory

    def take_weights(self) -> None:
        """Take the parameters as they are now: into what stands beside them, and into states that are weights."""
        parts = zip(self._parameters.memories, self._parameters.rules(), self.states, self.others, strict=True)
        for parameter, rule, held, others in parts:
            weights = [held[field] for field in rule.weights if field in held]
            states.take_weights(self._storage, parameter, others, weights)

    def check_unchanged(self) -> None:
        """Raise a ValueError where a parameter, or a copy of one, was resized in place or made read-only."""
        rows = zip(self._parameters.names, self._parameters.memories, self.others, strict=True)
        for name, parameter, others in rows:
            arrays.check_unchanged(parameter, f"parameter {name!r}")
            if "copy" in others:
                arrays.check_unchanged(others["copy"], f"copy_to of {name!r}")
