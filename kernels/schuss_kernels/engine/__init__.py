"""The engines: the base classes of all backends, the numpy reference, and the engine of matrix rules."""
