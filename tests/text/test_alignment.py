"""Tokens with their spans in the original text."""

import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqcells.lab.text import Vocabulary, make_corpus
from seqcells.lab.text.alignment import Token
from seqcells.lab.text.vocabulary import LINE_BREAKS

SPECIAL = ["<pad>", "<unk>"]
WORDS = Vocabulary.build(["The cat sat."], progress=False)
CHARACTERS = Vocabulary(SPECIAL, LINE_BREAKS, "characters")
# Empty matches, groups, deletions, and a replacement that a later rule changes again.
CUSTOM = Vocabulary(SPECIAL, [("$", " end"), (r"(\d+)-(\d+)", r"\2 to \1"), ("t", "uu"), ("u", "")])
NASTY = [
    "",
    " \n ",
    '"',
    "I don't; \"can't\"",
    "it''s <br /><br />\"Great\"film!!!...<BR />end<br/>",
    "\u0130stanbul\u0130 \u0130\u0130'\u0130",
    "\u039f\u03a3 \u039f\u03a3.\u0392 \u039f\u03a3",  # sigma depends on its context
    "\ufb03 \u1e9e \u01c4 \U00010400",
    "a\u0085b\u2028c\u00a0d\x1ce\u200bf",
    "<unk> 12-34 10-5t \\1 \\g<0>",
    "\ud800 lone",
]


@pytest.mark.parametrize("vocabulary", [WORDS, CHARACTERS, CUSTOM])
@pytest.mark.parametrize("text", NASTY)
def test_tokens_equal_those_of_the_vocabulary(vocabulary, text):
    check(vocabulary, text)


@given(st.text(alphabet=st.sampled_from("aB'\"\u03a3\u0130.,;(!?<br />\\ \n1-2tu\u00e9")))
def test_tokens_of_random_texts(text):
    for vocabulary in (WORDS, CHARACTERS, CUSTOM):
        check(vocabulary, text)


def test_every_letter_of_unicode():
    letters = [chr(code) for code in range(sys.maxunicode + 1)]
    changing = [letter for letter in letters if len(letter.lower()) > 1 or letter.isspace()]
    check(WORDS, "x".join(changing))
    lowered = [sum(len(one.lower()) for one in letters), len("".join(letters).lower())]
    assert lowered[0] == lowered[1]  # the length depends on no context


def test_tokens_of_the_corpus():
    for review in make_corpus(train=40)["train"]:
        check(WORDS, review.text)
        for token in WORDS.align(review.text):
            assert review.text[token.start : token.end].lower() == token.text


def test_tokens_of_imdb(real_imdb):
    for review in random.Random(1).sample(real_imdb["test"], 300):
        check(WORDS, review.text)


def check(vocabulary, text):
    tokens = vocabulary.align(text)
    assert [token.text for token in tokens] == vocabulary.tokenise(text)
    start = end = 0
    for token in tokens:
        assert start <= token.start <= token.end <= len(text)
        assert end <= token.end
        start, end = token.start, token.end


def test_spans_of_words():
    text = 'I don\'t like \u0130stanbul.<br /><br />("Bad" mo"vie)'
    spans = [(text[token.start : token.end], token.text) for token in WORDS.align(text)]
    assert spans == [
        ("I", "i"),
        ("don", "don"),
        ("'", "'"),
        ("t", "t"),
        ("like", "like"),
        ("\u0130stanbul", "i\u0307stanbul"),
        (".", "."),
        ("(", "("),
        ("Bad", "bad"),
        ('mo"vie', "movie"),
        (")", ")"),
    ]


def test_spans_of_characters():
    text = "A\u0130<br/>b"
    assert CHARACTERS.align(text) == [
        Token("a", 0, 1),
        Token("i", 1, 2),
        Token("\u0307", 1, 2),
        Token("\n", 2, 7),
        Token("b", 7, 8),
    ]


def test_tokens_of_one_substitution_share_its_span():
    assert CUSTOM.align("x 12-34") == [
        Token("x", 0, 1),
        Token("34", 2, 7),
        Token("o", 2, 7),
        Token("12", 2, 7),
        Token("end", 7, 7),
    ]
