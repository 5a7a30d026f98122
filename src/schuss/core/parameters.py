"""What the caller of an optimizer owns: the parameters, their names, their structure and their groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from schuss_kernels.engine.interrupts import DeferInterrupt
from schuss_kernels.lang.convention import Conventions
from schuss_kernels.lang.rule import Rule
from schuss_kernels.storage.memory import Memory

from . import arrays, tree
from .overlap import AddressRanges, overlapping
from .param_groups import EditCount, ParamGroup, Select, as_groups, unwrapped
from .weight_swap import WeightSwap


class Parameters:
    """The parameters of an optimizer, checked. A tensor's number is its place in the structure.

    Parameters
    ----------
    params
        As :class:`schuss.Optimizer` takes them.
    select, defaults, conventions
        As :class:`.ParamGroup` takes them.
    given
        Options for the groups that do not say otherwise.

    Attributes
    ----------
    names, arrays, memories, group_of
        For every tensor its name, the caller's array, where it lies, and the number of its group.
    groups
        The parameter groups.
    edits
        How often the options of a group have been changed.
    swap
        Puts other values into the parameters for a while.
    flat_type
        ``list`` where a list of gradients has the structure of the parameters without a search, else None.

    Raises
    ------
    TypeError, ValueError
        For arrays or options that cannot be used.
    """

    def __init__(
        self,
        params: Any,
        select: Select,
        defaults: Mapping[str, Any],
        given: Mapping[str, Any],
        conventions: Conventions,
    ) -> None:
        groups, self._grouped = as_groups(params)
        self.edits = EditCount()
        self.groups = tuple(
            ParamGroup(number, select, defaults, {**given, **group}, self.edits, conventions)
            for number, group in enumerate(groups)
        )
        structures = [group["params"] for group in groups]
        self._node, self.names, self.arrays = tree.parse(structures if self._grouped else structures[0])
        children = self._node.children if self._grouped and isinstance(self._node, tree.Branch) else [self._node]
        self.flat_type = list if tree.is_flat_list(self._node) else None
        self.group_of = [number for number, child in enumerate(children) for _ in range(tree.leaf_count(child))]
        if not self.arrays:
            raise ValueError("params: there is no array to optimize")
        self.memories = [arrays.parameter(leaf, name) for leaf, name in zip(self.arrays, self.names, strict=True)]
        clash = overlapping(self.memories)
        if clash is not None:
            one, other = (self.names[number] for number in clash)
            raise ValueError(f"parameters {one!r} and {other!r} share memory; each would be updated twice in a step")
        self.swap = WeightSwap(self.memories)
        self._ranges = AddressRanges(self.memories, self.names)

    def match(self, structure: Any, what: str = "gradients") -> list[Any]:
        """Return the leaves of a structure of the parameters' form, in order. ``what`` names it in errors.

        Raises
        ------
        TypeError, ValueError
            When it has another form.
        """
        if self._grouped and isinstance(structure, (list, tuple)):
            structure = unwrapped(structure)
        return tree.match(self._node, structure, what)

    def build(self, leaves: Iterable[Any]) -> Any:
        """Build a structure of the parameters' form out of one leaf a tensor."""
        return tree.built(self._node, list(leaves))

    def check_gradients(self, gradients: Sequence[Any], written: bool = False) -> list[Memory | None]:
        """Find where gradients lie, one a tensor; None stays None. ``written``: the step sets them to zero.

        Raises
        ------
        TypeError, ValueError
            When one has another shape or an unknown dtype, lies elsewhere (host, device), cannot be written though it
            is to be, or shares memory with a parameter.
        """
        memories = [
            None if gradient is None else arrays.gradient(gradient, name, parameter, written)
            for gradient, name, parameter in zip(gradients, self.names, self.memories, strict=True)
        ]
        self._ranges.refuse_overlap(memories)
        return memories

    def zero_gradients(self, gradients: Sequence[Any]) -> None:
        """Set gradients, one a tensor, to zero; errors as of :meth:`check_gradients`."""
        memories = self.check_gradients(gradients, written=True)
        with DeferInterrupt():
            for memory in memories:
                if memory is not None:
                    arrays.write(memory, np.zeros(memory.shape, memory.dtype))

    def rule_of(self, number: int) -> Rule:
        """Return the rule that moves a tensor: its group's, or the one that this leaves tensors of its shape to.

        Raises
        ------
        ValueError
            When the rule takes no array of the shape.
        """
        rule, shape = self.groups[self.group_of[number]].rule, self.memories[number].shape
        found = rule.rule_for_shape(shape)
        if found is None:
            name = self.names[number]
            raise ValueError(f"parameter {name!r}: the rule {rule.name!r} takes no array of shape {shape}")
        return found

    def rules(self) -> list[Rule]:
        """Return every tensor's rule; errors as of :meth:`rule_of`."""
        found: dict[tuple[int, tuple[int, ...]], Rule] = {}
        rules = []
        for number, (group, memory) in enumerate(zip(self.group_of, self.memories, strict=True)):
            key = group, memory.shape
            if key not in found:
                found[key] = self.rule_of(number)
            rules.append(found[key])
        return rules

    def names_by_group(self) -> list[list[str]]:
        """Return the names of the tensors of every group."""
        found: list[list[str]] = [[] for _ in self.groups]
        for name, group in zip(self.names, self.group_of, strict=True):
            found[group].append(name)
        return found
