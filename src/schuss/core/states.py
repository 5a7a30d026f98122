"""The arrays that stand beside a parameter: states, master weight, moving average, slow weights, copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from schuss_kernels.lang.matrix_rule import MatrixRule
from schuss_kernels.lang.rule import PARAMETER, Rule
from schuss_kernels.plan.spec import quantized_storages
from schuss_kernels.storage import quantization
from schuss_kernels.storage.dtypes import CODES, storage_of
from schuss_kernels.storage.memory import Memory, dense_strides, memory_order
from schuss_kernels.storage.stochastic_rounding import joined

from . import arrays
from .arena import Arena
from .overlap import overlapping
from .parameters import Parameters
from .storage_options import StorageOptions


def compute_dtype(parameter: Memory) -> np.dtype:
    """Return the dtype that steps of a parameter are computed in: float64 for float64, else float32."""
    storage = storage_of(parameter.dtype)
    assert storage is not None, parameter.dtype
    return storage.compute


def new_state(
    arena: Arena | _Blueprints, options: StorageOptions, parameter: Memory, rule: Rule, field: str, fill: Any
) -> Memory:
    """Make a state of a parameter, every element ``fill``; a copy of the parameter where ``fill`` is ``PARAMETER``."""
    if fill is PARAMETER:
        return _like(arena, parameter, compute_dtype(parameter))
    shape = rule.state_shape(field, parameter.shape) if isinstance(rule, MatrixRule) else None
    if shape is not None:
        return arena.array(_dense(parameter, shape, compute_dtype(parameter)), compute_dtype(parameter), fill)
    if not options.states_in_8bit(parameter.size):
        return arena.array(parameter, compute_dtype(parameter) if options.state is None else options.state.dtype, fill)
    storage = quantized_storages(rule)[rule.State._fields.index(field)]
    code, scale = quantization.encode(np.full(1, fill, np.float32), storage is CODES)
    row = quantization.scale_count(parameter.size)
    scales = arena.array(_dense(parameter, (row,), np.dtype(np.float32)), np.dtype(np.float32), scale[0])
    return replace(arena.array(parameter, storage.dtype, code[0]), scales=scales)


class _Blueprints:
    """Takes the place of an arena where arrays are only described."""

    def array(self, like: Memory, dtype: np.dtype, fill: float) -> Memory:
        strides = dense_strides(like.shape, memory_order(like.shape, like.strides), dtype.itemsize)
        return replace(like, array=None, address=0, dtype=dtype, strides=strides)


_BLUEPRINTS = _Blueprints()


def described(options: StorageOptions, parameter: Memory, rule: Rule, fills: Sequence[Any]) -> tuple[Memory, ...]:
    """Describe the states of a parameter, as :func:`new_state` makes them, without their memory."""
    return tuple(
        _BLUEPRINTS.array(parameter, compute_dtype(parameter), 0.0)
        if fill is PARAMETER
        else new_state(_BLUEPRINTS, options, parameter, rule, field, fill)
        for field, fill in zip(rule.State._fields, fills, strict=True)
    )


def state_shape(rule: Rule, field: str, parameter: Memory) -> tuple[int, ...]:
    """Return the shape of a state of a parameter: the parameter's, unless a matrix rule says otherwise."""
    own = rule.state_shape(field, parameter.shape) if isinstance(rule, MatrixRule) else None
    return parameter.shape if own is None else own


def _dense(parameter: Memory, shape: tuple[int, ...], dtype: np.dtype) -> Memory:
    """Describe an array in C order that is to lie where the parameter does, and has no memory yet."""
    strides = dense_strides(shape, range(len(shape)), dtype.itemsize)
    return replace(parameter, array=None, address=0, dtype=dtype, shape=shape, strides=strides)


def _like(arena: Arena | _Blueprints, parameter: Memory, dtype: np.dtype) -> Memory:
    """Make an array with the parameter's values."""
    made = arena.array(parameter, dtype, 0.0)
    arrays.write(made, arrays.read(parameter).astype(dtype))
    return made


def beside(arena: Arena, options: StorageOptions, parameter: Memory, copy: Memory | None) -> dict[str, Memory]:
    """Make what a parameter has beside its states: master weight and moving average, and the copy it is given."""
    others = {}
    if options.master:
        dtype = np.dtype(np.float32 if options.master == "float32" else np.uint16)
        others["master"] = arena.array(parameter, dtype, 0)
    if options.ema is not None:
        others["ema"] = arena.array(parameter, compute_dtype(parameter), 0.0)
    if copy is not None:
        others["copy"] = copy
    take_weights(options, parameter, others)
    return others


