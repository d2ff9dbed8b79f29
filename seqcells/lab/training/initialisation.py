"""Initialise models from word vectors or from a trained language model."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from seqcells.lab.models.inputs import VECTOR_SCALE, WordInputs
from seqcells.lab.text.vectors import read_vectors
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training.checkpoints import load_checkpoint
from seqcells.lab.training.runs import Run

PREDICTED = 0.1  # weight of a text with a predicted label; chosen on validation reviews of IMDB

if TYPE_CHECKING:
    from seqcells.lab.models.ngram_regression import NgramRegression
    from seqcells.lab.text.neighbours import Neighbours


def start_from_file(inputs: WordInputs, path: str, vocabulary: Vocabulary) -> str:
    """Copy word vectors from a text file; return a description with the number of words found."""
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
    """Set word and n-gram vectors from co-occurrence counts, with the scale of the initial ones.

    Words that do not occur in `texts` keep their vectors.
    """
    from seqcells.lab.text.neighbours import Neighbours  # imported here because it imports SciPy

    words = inputs.words
    neighbours = Neighbours(
        texts, words.num_embeddings, words.embedding_dim, progress=sys.stderr.isatty()
    )
    seen = neighbours.words.any(1)
    scale = VECTOR_SCALE / neighbours.words[seen].std()
    with torch.no_grad():
        words.weight[seen] = neighbours.words[seen] * scale
        if inputs.ngrams is not None:
            inputs.ngrams.vectors.weight.copy_(_ngram_vectors(inputs, neighbours) * scale)
    return f"vectors of {int(seen.sum()):,} words, by their neighbours in {len(texts):,} texts"


def _ngram_vectors(inputs: WordInputs, neighbours: Neighbours) -> Tensor:
    ngrams, total = inputs.ngrams, 0.0
    for index in range(ngrams.longest - 1):
        total = total + neighbours.ngrams(
            lambda tokens, index=index: ngrams.buckets(tokens)[index],
            words=index + 2,
            numbers=ngrams.vectors.num_embeddings,
        )
    return total


def fit_ngram_regression(
    regression: NgramRegression,
    texts: Sequence[Sequence[int] | Tensor],
    labels: Sequence[int | float],
) -> str:
    """Fit the weights to the n-grams of training texts.

    A label is 0, 1 or, of a text without a label, the predicted probability of 1, a float. Such
    texts weigh `PREDICTED` times the difference of the probabilities of both labels.
    """
    from scipy.sparse import csr_matrix  # imported here, as importing SciPy is slow

    from seqcells.lab.text.log_counts import fit_regression

    bar = tqdm(texts, "counting n-grams", disable=None, delay=1, unit=" texts")
    columns = []
    for text in bar:
        tokens = torch.as_tensor(text).long().unsqueeze(1)
        occurring = regression.columns(tokens, torch.tensor([len(text)])).unique()
        columns.append(occurring[occurring > 0].numpy())
    ends = np.cumsum([0, *map(len, columns)])
    entries = np.ones(ends[-1], dtype=np.float32), np.concatenate(columns), ends
    occurrences = csr_matrix(entries, shape=(len(texts), len(regression.weights)))
    targets = np.array(labels, dtype=float)
    predicted = np.array([isinstance(label, float) for label in labels])
    shares = np.where(predicted, PREDICTED * abs(2 * targets - 1), 1.0)
    weights, bias = fit_regression(occurrences, (targets > 0.5).astype(int), weights=shares)
    with torch.no_grad():
        regression.weights.copy_(torch.from_numpy(weights))
        regression.bias.fill_(bias)
    return f"a regression on n-grams of up to {regression.longest} words in {len(texts):,} texts"


def start_from_run(model: nn.Module, run: Run) -> str:
    """Copy the word vectors and the recurrence of a trained language model.

    N-gram vectors are not copied.
    """
    weights = load_checkpoint(run.best, run.config)["model"]
    state = model.state_dict()
    copied = [name for name in state if name.startswith(("inputs.words.", "recurrent."))]
    for name in copied:
        if name not in weights or weights[name].shape != state[name].shape:
            got = f"shape {tuple(weights[name].shape)}" if name in weights else "none"
            raise ValueError(
                f"training.start_from: expected {name} of shape {tuple(state[name].shape)} in "
                f"{run.folder}, got {got}; use the same model.cell, sizes and directions"
            )
    model.load_state_dict({name: weights[name] for name in copied}, strict=False)
    return f"words and recurrence from {run.folder}"
