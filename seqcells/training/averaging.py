"""The mean of a model's weights over the last steps, which errs less than the last ones do."""

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """The exponential moving average of the model's weights (Polyak & Juditsky 1992).

    It forgets faster to begin with, so that the first weights weigh no more than the later ones.
    """

    def update(averages: list[Tensor], weights: list[Tensor], steps: Tensor) -> None:
        share = min(decay, (1 + float(steps)) / (10 + float(steps)))
        torch._foreach_lerp_(averages, weights, 1 - share)

    return AveragedModel(model, multi_avg_fn=update).requires_grad_(False)
