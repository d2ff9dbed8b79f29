"""Sizes, words and weights of the small models that the tests export."""

import torch

WORDS = ["<pad>", "<unk>", "it", "is", "good", "bad", "not", ".", ",", *"abcdefghijklmnopqrstu"]
SMALL = {"embedding_size": 5, "hidden_size": 4, "window": 5}


@torch.no_grad()
def randomise(model):
    """Set large random weights; small ones hide errors in gates."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.uniform_(-1, 1)
    return model.eval()
