"""Functions for the ``update`` and ``measure`` of your own rules, with the same bits on every backend.

The functions of ``math`` and NumPy round differently from one library, processor and backend to another. These are made
of arithmetic that IEEE 754 rounds correctly, take zeros with their sign, infinities, NaN and subnormal numbers as C's
functions do, and keep loops vectorised::

    from schuss.elementary import tanh

    def update(p, g, s, h):
        return p - h.lr * tanh(g / h.scale), s

They also take numbers and arrays of float32 and float64, so that a rule's ``reference`` can call them on whole arrays.

The largest error in units in the last place (ulp), found over every float32 number, or every few, between where the
result is trivial, over millions of pairs, and over millions of random float64 numbers:

================= ======= ======= =======================================================
function          float32 float64 takes
================= ======= ======= =======================================================
exp(x)            0.87    0.87
log(x)            0.84    0.88    NaN below zero
log1p(x)          2.1     2.1     NaN below -1
tanh(x)           2.5     2.5
sigmoid(x)        2.5     2.5     1 / (1 + exp(-x))
power(x, y)       0.9     0.9     NaN for x below zero and y not whole
sin(x), cos(x)    0.86    0.86    radians, ``abs(x)`` to 2**20, in float64 2**49; NaN beyond
atan2(y, x)       2.3     2.3
cube_root(x)      2.5     2.5     x from zero
copysign(size, x) 0       0
================= ======= ======= =======================================================

Examples
--------
>>> import numpy as np
>>> from schuss.elementary import exp
>>> exp(0.0), exp(np.float32([0.0, 1.0]))
(1.0, array([1.       , 2.7182817], dtype=float32))
"""

from schuss_kernels.lang import float_bits, scalar_math
from schuss_kernels.lang.elementary import exp, log, log1p, power, sigmoid, tanh
from schuss_kernels.lang.specialize import Elementary
from schuss_kernels.lang.trigonometry import atan2, cos, sin

__all__ = ["atan2", "copysign", "cos", "cube_root", "exp", "log", "log1p", "power", "sigmoid", "sin", "tanh"]

copysign = Elementary(float_bits.copysign)
cube_root = Elementary(scalar_math.cube_root)
