"""Read the IMDB reviews (Maas et al., 2011) from the archive or from a folder."""

import gzip
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from seqcells.lab.text.download import cached_archive
from seqcells.lab.text.reviews import Review

ROOT = "aclImdb"
LABELS = {"pos": 1, "neg": 0, "unsup": None}
FOLDERS = {
    "train": ("train/pos", "train/neg"),
    "test": ("test/pos", "test/neg"),
    "unsupervised": ("train/unsup",),
}
COUNTS = {
    "train/pos": 12_500,
    "train/neg": 12_500,
    "train/unsup": 50_000,
    "test/pos": 12_500,
    "test/neg": 12_500,
}
_REVIEW = re.compile(r"((?:train|test)/(?:pos|neg|unsup))/(\d+)_\d+\.txt")
_FILM = re.compile(r"tt\d+")


def read_imdb(
    path: str | None, *, splits: Sequence[str] = ("train",), progress: bool = True
) -> dict[str, list[Review]]:
    """Read any of the splits `"train"`, `"test"` and `"unsupervised"`.

    `path` is the archive (.tar.gz), the extracted folder or its parent; with None the archive is
    downloaded once. The group of a review is its film. Within a label, reviews are ordered by their
    number in the data set.
    """
    unknown = [split for split in splits if split not in FOLDERS]
    if unknown or isinstance(splits, str):
        raise ValueError(f"expected splits among {list(FOLDERS)}, got {splits!r}")
    source = Path(path) if path is not None else cached_archive(progress=progress)
    if not source.exists():
        raise ValueError(f"expected the IMDB archive or its folder, got {source}: no such file")
    folders = [folder for split in splits for folder in FOLDERS[split]]
    film_lists = {_film_list(folder) for folder in folders}

    reviews: dict[str, dict[int, str]] = {folder: {} for folder in folders}
    films: dict[str, list[str]] = {}
    files = _files_of_folder if source.is_dir() else _files_of_archive
    for name, read in files(source, progress):
        match = _REVIEW.fullmatch(name)
        if match and match[1] in reviews:
            reviews[match[1]][int(match[2])] = _decode(name, read())
        elif name in film_lists:
            films[name] = _FILM.findall(_decode(name, read()))
    return {
        split: [
            review
            for folder in FOLDERS[split]
            for review in _assemble(source, folder, reviews[folder], films)
        ]
        for split in splits
    }


def _film_list(folder: str) -> str:
    return re.sub(r"/(\w+)", r"/urls_\1.txt", folder)


def _decode(name: str, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected {name} in UTF-8, got {error}; download the archive again"
        ) from None


def _assemble(
    source: Path, folder: str, texts: dict[int, str], films: dict[str, list[str]]
) -> list[Review]:
    """Validate the counts of a folder and build its reviews. Line n of the list is review n."""
    count = COUNTS[folder]
    groups = films.get(_film_list(folder), [])
    for kind, numbers in (("reviews", texts), ("film addresses", range(len(groups)))):
        if set(numbers) != set(range(count)):
            raise ValueError(
                f"expected {count} {kind} of {folder} in {source}, numbered from 0, got "
                f"{len(numbers)}; download {ROOT}_v1.tar.gz again"
            )
    label = LABELS[PurePosixPath(folder).name]
    return [Review(texts[number], label, groups[number]) for number in range(count)]


def _files_of_folder(source: Path, progress: bool) -> Iterator:
    """Yield each file's path relative to the data set's root and a function that reads it."""
    root = source / ROOT if (source / ROOT).is_dir() else source
    paths = (path for folder in ("train", "test") for path in (root / folder).glob("**/*.txt"))
    for path in tqdm(paths, "reading IMDB", disable=not progress, delay=1, unit=" files"):
        yield path.relative_to(root).as_posix(), path.read_bytes


def _files_of_archive(source: Path, progress: bool) -> Iterator:
    """Yield the same from a .tar.gz in one pass; reading to the end verifies its checksum."""
    bar = tqdm(
        desc="reading IMDB",
        total=source.stat().st_size,
        disable=not progress,
        delay=1,
        unit="B",
        unit_scale=True,
    )
    try:
        with bar, source.open("rb") as raw, gzip.open(raw) as content:
            with tarfile.open(fileobj=content, mode="r|") as archive:
                for member in archive:
                    _check_member(source, member)
                    if member.isfile():
                        name = PurePosixPath(member.name).relative_to(ROOT).as_posix()
                        yield name, lambda member=member: archive.extractfile(member).read()
                    bar.update(raw.tell() - bar.n)
            while content.read(1 << 20):
                pass
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise ValueError(
            f"expected a complete .tar.gz archive, got {source} ({error}); download it again"
        ) from None


def _check_member(source: Path, member: tarfile.TarInfo) -> None:
    path = PurePosixPath(member.name)
    inside = path.parts[:1] == (ROOT,) and ".." not in path.parts
    if not (inside and (member.isfile() or member.isdir())):
        raise ValueError(
            f"expected only files and folders inside {ROOT}/ in {source}, got {member.name!r}; "
            "do not use this archive"
        )
