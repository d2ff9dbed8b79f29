"""An exclusive lock on the folder of a run."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import warnings
import weakref
from pathlib import Path

NAME = ".lock"
UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # some network file systems


class FolderLock:
    """Reserves a folder for this process.

    The lock is advisory, on the file `.lock` in the folder, which names the process that holds it.
    The operating system releases it when the process ends, even if the process is killed. On a
    file system without locks, a warning is issued and the folder is not protected.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self._created = False
        self._close: weakref.finalize | None = None

    def create(self, folder: Path, *, exist_ok: bool) -> str | None:
        """Create a folder and lock it; return the process that holds the lock instead, or None.

        Raises:
            OSError: the folder cannot be created. FileExistsError: it exists and `exist_ok` is
                false.
        """
        folder.parent.mkdir(parents=True, exist_ok=True)
        while True:
            self._created = False
            try:
                folder.mkdir()
                self._created = True
            except FileExistsError:
                if not exist_ok:
                    raise
            try:
                return self.acquire(folder)
            except FileNotFoundError:  # released and removed since `mkdir`
                continue

    def acquire(self, folder: Path) -> str | None:
        """Lock a folder; return the process that holds the lock instead, or None."""
        path = folder / NAME
        while True:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = os.read(file, 1000).decode(errors="replace")
                os.close(file)
                return owner or "another process"
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    os.close(file)
                    raise
                warnings.warn(
                    f"{folder} is on a file system without locks: "
                    "do not train in it from two processes at once",
                    stacklevel=2,
                )
            if _is_same_file(file, path):
                break
            os.close(file)  # its owner removed it after `open`
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
        self.folder, self._close = folder, weakref.finalize(self, os.close, file)
        return None

    def release(self) -> None:
        """Release the lock, if it is held; remove the folder if `create` made it and it is empty.

        The file is removed before it is unlocked, and `acquire` checks for that, so that no two
        processes hold locks on different files of the same name.
        """
        if self.folder is None or self._close is None:
            return
        (self.folder / NAME).unlink(missing_ok=True)
        if self._created:
            try:
                self.folder.rmdir()
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                    raise
        self._close()
        self.folder = self._close = None


def _is_same_file(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
