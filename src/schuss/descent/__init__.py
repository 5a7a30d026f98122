"""Minimizing a function of arrays: objectives, gradients, batches."""
