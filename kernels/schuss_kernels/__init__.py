"""The kernels of schuss: rules, storages, the chunk table and the launchers.

Importing this package imports numpy alone; numba comes in with :mod:`schuss_kernels.cpu`, numba-cuda with
:mod:`schuss_kernels.cuda`, each when the first kernel is asked for.
"""
