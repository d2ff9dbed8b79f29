"""Run blocks of code in fresh processes: import torch once, then fork for each block.

A line of standard input is a JSON object with `code`, `name`, `folder`; a line of the answer has
`status` and `output`. The parent has one thread, so a fork copies no held lock.
"""

import json
import os
import sys
import tempfile
import traceback
import warnings

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # read by the imports

import numpy  # noqa: F401
import torch

import seqcells  # noqa: F401

torch.set_num_threads(1)
torch.testing.assert_close(torch.ones(1), torch.ones(1))  # its first call imports half a second


def run(code, name, folder):
    """Execute a block as a script in a forked process; return its exit status and output."""
    with tempfile.TemporaryFile() as file:
        process = os.fork()
        if process == 0:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            os._exit(execute(code, name, folder))
        _, status = os.waitpid(process, 0)
        file.seek(0)
        return os.waitstatus_to_exitcode(status), file.read().decode(errors="replace")


def execute(code, name, folder):
    os.chdir(folder)
    warnings.simplefilter("error")
    try:
        exec(compile(code, name, "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    if len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("fork_server: expected one thread, got several; a fork may deadlock")
    for line in sys.stdin:
        status, output = run(**json.loads(line))
        print(json.dumps({"status": status, "output": output}), flush=True)
