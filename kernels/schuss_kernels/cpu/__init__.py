"""The CPU backend: kernels that numba compiles when they are first used, and its launcher."""
