"""Backends that compute whole recurrences: the C++, Triton and cuDNN kernels."""
