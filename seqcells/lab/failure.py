"""The line on standard error that ends a failed command, also under torchrun."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path


def print_failure(line: str) -> None:
    """Print a line to standard error.

    Several processes of one `torchrun` may report the same line: the first prints it, and all
    record it for the summary that `torchrun` prints when a process fails.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")  # FOLDER/LOCAL_RANK/error.json
    if path is None or not Path(path).parent.is_dir():
        print(line, file=sys.stderr, flush=True)
        return
    file = Path(path)
    # An error may occur in one process only, or end the others before they report it. So no
    # process is the only one that prints: a file in the shared folder marks a printed line.
    marker = file.parents[1] / f"printed-{hashlib.sha256(line.encode()).hexdigest()}"
    try:
        marker.touch(exist_ok=False)
        printed = False
    except OSError:
        printed = marker.exists()
    if not printed:
        print(line, file=sys.stderr, flush=True)
    details = {"timestamp": str(int(time.time()))}
    file.write_text(json.dumps({"message": {"message": line, "extraInfo": details}}))
