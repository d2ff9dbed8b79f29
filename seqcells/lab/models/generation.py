"""Text generation with a language model."""

from collections.abc import Iterator, Sequence

import torch

from seqcells.lab.models.inputs import END, UNKNOWN
from seqcells.lab.models.language import LanguageModel


@torch.no_grad()
def generate(
    model: LanguageModel,
    beginning: Sequence[int] = (),
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[int]:
    """Yield sampled tokens until the model ends the text.

    Log-probabilities are divided by `temperature`; at 0, decoding is greedy. `top_k` restricts
    sampling to the k most likely tokens. Time and memory per token are constant.

    Raises:
        ValueError: `temperature` is negative, `top_k` is below 1, or the model is bidirectional.
    """
    if temperature < 0:
        raise ValueError(f"temperature: expected a number of at least 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k: expected a whole number of at least 1, got {top_k}")
    if model.directions != 1:
        raise ValueError(
            "expected a unidirectional language model, got a bidirectional one; "
            "train with model.bidirectional false"
        )
    return _sample_tokens(model, beginning, temperature, top_k, generator)


def _sample_tokens(
    model: LanguageModel,
    beginning: Sequence[int],
    temperature: float,
    top_k: int | None,
    generator: torch.Generator | None,
) -> Iterator[int]:
    (hidden,), state = model(torch.tensor([END, *beginning]).unsqueeze(1))
    while True:
        token = _sample(model.next(hidden[-1])[0], temperature, top_k, generator)
        if token == END:
            return
        yield token
        (hidden,), state = model(torch.tensor([[token]]), state)


def _sample(
    log_probabilities: torch.Tensor,
    temperature: float,
    top_k: int | None,
    generator: torch.Generator | None,
) -> int:
    """Sample a token other than the unknown word."""
    logits = log_probabilities.index_fill(0, torch.tensor([UNKNOWN]), -torch.inf)
    if temperature == 0:
        return int(logits.argmax())
    if top_k is not None and top_k < len(logits):
        threshold = logits.topk(top_k).values[-1]
        logits = logits.masked_fill(logits < threshold, -torch.inf)
    return int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator))
