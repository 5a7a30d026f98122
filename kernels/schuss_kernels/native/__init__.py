"""The native backend: kernels compiled ahead of time, launched by the C extension."""
