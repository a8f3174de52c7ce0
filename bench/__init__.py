"""Benchmarks: `python -m bench`.  A file a peer, all measured in one run in turn, so that ratios can be trusted.

A peer's module has NAME and `running()`, a context manager that gives the function to be called with a blob.
"""
