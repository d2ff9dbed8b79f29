"""Recurrent networks for PyTorch, as open as a loop."""

__version__ = "0.1.0"
