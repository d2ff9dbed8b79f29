"""Export to plain C, without dependencies: recurrent modules and trained models."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import torch
from torch import nn

from seqcells import __version__
from seqcells.lab.export.c.header import header
from seqcells.lab.export.c.model import model_of
from seqcells.lab.export.c.recording import record
from seqcells.lab.export.c.self_test import self_test
from seqcells.lab.export.c.source import source
from seqcells.lab.export.c.vocabulary import vocabulary_files
from seqcells.lab.export.c.weights import check_finite, to_bytes
from seqcells.lab.export.parts import MODELS, Parts, parts_of
from seqcells.lab.files import unwritable, write_atomically
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training import Config
from seqcells.quantization import quantize

EMBEDDED = 2 * 2**20  # bytes of the weights that `save` embeds at most; a megabyte is 4 MB of C


def save(
    model: nn.Module,
    config: Config,
    folder: Path,
    weights: str | None = None,
    vocabulary: Vocabulary | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write the C code of a run's model; the name of `folder` is the prefix.

    With `dtype`, int8 or bfloat16, the model is quantized first.
    """
    parts_of(model)  # raises for a model that is not a recurrent module either
    name = folder.resolve().name
    if not _is_identifier(name):
        raise ValueError(
            "output: expected a folder whose name is a C identifier, the prefix of all names in C, "
            f"got {folder}; use letters, digits and _, as in {folder.parent / 'model'}"
        )
    model = model if dtype is None else quantize(model, dtype)
    weights_of_model = [*model.parameters(), *model.buffers()]  # those of int8 are buffers
    size = sum(weight.numel() * weight.element_size() for weight in weights_of_model)
    embedded = size <= EMBEDDED if weights is None else weights == "embedded"
    write_c(model, folder, name, embed_weights=embedded, vocabulary=vocabulary)


def self_test_command(folder: Path) -> str:
    """Return the shell command that compiles and runs the test of a folder that `save` wrote."""
    name = folder.resolve().name
    compiled = f"cc -O3 -march=native {name}.c {name}_test.c -lm -o {name}_test"
    return f"cd {shlex.quote(str(folder))} && {compiled} && ./{name}_test"


def write_c(
    module: nn.Module,
    folder: str | Path,
    name: str = "model",
    *,
    head: nn.Linear | None = None,
    embed_weights: bool = True,
    block: int = 64,
    vocabulary: Vocabulary | None = None,
) -> list[Path]:
    """Write a recurrent module or a model as C99 that runs one step at a time: `NAME.c`, `NAME.h`.

    `NAME_test.c` is a program that compares the C code with outputs of the module. The code
    computes in float32, in evaluation mode, for one stream::

        write_c(LSTM(8, 16).eval(), "firmware", "gesture", head=torch.nn.Linear(16, 4))
        # gcc -O3 -march=native gesture.c gesture_test.c -lm -o gesture_test && ./gesture_test

    A step of a recurrent module reads a vector and returns an output. A step of a model of
    `seqcells.lab` reads one word, as a number, or one vector. It returns the results of the model
    for the steps so far: the logit of a `TextClassifier`, the outputs of a `SequenceReader`, the
    logits of the word's tags of a `SequenceTagger`, or those of the next word of a `LanguageModel`:
    with an adaptive softmax, its log-probabilities.
    A module from `seqcells.quantize` keeps its weights in int8 or bfloat16, and its products round
    and sum as in Python. The other weights stay in float32.

    The state has the last words for hashed n-grams, and the sums that a readout needs.

    Args:
        module: a cell, with or without modifiers, a forward `Recurrent`, a `Stack` of cells, or an
            `RNN`, `GRU` or `LSTM` of any number of layers, on the CPU. Or a unidirectional
            `TextClassifier`, `LanguageModel`, `SequenceTagger` or `SequenceReader` of these.
        folder: the folder of the files. It is created if it is missing.
        name: the prefix of the files and of all names in C, a C identifier.
        head: a linear layer that reads the outputs of each step; None for a model, which has one.
        embed_weights: write the weights into the source; otherwise into `NAME.bin`, which the
            program maps or reads and passes to `NAME_open`.
        block: rows of a matrix that are summed at once. 64 suits vector units; 16 suits processors
            without vector units, such as the Cortex-M4.
        vocabulary: the vocabulary of a model that reads words. Its words are written to
            `NAME_words.c`, with functions from words to numbers and back.

    Returns:
        The paths of the files.

    Raises:
        TypeError: another module or head.
        ValueError: a module that does not run one step at a time, a head or a vocabulary of another
            size, recurrences of which only some are quantized, weights that are not finite, or a
            name that is not a C identifier.
        OSError: a file cannot be written.
    """
    _check(name, head, block)
    if isinstance(module, MODELS):
        if head is not None:
            raise ValueError(
                f"head: expected None for a {type(module).__name__}, which has a head, got a layer"
            )
        parts = parts_of(module)
    else:
        parts = Parts(None, module, None, head)
    if vocabulary is not None:
        _check_vocabulary(vocabulary, parts)
    model = model_of(parts, name, block)
    check_finite(model.arrays)
    model.embedded = embed_weights
    title = f"Written by seqcells {__version__}: write_c(), {_describe(module, head)}"
    inputs, outputs = record(module, parts, model.layers[0].inputs)
    files = {
        f"{name}.h": header(model, title).encode(),
        f"{name}.c": source(model, title).encode(),
        f"{name}_test.c": self_test(model, title, inputs, outputs).encode(),
    }
    if not embed_weights:
        files[f"{name}.bin"] = to_bytes(model.arrays)
    if vocabulary is not None:
        files |= {
            file: text.encode() for file, text in vocabulary_files(vocabulary, name, title).items()
        }
    return _write(Path(folder), files)


def _check(name: str, head: Any, block: int) -> None:
    if not isinstance(name, str) or not _is_identifier(name):
        raise ValueError(
            f"name: expected a C identifier that starts with a letter, got {name!r}; use letters, "
            "digits and _"
        )
    if head is not None and not isinstance(head, nn.Linear):
        raise TypeError(f"head: expected torch.nn.Linear or None, got {type(head).__name__}")
    if isinstance(block, bool) or not isinstance(block, int) or block < 8 or block % 8:
        raise ValueError(f"block: expected a positive multiple of 8, got {block!r}")


def _check_vocabulary(vocabulary: Vocabulary, parts: Parts) -> None:
    expected = 0 if parts.inputs is None else parts.inputs.words.num_embeddings
    if len(vocabulary) != expected:
        reads = f"the {expected} words that the model reads" if expected else "None without words"
        raise ValueError(f"vocabulary: expected {reads}, got {len(vocabulary)} words")


def _is_identifier(name: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name))


def _describe(module: nn.Module, head: nn.Linear | None) -> str:
    return type(module).__name__ + ("" if head is None else " with a linear head")


def _write(folder: Path, files: dict[str, bytes]) -> list[Path]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    paths = [folder / name for name in files]
    for path, data in zip(paths, files.values()):
        write_atomically(path, lambda file, data=data: file.write(data))
    return paths


__all__ = ["write_c"]
