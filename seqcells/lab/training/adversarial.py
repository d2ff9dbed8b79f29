"""Inputs moved a little in the direction that hurts most, to be learnt beside the true ones."""

import torch
from torch import Tensor


def perturbation(loss: Tensor, vectors: Tensor, size: float) -> Tensor:
    """What to add to a batch's word vectors `(T, B, E)` (Miyato et al. 2017, section 3).

    For each text, along the gradient of the loss by its vectors, and in all as long as `size`
    times the mean length of the vectors; there each word's are scaled to unit variance instead.
    """
    (gradient,) = torch.autograd.grad(loss, vectors, retain_graph=True)
    length = vectors.detach().norm(dim=-1)
    words = (length > 0).sum().clamp(min=1)
    norm = gradient.square().sum((0, 2), keepdim=True).sqrt()
    return size * (length.sum() / words) * gradient / norm.clamp(min=torch.finfo(norm.dtype).tiny)
