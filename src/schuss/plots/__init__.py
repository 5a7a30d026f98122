"""Pictures of gradient descent, drawn with matplotlib (``pip install 'schuss[demo]'``); no display is needed.

    problem = schuss.problems.rosenbrock()
    runs = {name: schuss.problems.train(problem, name, record="step") for name in ("momentum", "adam")}
    schuss.plots.contour(problem, runs, path="rosenbrock.png")

An optimizer has the same colour, marker and dash in all of them. Each function returns the figure, and writes it where
``path`` says.
"""

from .curves import curve, losses, lr_sweep, step_times
from .maps import contour, gradient_field, strategies
from .scene import stationary_points
from .space import race, surface

__all__ = [
    "contour",
    "curve",
    "gradient_field",
    "losses",
    "lr_sweep",
    "race",
    "stationary_points",
    "step_times",
    "strategies",
    "surface",
]
