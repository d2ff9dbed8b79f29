"""One to many: a text out of its first tokens."""

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
    """Yield token after token, for as long as one likes or until the text ends.

    Each is drawn from the model's distribution, its log-probabilities divided by `temperature`:
    below 1 likely tokens grow likelier, at 0 the likeliest is taken. `top_k` leaves out all but so
    many of the likeliest. Time and memory for a token do not grow with the text.

    Raises:
        ValueError: a negative temperature, `top_k` below 1, a model of two directions.
    """
    if temperature < 0:
        raise ValueError(f"temperature: expected a number of at least 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k: expected a whole number of at least 1, got {top_k}")
    if model.directions != 1:
        raise ValueError("expected a language model of one direction, got one that reads backwards")
    return _draw(model, beginning, temperature, top_k, generator)


def _draw(
    model: LanguageModel,
    beginning: Sequence[int],
    temperature: float,
    top_k: int | None,
    generator: torch.Generator | None,
) -> Iterator[int]:
    (hidden,), state = model(torch.tensor([END, *beginning]).unsqueeze(1))
    while True:
        token = _choose(model.next(hidden[-1])[0], temperature, top_k, generator)
        if token == END:
            return
        yield token
        (hidden,), state = model(torch.tensor([[token]]), state)


def _choose(
    chances: torch.Tensor,
    temperature: float,
    top_k: int | None,
    generator: torch.Generator | None,
) -> int:
    """A token by its log-probability; an unknown word is no word to write."""
    chances = chances.index_fill(0, torch.tensor([UNKNOWN]), -torch.inf)
    if temperature == 0:
        return int(chances.argmax())
    if top_k is not None and top_k < len(chances):
        least = chances.topk(top_k).values[-1]
        chances = chances.masked_fill(chances < least, -torch.inf)
    return int(torch.multinomial((chances / temperature).softmax(-1), 1, generator=generator))
