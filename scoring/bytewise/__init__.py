"""
The core's work on single bytes, compiled: reading JSON and numbers, digests, writing both.

Each module has plain functions that Numba compiles, and over them the function that the core calls,
which takes and gives columns.
"""
