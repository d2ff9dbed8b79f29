"""Adapters for other libraries, one module per library, which imports it.

Importing `seqcells` or this package imports none of them.
"""
