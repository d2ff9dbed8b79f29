"""Atomic file writes."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

REMEDIES = {
    errno.ENOENT: "create its folder first",
    errno.EISDIR: "add the name of a file",
    errno.ENOSPC: "free disk space",
    errno.EDQUOT: "free disk space",
}


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write to a temporary file and rename it to `path`; on failure `path` is unchanged.

    Symbolic links are followed. Devices and pipes are written directly.

    Raises:
        OSError: the file cannot be written. The message names `path`, not the temporary file. It
            replaces any exception of `write` that follows a failed write to the file.
    """
    try:
        direct = path.exists() and not path.is_file()  # opening a folder raises
        target = path if direct else Path(os.path.realpath(path))
        part = path if direct else target.with_name(f"{target.name}.{os.getpid()}.part")
        output = _Output(part, "wb")
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        with io.BufferedWriter(output) as file:
            write(file)
            file.flush()
            if not direct:
                output.attempt(os.fsync, file.fileno())
        if not direct:
            output.attempt(os.replace, part, target)
    except Exception as error:
        if output.failure is None:
            raise
        raise unwritable(path, output.failure) from error
    finally:
        if not direct:
            part.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> OSError:
    """Return an error of the same type that names `path` and the reason."""
    reason = error.strerror or str(error)
    remedy = REMEDIES.get(error.errno or 0, "choose another path")
    named = type(error)(f"expected a path that can be written, got {path} ({reason}); {remedy}")
    named.errno = error.errno
    return named


class _Output(io.FileIO):
    """A file that remembers a failure, as torch.save replaces the error of a failed write."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        return self.attempt(super().write, data)

    def attempt(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        """Run `operation`; record the error if it fails."""
        try:
            return operation(*arguments)
        except OSError as error:
            self.failure = error
            raise
