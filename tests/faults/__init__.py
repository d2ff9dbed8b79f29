"""Deliberate faults, to measure what the tests catch: `python -m tests.faults`."""
