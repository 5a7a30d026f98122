"""How a value lives in memory: dtypes, 8-bit blocks, stochastic rounding."""
