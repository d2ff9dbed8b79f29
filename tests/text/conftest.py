import io
import os
import tarfile

import pytest
from hypothesis import settings

from seqcells.lab.text import imdb

# No deadline, as the machine may be busy. Derandomised, so that failures are reproducible.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.load_profile("repeatable")

COUNTS = {"train/pos": 4, "train/neg": 4, "train/unsup": 6, "test/pos": 3, "test/neg": 3}


@pytest.fixture
def files(monkeypatch):
    """Return the files of a data set like IMDB with 20 reviews, two per film."""
    monkeypatch.setattr(imdb, "COUNTS", COUNTS)
    content = {"README": b"hello", "imdb.vocab": b"the", "train/labeledBow.feat": b"9 0:1"}
    for folder, count in COUNTS.items():
        split, kind = folder.split("/")
        for number in reversed(range(count)):
            content[f"{folder}/{number}_7.txt"] = f"{folder} {number} caf\u00e9".encode()
        films = "".join(
            f"http://www.imdb.com/title/tt{number // 2:07}/usercomments\n"
            for number in range(count)
        )
        content[f"{split}/urls_{kind}.txt"] = films.encode()
    return content


@pytest.fixture
def write_archive(tmp_path):
    """Write files and extra members into a .tar.gz; return its path."""

    def write(files, *members):
        path = tmp_path / "aclImdb_v1.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(f"aclImdb/{name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
            for member in members:
                archive.addfile(member)
        return path

    return write


@pytest.fixture
def write_folder(tmp_path):
    """Write files into a folder like the extracted archive; return the folder."""

    def write(files):
        for name, content in files.items():
            path = tmp_path / "extracted" / "aclImdb" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return tmp_path / "extracted" / "aclImdb"

    return write


@pytest.fixture(scope="session")
def real_imdb():
    """Return the labelled reviews of IMDB."""
    path = os.environ.get("SEQCELLS_IMDB")
    if not path:
        pytest.skip("needs $SEQCELLS_IMDB, the IMDB archive or its folder")
    return imdb.read_imdb(path, splits=("train", "test"), progress=False)
