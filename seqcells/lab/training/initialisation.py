"""What a model may know before it is trained: word vectors, or another model's recurrence."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from seqcells.lab.models.inputs import VECTOR_SCALE, WordInputs
from seqcells.lab.text.vectors import read_vectors
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training.checkpoints import load_checkpoint
from seqcells.lab.training.runs import Run

if TYPE_CHECKING:
    from seqcells.lab.text.neighbours import Neighbours


def start_from_file(inputs: WordInputs, path: str, vocabulary: Vocabulary) -> str:
    """Copy word vectors from a text file; say how many words were found."""
    vectors, found = read_vectors(path, vocabulary.words, progress=sys.stderr.isatty())
    words = inputs.words
    if vectors.shape[1] != words.embedding_dim:
        raise ValueError(
            f"model.embedding_size: expected {vectors.shape[1]}, "
            f"the size of the vectors in {path}, got {words.embedding_dim}"
        )
    with torch.no_grad():
        words.weight.copy_(vectors)
    return f"vectors of {found:,} of {len(vocabulary) - 1:,} words from {path}"


def start_from_neighbours(inputs: WordInputs, texts: Sequence[Sequence[int]]) -> str:
    """Give words, pairs, ... vectors by what stands near them; scaled as those they replace.

    Words that `texts` never show keep the vectors they have.
    """
    from seqcells.lab.text.neighbours import Neighbours  # and SciPy with it, which others can spare

    words = inputs.words
    neighbours = Neighbours(
        texts, words.num_embeddings, words.embedding_dim, progress=sys.stderr.isatty()
    )
    seen = neighbours.words.any(1)
    scale = VECTOR_SCALE / neighbours.words[seen].std()
    with torch.no_grad():
        words.weight[seen] = neighbours.words[seen] * scale
        if inputs.ngrams is not None:
            inputs.ngrams.vectors.weight.copy_(_of_ngrams(inputs, neighbours) * scale)
    return f"vectors of {int(seen.sum()):,} words, by their neighbours in {len(texts):,} texts"


def _of_ngrams(inputs: WordInputs, neighbours: Neighbours) -> Tensor:
    ngrams, total = inputs.ngrams, 0.0
    for place in range(ngrams.longest - 1):
        total = total + neighbours.ngrams(
            lambda tokens, place=place: ngrams.buckets(tokens)[place],
            words=place + 2,
            numbers=ngrams.vectors.num_embeddings,
        )
    return total


def start_from_run(model: nn.Module, run: Run) -> str:
    """Copy the word vectors and the recurrence of a language model that was trained before.

    Vectors of word pairs, which it need not have, stay as they are.
    """
    weights = load_checkpoint(run.best, run.config)["model"]
    own = model.state_dict()
    wanted = [name for name in own if name.startswith(("inputs.words.", "recurrent."))]
    for name in wanted:
        if name not in weights or weights[name].shape != own[name].shape:
            got = f"shape {tuple(weights[name].shape)}" if name in weights else "none"
            raise ValueError(
                f"training.start_from: expected {name} of shape {tuple(own[name].shape)} in "
                f"{run.folder}, got {got}; give model.cell, sizes and directions as there"
            )
    model.load_state_dict({name: weights[name] for name in wanted}, strict=False)
    return f"words and recurrence from {run.folder}"
