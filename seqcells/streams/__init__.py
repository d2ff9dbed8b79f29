"""Streams: a module that runs one step at a time, with its state in place."""

from seqcells.streams.stepper import Stepper

__all__ = ["Stepper"]
