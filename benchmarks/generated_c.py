"""Time a step of the generated C code against the library's kernel, in one thread.

python -m benchmarks.generated_c
CC=clang python -m benchmarks.generated_c

Both run the same 200 steps of one row (B=1), as wide as the state (I=H). The C code is compiled
with `-O3 -march=native -ffp-contract=fast`, and multiplies inputs and state step by step; the
kernel multiplies the inputs of many steps at once. The two are timed in turn. A figure is the
fastest round, divided by the number of steps.
"""

import ctypes
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

import seqcells
from benchmarks.options import at_least_one, parser_of
from benchmarks.table import markdown
from benchmarks.timing import in_turn
from seqcells.lab.export.c import write_c
from seqcells.lab.machine import processor

LAYERS = {"LSTM": seqcells.LSTM, "GRU": seqcells.GRU}
SIZES = (16, 40, 64, 128)
STEPS = 200
FLAGS = ["-std=c99", "-O3", "-march=native", "-ffp-contract=fast"]


def compile_c(layer: nn.Module, folder: Path) -> ctypes.CDLL:
    """Return the C code of a layer as a loaded library."""
    write_c(layer, folder, "net")
    compiler = shlex.split(os.environ.get("CC", "gcc"))
    options = [*FLAGS, "-shared", "-fPIC", "net.c", "-lm", "-o", "net.so"]
    subprocess.run([*compiler, *options], cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "net.so"))


def runs(layer: nn.Module, library: ctypes.CDLL) -> tuple[Callable[[], object], ...]:
    """Return the functions to time: C code and kernel. Require equal outputs."""
    inputs = torch.randn(STEPS, layer.input_size)
    outputs = torch.empty(STEPS, layer.hidden_size)
    state = ctypes.create_string_buffer(1 << 16)
    library.net_reset(state)
    source, target = (ctypes.c_void_p(tensor.data_ptr()) for tensor in (inputs, outputs))

    def code() -> Tensor:
        library.net_run(state, source, ctypes.c_long(STEPS), target)
        return outputs  # referenced, as inputs are by the kernel

    kernel = partial(layer, inputs.unsqueeze(1))
    torch.testing.assert_close(code(), kernel()[0].squeeze(1))
    return code, kernel


@torch.inference_mode()
def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=at_least_one, default=50, help="default: %(default)s")
    options = parser.parse_args(argv)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = []
    cases = [(name, units) for name in LAYERS for units in SIZES]
    with tqdm(total=len(cases) * options.rounds, leave=False, disable=None) as bar:
        for name, units in cases:
            layer = LAYERS[name](units, units).eval()
            with tempfile.TemporaryDirectory() as folder:
                timed = runs(layer, compile_c(layer, Path(folder)))
                code, kernel = in_turn(timed, options.rounds, bar.update, statistic=min)
            times = [f"{1e6 * taken / STEPS:.2f}" for taken in (code, kernel)]
            rows.append([name, str(units), *times, f"{code / kernel:.2f}"])
    print(f"{processor()}; {os.environ.get('CC', 'gcc')} {' '.join(FLAGS)}; T={STEPS}\n")
    print("\n".join(markdown(["layer", "H"], ["C, us", "kernel, us", "C / kernel"], rows)))


if __name__ == "__main__":
    main(sys.argv[1:])
