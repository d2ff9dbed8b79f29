"""The mean of a model's weights over the last steps, which errs less than the last ones do."""

import copy
from typing import Any

import torch
from torch import nn


class AverageModel:
    """The exponential moving average of a model's weights (Polyak & Juditsky 1992).

    It forgets faster to begin with, so that the first weights weigh no more than the later ones.
    Steps are counted on the host: `torch.optim.swa_utils` would wait for a GPU at each of them.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the model's weights after a step; buffers are those of the model."""
        share = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.steps else 0.0
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - share)
        for own, new in zip(self.model.buffers(), model.buffers(), strict=True):
            own.copy_(new)
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "steps": self.steps}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        self.model.load_state_dict(content["model"])
        self.steps = content["steps"]
