"""Inspection of recurrences: states and gates at each step, and gradient norms."""
