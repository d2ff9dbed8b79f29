"""Threads per worker, what depends on a GPU, and machines without kernels."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # the workers share the cores; set before torch is imported

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # set before Triton is imported
    collect_ignore = ["core/test_cuda.py", "training/test_training_cuda.py"]


def pytest_configure(config):
    """Let the suite run on a machine without kernels, where the Python loop warns."""
    from seqcells.kernels import cpu, triton  # after the variables above are set

    if cpu.unavailable() or (torch.cuda.is_available() and triton.unavailable()):
        config.addinivalue_line("filterwarnings", "ignore::seqcells.MissingKernelWarning")
