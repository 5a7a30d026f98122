"""The options that every optimizer has beside its hyper-parameters, most of them about how values are stored."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict

import numpy as np
from schuss_kernels.storage.dtypes import BY_NAME, Storage

from .validate import did_you_mean, number, whole

STATE_8BIT = "8bit"
STATE_DTYPES = ("float32", "bfloat16", "float16", STATE_8BIT)
MIN_8BIT_SIZE = 4096
"""States of smaller tensors take little memory, and biases and norms are sensitive (Dettmers et al. 2022)."""

MASTERS = ("float32", "remainder")
ROUNDINGS = ("nearest", "stochastic")


class CommonOptions(TypedDict, total=False):
    """The keyword arguments of all optimizers; :class:`schuss.Optimizer` says what they mean."""

    maximize: bool
    threads: int | None
    backend: str
    state_dtype: Any
    master: str | None
    rounding: str
    seed: int
    ema: float | None
    copy_to: Any
    min_8bit_size: int


class StorageOptions(NamedTuple):
    """How values are stored, checked.

    Attributes
    ----------
    state
        Storage of the states, None for the dtype that they are computed in.
    master
        ``"float32"`` or ``"remainder"``, empty without master weights.
    stochastic
        Whether values are rounded at random.
    seed
        Of the random bits.
    ema
        Decay of the moving average of the parameters, None without one.
    min_8bit_size
        Minimum of elements of a tensor whose states are in 8 bits, None where no states are.
    """

    state: Storage | None
    master: str
    stochastic: bool
    seed: int
    ema: float | None
    min_8bit_size: int | None = None

    def states_in_8bit(self, size: int) -> bool:
        """Return whether the states of a tensor of ``size`` elements are in 8 bits."""
        return self.min_8bit_size is not None and size >= self.min_8bit_size


def storage_options(
    state_dtype: Any, master: Any, rounding: Any, seed: Any, ema: Any, min_8bit_size: Any
) -> StorageOptions:
    """Check the options of :class:`schuss.Optimizer` that have these names.

    Raises
    ------
    TypeError, ValueError
        For a value that an option does not have; the message names the option.
    """
    if state_dtype is not None and not isinstance(state_dtype, str):
        try:
            state_dtype = np.dtype(state_dtype).name
        except TypeError:
            raise TypeError(f"state_dtype: expected {_or(STATE_DTYPES)} or None, got {state_dtype!r}") from None
    if state_dtype is not None:
        _one_of("state_dtype", state_dtype, STATE_DTYPES)
    smallest = _whole("min_8bit_size", min_8bit_size, 1 << 63)
    state = None if state_dtype in (None, STATE_8BIT) else BY_NAME[state_dtype]
    if state is not None:
        _ = state.dtype  # tells where ml_dtypes is missing
    seed = _whole("seed", seed, 1 << 64)
    if ema is not None:
        try:
            ema = number(ema)
        except TypeError as error:
            raise TypeError(f"ema: {error} or None, got {ema!r}") from None
        if not 0.0 <= ema < 1.0:
            raise ValueError(f"ema: expected at least 0 and below 1, got {ema!r}")
    return StorageOptions(
        state,
        "" if master is None else _one_of("master", master, MASTERS),
        _one_of("rounding", rounding, ROUNDINGS) == "stochastic",
        seed,
        ema,
        smallest if state_dtype == STATE_8BIT else None,
    )


def _whole(name: str, value: Any, end: int) -> int:
    try:
        found = whole(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}, got {value!r}") from None
    if not 0 <= found < end:
        raise ValueError(f"{name}: expected a number of at least 0 and below 2**{end.bit_length() - 1}, got {found}")
    return found


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        near = did_you_mean(value, known) if isinstance(value, str) else ""
        raise ValueError(f"{name}: expected {_or(known)}, got {value!r}{near}")
    return value


def _or(known: tuple[str, ...]) -> str:
    *most, last = map(repr, known)
    return f"{', '.join(most)} or {last}"
