import json
import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqcells.lab.text import Vocabulary, make_corpus

TEXTS = ["The cat sat, the cat ran.", "A dog! The dog ran (fast)"]
EDGE_CASES = [
    "",
    "   ",
    '"',
    "It's 'quoted' \"twice\"",
    "One.<br /><br />Two...three",
    "<BR />upper<br/>not the same<br  />",
    "semi;colon:and,comma,,and(brackets)!?",
    "caf\u00e9 \u0130stanbul \u00a0nbsp \u2028 line \t tab\nnew",
    "e-mail@host.org, 10/10 & $5.00",
    "<unk> <pad>",
    "back\\slash \\1 \\g<0>",
]


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.build(TEXTS, progress=False)


@pytest.fixture(scope="module")
def basic_english():
    from torchtext.data import get_tokenizer

    return get_tokenizer("basic_english")


@pytest.mark.parametrize("text", EDGE_CASES)
def test_tokens_equal_torchtext(vocabulary, basic_english, text):
    assert vocabulary.tokenise(text) == basic_english(text)


@given(st.text(alphabet=st.sampled_from("aB'\".,;:()!?<br />\\ \n\u00e9\u0130")))
def test_tokens_of_random_texts_equal_torchtext(vocabulary, basic_english, text):
    assert vocabulary.tokenise(text) == basic_english(text)


def test_tokens_of_imdb_equal_torchtext(real_imdb, vocabulary, basic_english):
    for review in random.Random(0).sample(real_imdb["test"], 300):
        assert vocabulary.tokenise(review.text) == basic_english(review.text)


def test_words_are_ordered_by_frequency_then_alphabet(vocabulary):
    expected = ["<pad>", "<unk>", "the", "cat", "dog", "ran", "!", "(", ")", ",", ".", "a"]
    assert vocabulary.words == [*expected, "fast", "sat"]
    assert len(vocabulary) == 14


def test_most_frequent_words_are_kept():
    assert Vocabulary.build(TEXTS, max_size=2, progress=False).words[2:] == ["the", "cat"]
    frequent = Vocabulary.build(TEXTS, min_frequency=2, progress=False)
    assert frequent.words[2:] == ["the", "cat", "dog", "ran"]


def test_encode_unknown_words(vocabulary):
    assert vocabulary.encode("The CAT yawned.") == [2, 3, 1, 10]
    assert vocabulary.encode("") == []


def test_special_words_in_a_text_are_unknown():
    vocabulary = Vocabulary.build(["<pad> <pad> <unk> word"], progress=False)
    assert vocabulary.words == ["<pad>", "<unk>", "word"]
    assert vocabulary.encode("<pad> <unk> word") == [1, 1, 2]


def test_loaded_vocabulary_equals_saved(tmp_path, vocabulary):
    path = tmp_path / "vocabulary.json"
    vocabulary.save(path)
    loaded = Vocabulary.load(path)
    assert loaded.words == vocabulary.words
    for text in EDGE_CASES + TEXTS:
        assert loaded.encode(text) == vocabulary.encode(text)
    loaded.save(path)
    assert Vocabulary.load(path).words == vocabulary.words
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_loading_and_encoding_need_no_torchtext(tmp_path, vocabulary):
    vocabulary.save(tmp_path / "vocabulary.json")
    script = """
import sys
sys.modules["torchtext"] = None
from seqcells.lab.text import Vocabulary
print(Vocabulary.load(sys.argv[1]).encode("The cat's dog."))
"""
    result = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "vocabulary.json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == str(vocabulary.encode("The cat's dog."))


def test_failed_save_keeps_the_previous_file(tmp_path, vocabulary, monkeypatch):
    path = tmp_path / "vocabulary.json"
    vocabulary.save(path)
    before = path.read_bytes()
    unwritable = Vocabulary(["<pad>", "<unk>", "\ud800"], [])
    with pytest.raises(UnicodeEncodeError):
        unwritable.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "change",
    [
        {"format": "something else"},
        {"words": ["no", "specials"]},
        {"words": ["<pad>", "<unk>", "twice", "twice"]},
        {"words": ["<pad>", "<unk>", 3]},
        {"words": None},
        {"substitutions": [["(", ""]]},
        {"substitutions": [["a"]]},
        {"substitutions": [["a", "\\1"]]},
        {"substitutions": None},
        {"unit": "syllables"},
    ],
    ids=repr,
)
def test_damaged_file_raises(tmp_path, vocabulary, change):
    path = tmp_path / "vocabulary.json"
    vocabulary.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"expected .*got .*vocabulary\.json"):
        Vocabulary.load(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"words": []}'])
def test_other_file_raises(tmp_path, content):
    path = tmp_path / "vocabulary.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"expected a .*vocabulary\.json"):
        Vocabulary.load(path)


@pytest.mark.parametrize("settings", [{"max_size": 0}, {"min_frequency": 0}])
def test_invalid_sizes_raise(settings):
    with pytest.raises(ValueError, match="max_size and min_frequency of at least 1"):
        Vocabulary.build(TEXTS, progress=False, **settings)


def test_texts_without_words_raise():
    with pytest.raises(ValueError, match="at least one word"):
        Vocabulary.build(["", '"'], progress=False)


def test_min_frequency_counts_the_corpus():
    texts = [review.text for review in make_corpus(train=40)["train"]]
    vocabulary = Vocabulary.build(texts, min_frequency=5, progress=False)
    counts = Counter(token for text in texts for token in vocabulary.tokenise(text))
    assert set(vocabulary.words[2:]) == {word for word, count in counts.items() if count >= 5}


def test_characters_round_trip(tmp_path):
    vocabulary = Vocabulary.of_characters(["Abba, b.<br />a", "bb"], min_frequency=2)
    assert vocabulary.words == ["<pad>", "<unk>", "b", "a"]
    whole = Vocabulary.of_characters(["Abba, b.<br />a"])
    assert whole.join(whole.encode("Abba, b.<br />a")) == "abba, b.\na"
    whole.save(tmp_path / "characters.json")
    loaded = Vocabulary.load(tmp_path / "characters.json")
    assert (loaded.words, loaded.unit) == (whole.words, "characters")
    assert loaded.encode("b,\n!") == whole.encode("b,\n!")


def test_words_are_joined_by_spaces(vocabulary):
    tokens = vocabulary.tokenise(TEXTS[0])
    assert vocabulary.join(vocabulary.encode(TEXTS[0])) == " ".join(tokens)
