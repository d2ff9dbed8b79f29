"""The vectors of words and of hashed n-grams in C (`models.inputs.WordInputs`)."""

from __future__ import annotations

from seqcells.lab.export.c.model import Model, function
from seqcells.lab.models.inputs import MULTIPLIER, PRIME, UNKNOWN, WordInputs


def word_state(words: WordInputs) -> list[str]:
    """Return the members of the state: the last words, the latest first."""
    return [f"int32_t last_words[{words.longest - 1}];"] if words.ngrams is not None else []


def word_reset(words: WordInputs) -> list[str]:
    """Return the statements that set the state before the first step."""
    if words.ngrams is None:
        return []
    return [f"for (int n = 0; n < {words.longest - 1}; ++n) state->last_words[n] = 0;"]


def word_vectors(model: Model, words: WordInputs) -> str:
    """Return the function that writes the vector of the next word."""
    count, size = words.words.weight.shape
    body = [
        model.weights_pointer,
        f"if (word < 0 || word >= {count}) word = {min(UNKNOWN, count - 1)};",
        f"memcpy(vector, weights->words + (size_t)word * {size}, {size} * sizeof *vector);",
    ]
    comment = "// The vector of the next word."
    if words.ngrams is not None:
        comment = "// The vector of the next word, plus those of the hashed n-grams that end at it."
        body += _ngrams(words.longest - 1, words.ngrams.vectors.num_embeddings, size)
    head = "static void @_read_word(@_state *state, int32_t word, float *vector)"
    if model.embedded and words.ngrams is None:
        head = head.replace("@_state *state, ", "")
    return f"{comment}\n{function(head, body)}"


def read_word(model: Model, words: WordInputs) -> list[str]:
    """Return the statements that write the vector of `word` to `vector`."""
    state = "" if model.embedded and words.ngrams is None else "state, "
    return [f"float vector[{words.words.embedding_dim}];", f"@_read_word({state}word, vector);"]


def _ngrams(earlier: int, buckets: int, size: int) -> list[str]:
    lines = [
        "uint64_t number = (uint64_t)word;",
        f"for (int back = 0; back < {earlier}; ++back) {{",
        f"  number = (number * {MULTIPLIER}u + (uint64_t)state->last_words[back]) % {PRIME}u;",
        f"  const float *const ngram = weights->ngrams + (size_t)(number % {buckets}u) * {size};",
        f"  for (int n = 0; n < {size}; ++n) vector[n] += ngram[n];",
        "}",
    ]
    if earlier > 1:
        shift = "state->last_words[back] = state->last_words[back - 1];"
        lines.append(f"for (int back = {earlier - 1}; back > 0; --back) {shift}")
    return [*lines, "state->last_words[0] = word;"]
