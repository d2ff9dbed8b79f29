"""Computation of a recurrence: dispatch, autograd, backends and the reference implementation."""
