"""Threads per worker, and what depends on a GPU."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # the workers share the cores; set before torch is imported

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # set before Triton is imported
    collect_ignore = ["core/test_cuda.py", "training/test_training_cuda.py"]
