"""The CUDA backend: the same rules and plan on numba-cuda."""
