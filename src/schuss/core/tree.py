"""Nested structures of arrays: lists, tuples and dicts of leaves, and other structures of the same form.

Everything that is not a list, a tuple or a mapping is a leaf. A leaf's name is its path, joined by dots.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np


class Leaf:
    """One array of a structure."""


LEAF = Leaf()


@dataclass(frozen=True)
class Branch:
    """A list or tuple (``keys`` is None) or a dict, and what stands at each place.

    ``flat``: all of that are leaves. ``lengths``: of lists or tuples of leaves; None where there is anything else.
    """

    path: str
    keys: tuple[Any, ...] | None
    children: tuple[Branch | Leaf, ...]
    flat: bool
    lengths: list[int] | None


Node = Branch | Leaf


def parse(structure: Any) -> tuple[Node, list[str], list[Any]]:
    """The form of a structure, the names of its leaves and the leaves, in order.

    Raises
    ------
    ValueError
        When two leaves would have the same name.
    """
    names: list[str] = []
    leaves: list[Any] = []
    node = _parse(structure, "", names, leaves)
    if len(set(names)) != len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"two parameters would be called {twice!r}; rename a key of the structure")
    return node, names, leaves


def _parse(value: Any, path: str, names: list[str], leaves: list[Any]) -> Node:
    if type(value) is np.ndarray:  # most leaves are: nothing else has to be asked
        names.append(path or "0")
        leaves.append(value)
        return LEAF
    if isinstance(value, Iterator):
        value = list(value)
    if isinstance(value, Mapping):
        keys, items = tuple(value), list(value.values())
    elif isinstance(value, (list, tuple)):
        keys, items = None, list(value)
    else:
        names.append(path or "0")
        leaves.append(value)
        return LEAF
    steps = keys if keys is not None else range(len(items))
    children = tuple(
        _parse(item, f"{path}.{step}" if path else str(step), names, leaves)
        for step, item in zip(steps, items, strict=True)
    )
    rows = keys is None and all(isinstance(child, Branch) and child.flat and child.keys is None for child in children)
    lengths = [len(child.children) for child in children if isinstance(child, Branch)] if rows else None
    return Branch(path, keys, children, all(child is LEAF for child in children), lengths)


def leaf_count(node: Node) -> int:
    """Return the number of leaves of a structure."""
    if isinstance(node, Leaf):
        return 1
    return len(node.children) if node.flat else sum(map(leaf_count, node.children))


def built(node: Node, leaves: Sequence[Any]) -> Any:
    """A structure of the form ``node`` with other leaves, in order: dicts, and lists for whatever had no keys."""
    return _built(node, iter(leaves))


def _built(node: Node, leaves: Iterator[Any]) -> Any:
    if isinstance(node, Leaf):
        return next(leaves)
    items = [_built(child, leaves) for child in node.children]
    return items if node.keys is None else dict(zip(node.keys, items, strict=True))


def is_flat_list(node: Node) -> bool:
    """Whether a list or tuple of leaves has this form: its items are the leaves."""
    return isinstance(node, Branch) and node.flat and node.keys is None


def match(node: Node, structure: Any, what: str = "gradients") -> list[Any]:
    """The leaves of another structure of the same form, in order. ``what`` names it in messages.

    Dicts are matched by key, whatever their order; a list matches a tuple.

    Raises
    ------
    ValueError, TypeError
        When a key or an item is missing, too many, or of another kind.
    """
    if isinstance(node, Branch) and node.flat:
        return _items(node, structure, what)  # a list in place of an array is found when the arrays are looked at
    rows = isinstance(node, Branch) and node.lengths is not None and is_rows(structure)
    if rows and list(map(len, structure)) == node.lengths:  # type: ignore[union-attr]
        return list(chain.from_iterable(structure))
    leaves: list[Any] = []
    _match(node, structure, what, leaves)
    return leaves


def is_rows(structure: Any) -> bool:
    """Return whether a structure is a list or tuple of lists and tuples."""
    return type(structure) in _ROWS and _ROWS.issuperset(map(type, structure))


_ROWS = frozenset({list, tuple})


def _match(node: Node, value: Any, what: str, leaves: list[Any]) -> None:
    if isinstance(node, Leaf):
        leaves.append(value)
        return
    for child, item in zip(node.children, _items(node, value, what), strict=True):
        _match(child, item, what, leaves)


def _items(node: Branch, value: Any, what: str) -> list[Any]:
    if node.keys is not None:
        if type(value) is dict or isinstance(value, Mapping):  # the first test is the faster one
            if len(value) == len(node.keys):
                try:
                    return [value[key] for key in node.keys]
                except KeyError:
                    pass
            missing = [str(key) for key in node.keys if key not in value]
            extra = [str(key) for key in value if key not in node.keys]
            said = [
                f"{word} {', '.join(map(repr, keys))}"
                for word, keys in (("no", missing), ("not expected:", extra))
                if keys
            ]
            raise ValueError(
                f"{what}{_at(node)} do not fit the parameters: {'; '.join(said)} (None stands for no gradient)"
            )
    else:
        if isinstance(value, Iterator):
            value = list(value)
        if isinstance(value, (list, tuple)):
            if len(value) == len(node.children):
                return list(value)
            raise ValueError(
                f"{what}{_at(node)} do not fit the parameters: expected {len(node.children)} items, got {len(value)} "
                "(None stands for no gradient)"
            )
    kind = "a dict" if node.keys is not None else "a list or tuple"
    raise TypeError(f"{what}{_at(node)} do not fit the parameters: expected {kind}, got {type(value).__name__}")


def _at(node: Branch) -> str:
    return f" at {node.path!r}" if node.path else ""
