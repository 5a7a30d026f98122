"""What every optimizer takes beside its hyper-parameters: how values are kept, and what else a step writes."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from schuss_kernels.storage.dtypes import BY_NAME, Storage

from .validate import did_you_mean

EIGHT = "8bit"
STATE_DTYPES = ("float32", "bfloat16", "float16", EIGHT)
MIN_8BIT_SIZE = 4096
"""What a small tensor's states take hardly counts, and biases and norms are sensitive (Dettmers et al. 2022)."""

MASTERS = ("float32", "remainder")
ROUNDINGS = ("nearest", "stochastic")


class CommonOptions(TypedDict, total=False):
    """The keyword arguments that all optimizers have; :class:`schuss.Optimizer` says what they mean."""

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


@dataclass(frozen=True)
class StorageOptions:
    """How values are kept, checked. ``state``: None: as they are computed. ``eight``: the least elements of a tensor
    whose states are in 8 bits, None: they never are."""

    state: Storage | None
    master: str
    stochastic: bool
    seed: int
    ema: float | None
    eight: int | None = None

    def quantizes(self, size: int) -> bool:
        """Whether the states of a tensor of so many elements are in 8 bits."""
        return self.eight is not None and size >= self.eight


def storage_options(
    state_dtype: Any, master: Any, rounding: Any, seed: Any, ema: Any, min_8bit_size: Any
) -> StorageOptions:
    """The arguments of these names, checked.

    Raises
    ------
    TypeError, ValueError
        For what is none of the values there are.
    """
    if state_dtype is not None and not isinstance(state_dtype, str):
        try:
            state_dtype = np.dtype(state_dtype).name
        except TypeError:
            raise TypeError(f"state_dtype: expected {_or(STATE_DTYPES)} or None, got {state_dtype!r}") from None
    if state_dtype is not None:
        _one_of("state_dtype", state_dtype, STATE_DTYPES)
    eight = _whole("min_8bit_size", min_8bit_size, 1 << 63)
    state = None if state_dtype in (None, EIGHT) else BY_NAME[state_dtype]
    if state is not None:
        _ = state.dtype  # tells where ml_dtypes is missing
    seed = _whole("seed", seed, 1 << 64)
    if ema is not None:
        if isinstance(ema, (bool, np.bool_)) or not isinstance(ema, (int, float, np.integer, np.floating)):
            raise TypeError(f"ema: expected a number or None, got {ema!r}")
        ema = float(ema)
        if not 0.0 <= ema < 1.0:
            raise ValueError(f"ema: expected at least 0 and below 1, got {ema!r}")
    return StorageOptions(
        state,
        "" if master is None else _one_of("master", master, MASTERS),
        _one_of("rounding", rounding, ROUNDINGS) == "stochastic",
        seed,
        ema,
        eight if state_dtype == EIGHT else None,
    )


def _whole(name: str, value: Any, end: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, got {value!r}") from None
    if not 0 <= number < end:
        raise ValueError(f"{name}: expected a number of at least 0 and below 2**{end.bit_length() - 1}, got {number}")
    return number


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        near = did_you_mean(value, known) if isinstance(value, str) else ""
        raise ValueError(f"{name}: expected {_or(known)}, got {value!r}{near}")
    return value


def _or(known: tuple[str, ...]) -> str:
    *most, last = map(repr, known)
    return f"{', '.join(most)} or {last}"
