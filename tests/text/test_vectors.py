import pytest
import torch

from seqcells.lab.text import read_vectors

WORDS = ["<pad>", "<unk>", "good", "bad", "film"]


@pytest.fixture
def write(tmp_path):
    def write(*lines, end="\n"):
        path = tmp_path / "vectors.txt"
        path.write_bytes("".join(line + end for line in lines).encode())
        return path

    return write


def line(word, size, value):
    return " ".join([word, *(f"{value + k / 8:.3f}" for k in range(size))])


@pytest.mark.parametrize("size", [1, 2, 50, 300])
@pytest.mark.parametrize("header", [False, True], ids=["glove", "word2vec"])
def test_formats_and_sizes(write, size, header):
    lines = [line("film", size, 1.0), line("other", size, 2.0), line("good", size, -3.0)]
    path = write(*([f"3 {size}"] if header else []), *lines)
    vectors, found = read_vectors(path, WORDS, progress=False)
    assert (vectors.shape, vectors.dtype, found) == ((5, size), torch.float32, 2)
    steps = torch.arange(size) / 8
    torch.testing.assert_close(vectors[4], 1 + steps)
    torch.testing.assert_close(vectors[2], -3 + steps)


def test_missing_words_have_small_reproducible_vectors(write):
    path = write(line("good", 300, 1.0))
    vectors, found = read_vectors(path, WORDS, progress=False)
    assert found == 1
    assert not vectors[0].any()
    assert 0.05 < vectors[[1, 3, 4]].std() < 0.2
    assert not torch.equal(vectors[1], vectors[3])
    assert torch.equal(vectors, read_vectors(path, WORDS, progress=False)[0])


def test_padding_is_zero_even_if_in_the_file(write):
    vectors, found = read_vectors(write("<pad> 1 2", "<unk> 3 4"), WORDS, progress=False)
    assert found == 1
    assert vectors[:2].tolist() == [[0, 0], [3, 4]]


def test_first_of_duplicate_lines_is_used(write):
    vectors, found = read_vectors(write("bad 1 2", "bad 3 4"), WORDS, progress=False)
    assert (found, vectors[3].tolist()) == (1, [1, 2])


@pytest.mark.parametrize("end", [" \n", "\r\n", "\n"])
def test_line_endings(write, end):
    vectors, found = read_vectors(write("2 2", "good 1 2", "bad 3 4", end=end), WORDS)
    assert (found, vectors[3].tolist()) == (2, [3, 4])


def test_words_with_white_space(write):
    path = write("good 1 2", ". . . 3 4", "a\u00a0b 5 6", "x\u2028y 7 8", "bad 9 1e-1")
    vectors, found = read_vectors(path, [*WORDS, ". . .", "a\u00a0b", "x\u2028y"], progress=False)
    assert found == 5
    assert vectors[5:].tolist() == [[3, 4], [5, 6], [7, 8]]
    torch.testing.assert_close(vectors[3], torch.tensor([9, 0.1]))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["good 1 2", "other 3"], "a word and 2 numbers in line 2"),
        (["good 1 2", "other 3 4 5"], "a word and 2 numbers in line 2"),
        (["1 3", "good 1 2"], "a word and 3 numbers in line 2"),
        (["good"], "a word and 1 numbers in line 1"),
        (["good 1 2", ""], "a word and 2 numbers in line 2"),
        (["good 1 two"], "finite numbers in line 1 of .*, got 'two'"),
        (["good 1 nan"], "finite numbers in line 1 of .*, got 'nan'"),
        (["3 2", "good 1 2", "bad 3 4"], "expected 3 words, as its first line says"),
        (["1 2", "good 1 2", "bad 3 4"], "expected 1 words, as its first line says"),
        ([], "expected word vectors"),
        (["3 0", "good"], "expected"),
    ],
)
def test_invalid_files_raise(write, lines, message):
    with pytest.raises(ValueError, match=message):
        read_vectors(write(*lines), WORDS, progress=False)


def test_binary_and_missing_files_raise(tmp_path):
    path = tmp_path / "vectors.bin"
    path.write_bytes(b"2 3\ngood \x00\x01\xff\x80\nbad \x10")
    with pytest.raises(ValueError, match="expected finite numbers in line 2"):
        read_vectors(path, WORDS, progress=False)
    with pytest.raises(ValueError, match="no such file"):
        read_vectors(tmp_path / "nowhere.txt", WORDS)
