"""Reviews are shown as they were written."""

import pytest

from seqcells.lab.report import texts
from seqcells.lab.text import Vocabulary
from seqcells.lab.training import DataConfig

WORDS = Vocabulary.build(["The cat sat."], progress=False)
TEXT = 'I don\'t CARE.<br /><br />"Great" (film!) '
SHOWN = 'I don\'t CARE.\n\n"Great" (film!) '


def segments(text=TEXT, max_tokens=400, truncate="head_tail", vocabulary=WORDS):
    config = DataConfig(max_tokens=max_tokens, truncate=truncate)
    found = texts.segments(text, vocabulary, config)
    position = 0
    for segment in found:  # every token that is read is in one segment
        assert segment.first == position
        position = segment.last
    assert position == min(max_tokens, len(vocabulary.tokenise(text)))
    return found


def test_words_punctuation_and_breaks_are_those_of_the_text():
    found = segments()
    assert texts.join(found) == SHOWN
    coloured = [text for text, first, last in found if last > first]
    assert coloured == ["I", "don", "'", "t", "CARE", ".", "Great", "(", "film", "!", ")"]


@pytest.mark.parametrize(
    ("truncate", "expected"),
    [
        ("head", "I don't CARE …"),
        ("tail", '… Great" (film!) '),
        ("head_tail", "I don' … film!) "),
    ],
)
def test_cuts_are_ellipses(truncate, expected):
    count = {"head": 5, "tail": 5, "head_tail": 6}[truncate]
    assert texts.join(segments(max_tokens=count, truncate=truncate)) == expected


def test_tokens_of_one_span_share_a_segment():
    vocabulary = Vocabulary(["<pad>", "<unk>"], [(r"(\d)-(\d)", r"\2 to \1"), ("$", " end")])
    found = segments("x 1-2 y", vocabulary=vocabulary)
    assert found == [("x", 0, 1), (" ", 1, 1), ("1-2", 1, 4), (" ", 4, 4), ("y", 4, 6)]


def test_preview_ends_after_a_word():
    assert texts.preview("one\n\n two ") == "one two"
    shortened = texts.preview("word " * 100)
    assert shortened.endswith("word …")
    assert 130 < len(shortened) <= 140


def test_copies_have_the_same_identity():
    assert texts.identity("Great  film.\n") == texts.identity("Great film.")
    assert texts.identity("Great film!") != texts.identity("Great film.")
