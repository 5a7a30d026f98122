"""What updates share: functions of one number that are the same bits in numpy, on the CPU and on CUDA."""


def larger(a, b):
    """The larger of two; NaN where either is, as ``numpy.maximum``."""
    return a if a >= b else (b if b == b and a == a else a + b)


def sign(x):
    """-1, 0 or 1; NaN where ``x`` is, as ``numpy.sign``."""
    return 1.0 if x > 0.0 else (-1.0 if x < 0.0 else x * 0.0 + 0.0)
