"""What runs a plan: the base of every backend, and the numpy reference."""
