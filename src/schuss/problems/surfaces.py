"""Functions of one and of two numbers, to look at."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .problem import Params, Problem
from .rates import RATES


def sine_parabola() -> Problem:
    """Ascent on f(x) = 25 sin x - x**2 from x = -2.

    It ends at the local maximum nearby, x = -4.35641 (f = 4.4543). The answer is the global one, x = 1.4542
    (f = 22.7156), which another start finds.
    """
    return Problem(
        name="sine_parabola",
        title="25 sin x - x²",
        source="a function of teaching: two local maxima and the global one",
        start=lambda: {"x": np.full(1, -2.0)},
        loss=lambda params: float(25.0 * np.sin(params["x"][0]) - params["x"][0] ** 2),
        gradient=lambda params: {"x": 25.0 * np.cos(params["x"]) - 2.0 * params["x"]},
        answer={"x": np.array([1.4541965749766173])},
        maximize=True,
        view=((-8.0, 8.0), (-70.0, 30.0)),
        lrs=RATES["sine_parabola"],
        epochs=60,
    )


def _surface(function: Callable[..., float], slopes: Callable[..., tuple[float, float]]) -> tuple[Callable, Callable]:
    """Loss and gradient of a function of the numbers x and y."""

    def loss(params: Params) -> float:
        return float(function(params["x"][0], params["y"][0]))

    def gradient(params: Params) -> Params:
        x, y = slopes(params["x"][0], params["y"][0])
        return {"x": np.array([x]), "y": np.array([y])}

    return loss, gradient


def _point(x: float, y: float) -> Params:
    return {"x": np.full(1, float(x)), "y": np.full(1, float(y))}


def ripples() -> Problem:
    """f(x, y) = cos(3x + 2y) + cos(2x + 4y) - 2 sin(x + y): minima, maxima and saddles side by side.

    From (-1.2, 0.7) the way down winds between two hills to the answer, (0.848354, 0.382108), one of the global minima:
    there are two in each period of 2 pi in x and in y (f = -2.734549 is a local one, f = -3.867772 the global).
    """
    loss, gradient = _surface(
        lambda x, y: np.cos(3.0 * x + 2.0 * y) + np.cos(2.0 * x + 4.0 * y) - 2.0 * np.sin(x + y),
        lambda x, y: (
            -3.0 * np.sin(3.0 * x + 2.0 * y) - 2.0 * np.sin(2.0 * x + 4.0 * y) - 2.0 * np.cos(x + y),
            -2.0 * np.sin(3.0 * x + 2.0 * y) - 4.0 * np.sin(2.0 * x + 4.0 * y) - 2.0 * np.cos(x + y),
        ),
    )
    return Problem(
        name="ripples",
        title="cos(3x + 2y) + cos(2x + 4y) - 2 sin(x + y)",
        source="a function of teaching: three waves on top of each other",
        start=lambda: _point(-1.2, 0.7),
        loss=loss,
        gradient=gradient,
        answer=_point(0.84835414, 0.38210802),
        view=((-math.pi, math.pi), (-math.pi, math.pi)),
        lrs=RATES["ripples"],
        epochs=100,
    )


def rosenbrock() -> Problem:
    """f(x, y) = (1 - x)**2 + 100 (y - x**2)**2 from (-1.2, 1): a bent valley, steep across and nearly flat along.

    The minimum, 0, is at (1, 1). Source: Rosenbrock 1960, An Automatic Method for Finding the Greatest or Least Value
    of a Function.
    """
    loss, gradient = _surface(
        lambda x, y: (1.0 - x) ** 2 + 100.0 * (y - x**2) ** 2,
        lambda x, y: (-2.0 * (1.0 - x) - 400.0 * x * (y - x**2), 200.0 * (y - x**2)),
    )
    return Problem(
        name="rosenbrock",
        title="Rosenbrock's valley",
        source="Rosenbrock 1960, The Computer Journal 3(3)",
        start=lambda: _point(-1.2, 1.0),
        loss=loss,
        gradient=gradient,
        answer=_point(1.0, 1.0),
        view=((-1.8, 1.8), (-0.8, 2.2)),
        lrs=RATES["rosenbrock"],
        epochs=2000,
    )


def quadratic(condition: float = 100.0, angle: float = 30.0) -> Problem:
    """A bowl, f(x, y) = (u**2 + condition * v**2) / 2, where (u, v) is (x, y) in axes that are turned by ``angle``.

    ``condition`` is the condition number of the Hessian, at least 1: plain descent needs some ``condition`` steps, and
    momentum its root. At an angle of 0 the optimizers that scale each coordinate (Adam, AdaGrad, RMSprop) see a round
    bowl; in between they do not. The start is at distance 2 from the minimum, 0 at (0, 0), with u = v.

    Raises
    ------
    ValueError
        Unless ``condition`` is finite and at least 1, and ``angle``, in degrees, finite.
    """
    if not 1.0 <= condition < math.inf:
        raise ValueError(f"condition: expected a finite number of at least 1, got {condition!r}")
    if not math.isfinite(angle):
        raise ValueError(f"angle: expected a finite number of degrees, got {angle!r}")
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))

    def slopes(x: float, y: float) -> tuple[float, float]:
        u, v = cos * x + sin * y, condition * (cos * y - sin * x)
        return cos * u - sin * v, sin * u + cos * v

    loss, gradient = _surface(
        lambda x, y: ((cos * x + sin * y) ** 2 + condition * (cos * y - sin * x) ** 2) / 2.0, slopes
    )
    far = math.sqrt(2.0)
    return Problem(
        name="quadratic",
        title=f"a quadratic of condition number {condition:g}",
        source="the model problem of convergence theory: Nocedal & Wright 2006, Numerical Optimization, section 3.3",
        start=lambda: _point(far * (cos - sin), far * (sin + cos)),
        loss=loss,
        gradient=gradient,
        answer=_point(0.0, 0.0),
        view=((-2.5, 2.5), (-2.5, 2.5)),
        lrs=RATES["quadratic"],
        epochs=200,
    )
