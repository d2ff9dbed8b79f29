"""Download and verify the IMDB archive into a cache folder."""

import hashlib
import http.client
import os
import urllib.request
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from seqcells.lab.files import write_atomically

URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
TIMEOUT = 30.0


def cached_archive(*, progress: bool = True) -> Path:
    """Return the archive in `$SEQCELLS_CACHE` or `~/.cache/seqcells`; download it if missing."""
    folder = Path(os.environ.get("SEQCELLS_CACHE") or Path.home() / ".cache" / "seqcells")
    target = folder / URL.rsplit("/", 1)[1]
    if not target.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _download(target, progress)
        except (OSError, http.client.HTTPException) as error:
            raise ValueError(
                f"expected to download {URL} to {target}, got {error!r}; connect to the network "
                "and set SEQCELLS_CACHE to a folder with free space, or download the file "
                "elsewhere and pass its path (data.path)"
            ) from None
    return target


def _download(target: Path, progress: bool) -> None:
    """Write `target` only if the download is complete and its checksum is right."""

    def write(file: BinaryIO) -> None:
        md5 = _fetch(file, progress)
        if md5 != MD5:
            raise ValueError(f"expected a file of MD5 {MD5} from {URL}, got {md5}; try again")

    write_atomically(target, write)


def _fetch(file: BinaryIO, progress: bool) -> str:
    """Write the archive to `file`; return its MD5."""
    digest = hashlib.md5(usedforsecurity=False)
    with urllib.request.urlopen(URL, timeout=TIMEOUT) as response:
        size = response.headers.get("Content-Length")
        bar = tqdm(
            desc="downloading IMDB",
            total=int(size) if size else None,
            disable=not progress,
            unit="B",
            unit_scale=True,
        )
        with bar:
            while block := response.read(1 << 18):
                file.write(block)
                digest.update(block)
                bar.update(len(block))
    return digest.hexdigest()
