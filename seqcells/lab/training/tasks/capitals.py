"""Capitalisation (truecasing) of lower-case text: many to many, aligned."""

import torch
from torch import nn

from seqcells.lab.models.sequences import SequenceTagger
from seqcells.lab.text.batches import truncate
from seqcells.lab.text.reviews import Review
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training.tasks.reviews import ReviewTask

LOWER, CAPITALISED, UPPER = range(3)


class Capitals(ReviewTask):
    """One tag per word: lower case, first letter upper case, or all upper case.

    Names, sentence beginnings and emphasis are inferred from the context. Labels come from the
    original text.
    """

    answers = True

    def example(self, review: Review, vocabulary: Vocabulary) -> tuple[list[int], list[int]]:
        data = self.config.data
        tokens = truncate(vocabulary.split(review.text), data.max_tokens, data.truncate)
        return [vocabulary.number(token.lower()) for token in tokens], list(map(tag_of, tokens))

    def build(self, vocabulary: Vocabulary) -> nn.Module:
        return SequenceTagger(self.config.model, len(vocabulary), tags=3)

    def answer(self, model: nn.Module, vocabulary: Vocabulary, text: str) -> str:
        tokens = vocabulary.tokenise(text)
        numbers = torch.tensor([vocabulary.number(token) for token in tokens]).unsqueeze(1)
        tags = model(numbers, torch.tensor([len(tokens)])).argmax(-1)[:, 0].tolist()
        forms = {LOWER: str.lower, CAPITALISED: str.capitalize, UPPER: str.upper}
        return " ".join(forms[tag](token) for tag, token in zip(tags, tokens))


def tag_of(token: str) -> int:
    if token.isupper() and sum(map(str.isalpha, token)) > 1:
        return UPPER
    return CAPITALISED if token[:1].isupper() else LOWER
