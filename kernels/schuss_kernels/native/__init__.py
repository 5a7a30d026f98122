"""The backend ``"native"``: kernels compiled ahead of time, launched by the C extension."""
