"""Marks of tests that an older version of torch cannot run."""

import pytest
import torch


def since(version: str, reason: str) -> pytest.MarkDecorator:
    """Skip a test below a version of torch, for the reason."""
    return pytest.mark.skipif(torch.__version__ < version, reason=f"torch {version}: {reason}")


def without(release: str, reason: str) -> pytest.MarkDecorator:
    """Skip a test with a release of torch, such as 2.12, for the reason."""
    skipped = torch.__version__.startswith(f"{release}.")
    return pytest.mark.skipif(skipped, reason=f"torch {release}: {reason}")
