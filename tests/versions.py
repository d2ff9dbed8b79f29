"""Marks of tests that an older version of torch cannot run."""

import pytest
import torch


def since(version: str, reason: str) -> pytest.MarkDecorator:
    """Skip a test below a version of torch, for the reason."""
    return pytest.mark.skipif(torch.__version__ < version, reason=f"torch {version}: {reason}")
