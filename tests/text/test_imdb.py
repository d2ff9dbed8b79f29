import gzip
import tarfile

import pytest

from seqcells.lab.text import Review, read_imdb


def member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_read_archive(files, write_archive):
    splits = ("train", "test", "unsupervised")
    reviews = read_imdb(write_archive(files), splits=splits, progress=False)
    assert list(reviews) == list(splits)
    assert reviews["train"][:4] == [
        Review("train/pos 0 caf\u00e9", 1, "tt0000000"),
        Review("train/pos 1 caf\u00e9", 1, "tt0000000"),
        Review("train/pos 2 caf\u00e9", 1, "tt0000001"),
        Review("train/pos 3 caf\u00e9", 1, "tt0000001"),
    ]
    assert [review.label for review in reviews["test"]] == [1, 1, 1, 0, 0, 0]
    assert reviews["unsupervised"][5] == Review("train/unsup 5 caf\u00e9", None, "tt0000002")


def test_folder_and_parent_equal_archive(files, write_archive, write_folder):
    folder = write_folder(files)
    expected = read_imdb(write_archive(files), splits=("train", "test"), progress=False)
    assert read_imdb(str(folder), splits=("train", "test"), progress=False) == expected
    assert read_imdb(folder.parent, splits=("train", "test"), progress=False) == expected


def test_archive_with_relative_member_names(files, write_folder, tmp_path):
    path = tmp_path / "again.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(write_folder(files), "./aclImdb")
    assert len(read_imdb(path, progress=False)["train"]) == 8


@pytest.mark.parametrize(
    "invalid",
    [
        member("../outside.txt"),
        member("aclImdb/../../outside.txt"),
        member("/etc/passwd"),
        member("elsewhere/0_1.txt"),
        member("aclImdb/train/pos/4_7.txt", tarfile.SYMTYPE, "/etc/passwd"),
        member("aclImdb/train/pos/4_7.txt", tarfile.LNKTYPE, "aclImdb/README"),
        member("aclImdb/train/pos/4_7.txt", tarfile.FIFOTYPE),
    ],
    ids=lambda info: f"{info.name} {info.type.decode()}",
)
def test_unsafe_archive_member_raises(files, write_archive, invalid):
    with pytest.raises(ValueError, match="only files and folders inside aclImdb/"):
        read_imdb(write_archive(files, invalid), progress=False)


@pytest.mark.parametrize("missing", ["train/neg/2_7.txt", "train/urls_neg.txt"])
def test_missing_file_raises(files, write_archive, write_folder, missing):
    del files[missing]
    for path in (write_archive(files), write_folder(files)):
        with pytest.raises(ValueError, match=r"expected 4 .* of train/neg .* got (3|0)"):
            read_imdb(path, progress=False)


def test_other_splits_may_be_missing(files, write_archive):
    train = {name: content for name, content in files.items() if not name.startswith("test")}
    assert len(read_imdb(write_archive(train), progress=False)["train"]) == 8


def test_wrong_review_numbers_raise(files, write_archive):
    files["train/pos/9_7.txt"] = b"one too many"
    with pytest.raises(ValueError, match=r"expected 4 reviews of train/pos .* got 5"):
        read_imdb(write_archive(files), progress=False)
    del files["train/pos/0_7.txt"]
    with pytest.raises(ValueError, match="expected 4 reviews of train/pos"):
        read_imdb(write_archive(files), progress=False)


def test_text_that_is_not_utf8_raises(files, write_archive):
    files["train/pos/1_7.txt"] = b"caf\xe9"
    with pytest.raises(ValueError, match=r"train/pos/1_7\.txt in UTF-8"):
        read_imdb(write_archive(files), progress=False)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_truncated_archive_raises(files, write_archive, share):
    path = write_archive(files)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"complete \.tar\.gz archive"):
        read_imdb(path, progress=False)


def test_archive_with_wrong_checksum_raises(files, write_archive):
    path = write_archive(files)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # gzip ends with the checksum and the size
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"complete \.tar\.gz archive.*CRC"):
        read_imdb(path, progress=False)


def test_other_file_raises(files, tmp_path):
    path = tmp_path / "aclImdb_v1.tar.gz"
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match=r"complete \.tar\.gz archive"):
        read_imdb(path, progress=False)
    path.write_bytes(gzip.compress(b"no tar" * 200))
    with pytest.raises(ValueError, match=r"complete \.tar\.gz archive"):
        read_imdb(path, progress=False)


def test_invalid_path_and_splits_raise(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        read_imdb(tmp_path / "nowhere.tar.gz")
    for splits in (("train", "valid"), "train"):
        with pytest.raises(ValueError, match="expected splits among"):
            read_imdb(tmp_path, splits=splits)


@pytest.mark.slow
def test_real_reviews_are_complete(real_imdb):
    reviews = real_imdb
    for split in ("train", "test"):
        assert [review.label for review in reviews[split]] == [1] * 12_500 + [0] * 12_500
    first = reviews["train"][0]
    assert first.text.startswith("Bromwell High is a cartoon comedy.")
    assert first.group == "tt0453418"
    films = [{review.group for review in reviews[split]} for split in ("train", "test")]
    assert len(films[0] & films[1]) == 1  # an exception in the data set
    positive = sum(len(r.text.encode()) for r in reviews["train"] if r.label == 1)
    assert positive == 16_842_831  # published number of bytes
