"""What every optimizer takes beside its hyper-parameters: how values are kept, and what else a step writes."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from schuss_kernels.storage import BY_NAME, Storage

from .nearest import hint

STATE_DTYPES = ("float32", "bfloat16", "float16")
MASTERS = ("float32", "remainder")
ROUNDINGS = ("nearest", "stochastic")


class Common(TypedDict, total=False):
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


@dataclass(frozen=True)
class Keeping:
    """How values are kept, checked. ``state``: None: as they are computed."""

    state: Storage | None
    master: str
    stochastic: bool
    seed: int
    ema: float | None


def keeping(state_dtype: Any, master: Any, rounding: Any, seed: Any, ema: Any) -> Keeping:
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
    state = None if state_dtype is None else BY_NAME[_one_of("state_dtype", state_dtype, STATE_DTYPES)]
    if state is not None:
        _ = state.dtype  # tells where ml_dtypes is missing
    try:
        seed = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed: expected a whole number, got {seed!r}") from None
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed: expected a number of at least 0 and below 2**64, got {seed}")
    if ema is not None:
        if isinstance(ema, (bool, np.bool_)) or not isinstance(ema, (int, float, np.integer, np.floating)):
            raise TypeError(f"ema: expected a number or None, got {ema!r}")
        ema = float(ema)
        if not 0.0 <= ema < 1.0:
            raise ValueError(f"ema: expected at least 0 and below 1, got {ema!r}")
    return Keeping(
        state,
        "" if master is None else _one_of("master", master, MASTERS),
        _one_of("rounding", rounding, ROUNDINGS) == "stochastic",
        seed,
        ema,
    )


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        near = hint(value, known) if isinstance(value, str) else ""
        raise ValueError(f"{name}: expected {_or(known)}, got {value!r}{near}")
    return value


def _or(known: tuple[str, ...]) -> str:
    *most, last = map(repr, known)
    return f"{', '.join(most)} or {last}"
