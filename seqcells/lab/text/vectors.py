"""Pretrained word vectors from text files in GloVe or word2vec format."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

SEED = 0
MISSING_STD = 0.1  # standard deviation of the random vectors of words that the file lacks


def read_vectors(
    path: str | Path, words: Sequence[str], *, progress: bool = True
) -> tuple[Tensor, int]:
    """Return the vectors `(V, size)` of `words` and the number of words found in the file.

    Each line has a word and its vector. The word2vec format starts with a header line: number of
    words and size. The first of `words` is padding and gets zeros. Missing words get small random
    vectors.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"expected a text file of word vectors, got {path}: no such file")
    wanted = {word: row for row, word in enumerate(words) if row > 0}
    found: dict[int, list[float]] = {}
    header: list[int] | None = None
    size = lines = 0
    for number, fields in enumerate(_fields_of_lines(path, progress), 1):
        if number == 1 and len(fields) == 2 and all(field.isdecimal() for field in fields):
            header = [int(field) for field in fields]
            size = header[1]
            continue
        lines += 1
        size = size or len(fields) - 1
        where = f"line {number} of {path}"
        row = wanted.get(_word(where, fields, size))
        if row is not None and row not in found:
            found[row] = _numbers(where, fields[-size:])
    if not lines or (header and lines != header[0]):
        expected = f"{header[0]} words, as its first line says," if header else "word vectors"
        raise ValueError(f"expected {expected} in {path}, got {lines}; download the file again")

    vectors = (
        torch.randn(len(words), size, generator=torch.Generator().manual_seed(SEED)) * MISSING_STD
    )
    vectors[:1] = 0.0
    for row, numbers in found.items():
        vectors[row] = torch.tensor(numbers)
    return vectors, len(found)


def _fields_of_lines(path: Path, progress: bool) -> Iterator[list[str]]:
    """Split at spaces only: some words in published files contain other white space."""
    total = path.stat().st_size
    bar = tqdm(desc="reading vectors", total=total, disable=not progress, delay=1, unit="B")
    with bar, path.open("rb") as file:
        for line in file:
            bar.update(len(line))
            yield line.decode("utf-8", "replace").rstrip(" \r\n").split(" ")


def _word(where: str, fields: list[str], size: int) -> str:
    """Join the fields before the last `size`: some words in published files contain spaces."""
    word = fields[: len(fields) - size]
    if size < 1 or not word or any(_is_number(part) for part in word[1:]):
        raise ValueError(
            f"expected a word and {max(size, 1)} numbers in {where}, got {len(fields) - 1} "
            "fields after the word; use a text file in which all vectors have one size"
        )
    return " ".join(word)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _numbers(where: str, fields: list[str]) -> list[float]:
    numbers = [float(field) if _is_number(field) else math.nan for field in fields]
    if not all(map(math.isfinite, numbers)):
        invalid = fields[[math.isfinite(number) for number in numbers].index(False)]
        raise ValueError(f"expected finite numbers in {where}, got {invalid!r}")
    return numbers
