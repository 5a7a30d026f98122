"""Lion and LAMB beside Optax's, jitted, with donated buffers: the times in one process, turn by turn.

pip install optax && python bench/against_optax.py
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
import optax

import schuss
from schuss.commands import timing, workloads

PAIRS = {
    "Lion": (partial(schuss.Lion, lr=1e-4, weight_decay=1e-3), partial(optax.lion, 1e-4, weight_decay=1e-3)),
    "LAMB": (partial(schuss.LAMB, lr=1e-3, convention="optax"), partial(optax.lamb, 1e-3)),
}
ROUNDS = 15


def theirs(make: Callable, start: list[np.ndarray], gradients: list[np.ndarray]) -> tuple[Callable, Callable]:
    """A step of Optax's, and what gives its parameters."""
    optimizer = make()
    held = [jax.numpy.asarray(array) for array in start]
    state, given = optimizer.init(held), [jax.numpy.asarray(array) for array in gradients]

    @partial(jax.jit, donate_argnums=(0, 1))
    def update(held, state, given):
        updates, state = optimizer.update(given, state, held)
        return optax.apply_updates(held, updates), state

    def step() -> None:
        nonlocal held, state
        held, state = update(held, state, given)
        jax.block_until_ready(held)

    return step, lambda: [np.asarray(array) for array in held]


def main() -> None:
    """Compare the first step, then time."""
    load = workloads.workload("resnet18")
    gradients = workloads.random_arrays(load.shapes, 2, 0.1)
    print(f"{load}; jax {jax.__version__}, optax {optax.__version__}")
    for name, (ours, make) in PAIRS.items():
        params = workloads.random_arrays(load.shapes, 1)
        step, their_params = theirs(make, params, gradients)
        optimizer = ours(params)
        optimizer.step(gradients)
        step()
        for one, other in zip(params, their_params(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
        made = [timing.Contender("schuss", lambda o=optimizer: o.step(gradients)), timing.Contender("optax", step)]
        timing.interleave(made, ROUNDS)
        mine, its = (contender.summary()["median_s"] * 1e3 for contender in made)
        print(f"{name}: schuss {mine:.2f} ms ({optimizer.backend}), optax {its:.2f} ms, {its / mine:.1f} times as long")


if __name__ == "__main__":
    main()
