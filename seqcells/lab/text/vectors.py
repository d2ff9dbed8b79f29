"""Pretrained word vectors from a text file, in GloVe's or in word2vec's format."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

SEED = 0
SPREAD = 0.1  # standard deviation of the vectors of words that the file does not have


def read_vectors(
    path: str | Path, words: Sequence[str], *, progress: bool = True
) -> tuple[Tensor, int]:
    """Look up `words`, the first of which is padding: `(vectors (V, size), how many found)`.

    A line is a word and its numbers; word2vec's format has a first line with the number of words
    and the size. Padding keeps a row of zeros, a word that is not found a small random vector.
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
        raise ValueError(f"expected {expected} in {path}, got {lines}; fetch the file again")

    vectors = torch.randn(len(words), size, generator=torch.Generator().manual_seed(SEED)) * SPREAD
    vectors[:1] = 0.0
    for row, numbers in found.items():
        vectors[row] = torch.tensor(numbers)
    return vectors, len(found)


def _fields_of_lines(path: Path, progress: bool) -> Iterator[list[str]]:
    """Split at spaces alone: some words of published files hold other kinds of white space."""
    total = path.stat().st_size
    bar = tqdm(desc="reading vectors", total=total, disable=not progress, delay=1, unit="B")
    with bar, path.open("rb") as file:
        for line in file:
            bar.update(len(line))
            yield line.decode("utf-8", "replace").rstrip(" \r\n").split(" ")


def _word(where: str, fields: list[str], size: int) -> str:
    """Everything before the last `size` fields, for some published words hold spaces."""
    word = fields[: len(fields) - size]
    if size < 1 or not word or any(_is_number(part) for part in word[1:]):
        raise ValueError(
            f"expected a word and {max(size, 1)} numbers in {where}, got {len(fields) - 1} "
            "fields after the word; give a text file of vectors of one size"
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
        wrong = fields[[math.isfinite(number) for number in numbers].index(False)]
        raise ValueError(f"expected finite numbers in {where}, got {wrong!r}")
    return numbers
