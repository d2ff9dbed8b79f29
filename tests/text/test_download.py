import hashlib
import io
import urllib.error
import urllib.request

import pytest

from seqcells.lab.text import download, read_imdb


class Response(io.BytesIO):
    @property
    def headers(self):
        return {"Content-Length": str(len(self.getbuffer()))}


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SEQCELLS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def serve(monkeypatch):
    """Answer every request with `content`, or raise it; return the list of requests."""
    requests = []

    def serve(content):
        def urlopen(url, timeout):
            requests.append((url, timeout))
            if isinstance(content, Exception):
                raise content
            return Response(content)

        monkeypatch.setattr(urllib.request, "urlopen", urlopen)
        return requests

    return serve


def test_archive_is_downloaded_once_over_https(files, write_archive, cache, serve, monkeypatch):
    content = write_archive(files).read_bytes()
    requests = serve(content)
    monkeypatch.setattr(download, "MD5", hashlib.md5(content).hexdigest())
    first = read_imdb(None, progress=False)
    assert len(first["train"]) == 8
    assert read_imdb(None, progress=False) == first
    assert len(requests) == 1
    assert requests[0][0].startswith("https://")
    assert [path.name for path in cache.iterdir()] == ["aclImdb_v1.tar.gz"]


def test_error_without_network_suggests_alternatives(cache, serve):
    serve(urllib.error.URLError("no route"))
    with pytest.raises(ValueError, match=r"no route.*connect to the network.*pass its path"):
        read_imdb(None, progress=False)
    assert list(cache.iterdir()) == []


def test_wrong_checksum_leaves_no_file(cache, serve):
    serve(b"other content")
    with pytest.raises(ValueError, match=f"expected a file of MD5 {download.MD5}"):
        read_imdb(None, progress=False)
    assert list(cache.iterdir()) == []


def test_broken_connection_leaves_no_file(cache, monkeypatch):
    class Broken(Response):
        def read(self, size):
            raise TimeoutError("timed out")

    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Broken())
    with pytest.raises(ValueError, match="timed out"):
        read_imdb(None, progress=False)
    assert list(cache.iterdir()) == []


def test_invalid_cache_folder_raises(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("content")
    monkeypatch.setenv("SEQCELLS_CACHE", str(tmp_path / "file"))
    with pytest.raises(ValueError, match=r"SEQCELLS_CACHE"):
        read_imdb(None, progress=False)