def take_weights(
    options: StorageOptions, parameter: Memory, others: Mapping[str, Memory], weights: Sequence[Memory] = ()
) -> None:
    """Write a parameter's values into all that is kept of it: what stands beside it, and the states in ``weights``."""
    values = arrays.read(parameter).astype(compute_dtype(parameter))
    for memory in (*weights, *(memory for name, memory in others.items() if name not in ("master", "copy"))):
        arrays.write(memory, values)
    if options.master:
        master = others["master"]
        arrays.write(master, values if options.master == "float32" else np.zeros(master.shape, master.dtype))
    fill_copy(options, parameter, others)


def fill_copy(options: StorageOptions, parameter: Memory, others: Mapping[str, Memory]) -> None:
    """Write a parameter's exact values into its copy, rounded as in a step, where there is a copy."""
    if "copy" in others:
        copy, values = others["copy"], exact(options, parameter, others)
        if copy.dtype.itemsize <= 2:
            values = values.astype(np.float32)  # from float64 to 16 bits by way of float32
        with np.errstate(all="ignore"):
            arrays.write(copy, values)


def exact(options: StorageOptions, parameter: Memory, others: Mapping[str, Memory]) -> np.ndarray:
    """Return a copy of a parameter's values in its compute dtype: of its master weight, where it has one."""
    values = arrays.read(parameter)
    if options.master == "float32":
        values = arrays.read(others["master"])
    elif options.master:
        values = joined(values.view(np.uint16), arrays.read(others["master"]))
    return values.astype(compute_dtype(parameter))


def copy_of_weights(arena: Arena, options: StorageOptions, parameter: Memory, others: Mapping[str, Memory]) -> Memory:
    """Make an array in the parameter's compute dtype with its values; with its master weight's, where it has one."""
    made = arena.array(parameter, compute_dtype(parameter), 0.0)
    arrays.write(made, exact(options, parameter, others))
    return made


def check_storage(options: StorageOptions, names: Sequence[str], parameters: Sequence[Memory]) -> None:
    """Raise a ValueError where parameters cannot be stored as the options say, naming one."""
    for name, parameter in zip(names, parameters, strict=True):
        if options.master and parameter.dtype.itemsize != 2:
            raise ValueError(
                f"master={options.master!r}: parameter {name!r} is {parameter.dtype}; only 16-bit ones have a master"
            )
        if options.master == "remainder" and parameter.dtype.name != "bfloat16":
            raise ValueError(f"master='remainder': parameter {name!r} is {parameter.dtype}, expected bfloat16")
    few_bits = options.min_8bit_size is not None or (options.state is not None and options.state.itemsize == 2)
    if options.stochastic and not few_bits and (options.master or all(p.dtype.itemsize > 2 for p in parameters)):
        raise ValueError("rounding='stochastic': no parameter and no state is rounded to 16 bits or fewer")


def copies(parameters: Parameters, copy_to: Any) -> list[Memory | None]:
    """Check the arrays that parameters are copied to (None: none is) and find where they lie, one a parameter.

    Raises
    ------
    TypeError, ValueError
        When one cannot be used, or shares memory with a parameter or another copy.
    """
    names, memories = parameters.names, parameters.memories
    if copy_to is None:
        return [None] * len(names)
    given = parameters.match(copy_to, "copy_to")
    made: list[Memory | None] = [
        arrays.copy(array, name, parameter) for array, name, parameter in zip(given, names, memories, strict=True)
    ]
    clash = overlapping([*memories, *(copy for copy in made if copy is not None)])
    if clash is not None:
        raise ValueError(f"copy_to of {names[clash[1] - len(names)]!r} shares memory with another array")
    return made


def by_saved_name(states: dict[str, Memory]) -> dict[str, Memory]:
    """Return states by the names that they are saved under; 8-bit codes are followed by their scales."""
    if all(memory.scales is None for memory in states.values()):
        return states
    scales = {f"{field}.scale": memory.scales for field, memory in states.items() if memory.scales is not None}
    return {**states, **scales}


def expected_gradient(parameter: Memory) -> tuple[np.dtype, tuple[int, ...]]:
    """Return dtype and strides (bytes) of the gradient to expect: the parameter's, C order where it is not dense."""
    order = memory_order(parameter.shape, parameter.strides)
    if dense_strides(parameter.shape, order, parameter.dtype.itemsize) != parameter.strides:
        order = list(range(len(parameter.shape)))
    return parameter.dtype, dense_strides(parameter.shape, order, parameter.dtype.itemsize)
