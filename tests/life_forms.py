"""What random lives of optimizers are made of: which optimizers, storages, layouts and riders go together.

A form of life needs kernels. Where these have to be compiled, few forms do; where they are there, all may live.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from bits import BFLOAT16
from cases import CASES
from formulas import FORMULAS
from layouts import GRADIENT_LAYOUTS, like

import schuss

F32, F64 = (np.float32,), (np.float64,)
SHAPES = [(40,), (), (3,), (6, 5), (0,), (9000,), (2, 3, 4), (1, 7), (4097,), (70, 60), (3, 0, 2), (100, 3), (150_000,)]
LAYOUTS = [like, *(GRADIENT_LAYOUTS[name] for name in ("C", "F", "every second", "reversed"))]
RIDERS = {
    "grad_scale": [1 / 3, 2.0, -1.0, 1 / 65536],
    "clip_norm": [0.5, 1e3, 1e-3],
    "clip_value": [0.01, 10.0],
    "skip_nonfinite": [True],
    "zero_grad": [True],
}
READING = ("grad_scale", "clip_norm", "skip_nonfinite")
"""Riders that need no other kernel."""


@dataclass(frozen=True)
class Form:
    """Which optimizers live together with which storages, layouts and riders."""

    cases: list = field(default_factory=lambda: CASES)
    dtypes: tuple = F32
    options: tuple = ({},)
    strided: bool = True
    riders: tuple = READING
    lookahead: bool = False
    mixed: bool = False  # gradients of other dtypes
    edits: bool = True  # of options that choose another rule


STORAGES = (
    {},
    {"state_dtype": "bfloat16"},
    {"state_dtype": "float16"},
    {"state_dtype": "8bit", "min_8bit_size": 1},
    {"state_dtype": "8bit", "min_8bit_size": 1000},
    {"master": "float32"},
    {"master": "remainder", "state_dtype": "bfloat16"},
)
ANY = Form(
    dtypes=(np.float32, np.float64, BFLOAT16, np.float16),
    options=tuple(
        {**storage, **more}
        for storage in STORAGES
        for more in ({}, {"ema": 0.9}, {"rounding": "stochastic", "seed": 2**63 + 5}, {"ema": 0.0, "copy_to": True})
    ),
    riders=tuple(RIDERS),
    lookahead=True,
    mixed=True,
)
WITH_FORMULAS = [case for case in CASES if case.make.__name__ in FORMULAS and "convention" not in case.options]
EXACT = {
    name: Form(
        [case for case in WITH_FORMULAS if case.make.__name__ == name],
        F64,
        ({}, {"ema": 0.9}),
        riders=tuple(RIDERS),
        lookahead=True,
    )
    for name in FORMULAS
}
"""By the names of the optimizers that have a formula."""
AHEAD = [
    Form(dtypes=(np.float32, np.float64)),
    Form(WITH_FORMULAS, F64),
    Form(options=({"state_dtype": "8bit", "min_8bit_size": 1},), strided=False),
    Form(options=({"state_dtype": "bfloat16"},), strided=False),
    Form(dtypes=(BFLOAT16,), strided=False),
    Form(options=({"ema": 0.9},), strided=False),
    Form(riders=(*READING, "zero_grad"), strided=False),
]
"""Kernels that are compiled ahead of time."""
ADAMW, SGD = (next(case for case in CASES if case.make is make) for make in (schuss.AdamW, schuss.SGD))
COMPILED = [
    Form([ADAMW], riders=(*READING, "zero_grad"), edits=False),
    Form([SGD], options=({"ema": 0.9},), strided=False, lookahead=True, edits=False),
    Form([ADAMW], F64, strided=False, edits=False),
]
"""Few kernels, where a compiler has to make them."""
