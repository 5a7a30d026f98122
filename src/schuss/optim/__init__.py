"""The named optimizers: one class each, its signature, its defaults and what it means.

Imported when they are used; :mod:`schuss.optim.registry` knows where each is.
"""
