"""Vocabulary of words or characters, with its tokeniser."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from seqcells.lab.files import write_atomically
from seqcells.lab.text.alignment import AlignedText, Token

PADDING, UNKNOWN = "<pad>", "<unk>"
UNITS = ("words", "characters")
LINE_BREAKS = [(r"<br\s*/?>", "\n")]
FORMAT = "seqcells vocabulary 2"


class Vocabulary:
    """Maps texts to tokens and tokens to numbers: 0 is padding, 1 is an unknown word.

    A text is lowercased, transformed by the `(pattern, replacement)` pairs in `substitutions`, and
    split at white space or, with `unit="characters"`, into characters. The substitutions are saved
    with the words, so a saved vocabulary needs no tokeniser library.
    """

    def __init__(
        self,
        words: Sequence[str],
        substitutions: Sequence[tuple[str, str]],
        unit: Literal["words", "characters"] = "words",
    ):
        if unit not in UNITS:
            raise ValueError(f"expected a unit among {', '.join(UNITS)}, got {unit!r}")
        if list(words[:2]) != [PADDING, UNKNOWN]:
            raise ValueError(f"expected words to start with {PADDING}, {UNKNOWN}, got {words[:2]}")
        if not all(isinstance(word, str) for word in words):
            raise TypeError("expected words to be strings, got other types among them")
        if len(set(words)) != len(words):
            duplicate, _ = Counter(words).most_common(1)[0]
            raise ValueError(f"expected distinct words, got {duplicate!r} more than once")
        self.words, self.unit = list(words), unit
        self.substitutions = [(pattern, new) for pattern, new in substitutions]
        self._rules = [(re.compile(pattern), new) for pattern, new in self.substitutions]
        self.tokenise("")  # raise for an invalid replacement now, not at the first text
        self._numbers = {word: number for number, word in enumerate(self.words) if number > 1}

    @classmethod
    def build(
        cls,
        texts: Iterable[str],
        *,
        max_size: int | None = None,
        min_frequency: int = 1,
        progress: bool = True,
    ) -> "Vocabulary":
        """Build a vocabulary of the most frequent words of `texts`, by torchtext's rules.

        `max_size` excludes the two special words; `min_frequency` drops rarer words.
        """
        if (max_size is not None and max_size < 1) or min_frequency < 1:
            raise ValueError(
                "expected max_size and min_frequency of at least 1, "
                f"got {max_size} and {min_frequency}"
            )
        from torchtext.data import get_tokenizer, utils
        from torchtext.vocab import Vocab

        tokenise = get_tokenizer("basic_english")
        counts = Counter()
        for text in tqdm(texts, "counting words", disable=not progress, delay=1, unit=" texts"):
            counts.update(tokenise(text))
        if not counts:
            raise ValueError("expected texts with at least one word, got none")
        vocab = Vocab(counts, max_size, min_frequency, specials=[PADDING, UNKNOWN])
        return cls(vocab.itos, list(zip(utils._patterns, utils._replacements)))

    @classmethod
    def of_characters(cls, texts: Iterable[str], *, min_frequency: int = 1) -> "Vocabulary":
        """Build a vocabulary of the lowercased characters of `texts`, the most frequent first."""
        empty = cls([PADDING, UNKNOWN], LINE_BREAKS, "characters")
        counts = Counter()
        for text in texts:
            counts.update(empty.tokenise(text))
        frequent = [one for one, count in counts.most_common() if count >= min_frequency]
        return cls([PADDING, UNKNOWN, *frequent], LINE_BREAKS, "characters")

    def tokenise(self, text: str) -> list[str]:
        return self.split(text.lower())

    def split(self, text: str) -> list[str]:
        """Split a text into tokens without lowercasing it."""
        for pattern, new in self._rules:
            text = pattern.sub(new, text)
        return text.split() if self.unit == "words" else list(text)

    def align(self, text: str) -> list[Token]:
        """Return the tokens of `tokenise`, each with its span in the original text.

        Spans are in order. Tokens made by one substitution share the span that it replaced, and the
        characters that one letter becomes in lowercase share the letter.
        """
        aligned = AlignedText.lowercase(text)
        for pattern, new in self._rules:
            aligned = aligned.substitute(pattern, new)
        return aligned.words() if self.unit == "words" else aligned.characters()

    def number(self, token: str) -> int:
        return self._numbers.get(token, 1)

    def join(self, numbers: Iterable[int]) -> str:
        """Return the text of these numbers; white space between words becomes one space."""
        return ("" if self.unit == "characters" else " ").join(self.words[n] for n in numbers)

    def encode(self, text: str) -> list[int]:
        return [self.number(token) for token in self.tokenise(text)]

    def __len__(self) -> int:
        return len(self.words)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} {self.unit})"

    def save(self, path: str | Path) -> None:
        """Write JSON atomically."""
        content = {"format": FORMAT, "unit": self.unit, "substitutions": self.substitutions}
        content["words"] = self.words
        text = json.dumps(content, ensure_ascii=False, indent=0)
        write_atomically(Path(path), lambda file: file.write(text.encode()))

    @classmethod
    def load(cls, path: str | Path) -> "Vocabulary":
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"expected a vocabulary in JSON, got {path} ({error})") from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise ValueError(f"expected a file of format {FORMAT!r}, got {path}")
        try:
            return cls(content["words"], content["substitutions"], content["unit"])
        except (KeyError, TypeError, ValueError, re.error) as error:
            raise ValueError(f"expected a valid vocabulary, got {path} ({error!r})") from None
