"""Time single steps of a stream: `Stepper`, torch.nn and onnxruntime, in one thread.

python -m benchmarks.streams
python -m benchmarks.streams --only lstm,H=64

One row (B=1) steps through a stream, and each step reads the state that the step before left. All
engines have the same weights and inputs, as wide as the state (I=H), and use one thread. torch.nn
runs under `torch.inference_mode`: its cells one after another, and its layers with one time step.
onnxruntime runs the stateful export, with NumPy arrays in and out.

Every step is timed by itself. The engines take turns, some steps at a time. p50 and p99 are the
median and the 99th percentile over all steps of all turns. The last column divides the fastest
other median by that of `Stepper`.

The second table has the memory of a stream: the increase of the peak resident size of a fresh
process after its imports and a small stream.
"""

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

from tqdm import tqdm

from benchmarks.memory import largest_size
from benchmarks.options import at_least_one, parser_of, select, words_of
from benchmarks.shapes import GATES
from benchmarks.table import markdown

SEED = 0
AXES: tuple[dict[str, Any], ...] = (
    {"lstm": "LSTM", "gru": "GRU"},
    {f"L={layers}": layers for layers in (1, 2)},
    {f"H={units}": units for units in (16, 40, 64, 128, 256)},
)
WARM_UP, TURN = 200, 100  # steps
assert set(AXES[0].values()) <= set(GATES)


class Case(NamedTuple):
    """A stack of layers with as many inputs as units."""

    cell: str
    layers: int
    units: int

    def __str__(self) -> str:
        return f"{self.cell}, L={self.layers}, H={self.units}"


LARGEST = Case("LSTM", 2, 256)  # of the table of memory


def layers_of(case: Case, package: Any) -> Any:
    """Return the layers of torch.nn or seqcells with the weights of the case."""
    import torch

    torch.manual_seed(SEED)
    theirs = getattr(torch.nn, case.cell)(case.units, case.units, case.layers)
    ours = getattr(package, case.cell)(case.units, case.units, case.layers)
    ours.load_state_dict(theirs.state_dict())
    return ours.eval()


def inputs_of(case: Case) -> Any:
    """Return inputs of some steps `(steps, H)`."""
    import torch

    return torch.randn(64, case.units, generator=torch.Generator().manual_seed(SEED))


# Each engine returns a function that runs the next step on the input `(H,)` of this number.


def stepper(case: Case) -> Callable[[int], Any]:
    import seqcells

    stepper, inputs = seqcells.Stepper(layers_of(case, seqcells)), inputs_of(case).unbind(0)
    return lambda number: stepper(inputs[number])


def torch_layers(case: Case) -> Callable[[int], Any]:
    import torch

    layers, state = layers_of(case, torch.nn), None
    inputs = inputs_of(case).view(-1, 1, 1, case.units).unbind(0)

    @torch.inference_mode()
    def step(number: int) -> Any:
        nonlocal state
        output, state = layers(inputs[number], state)
        return output

    return step


def torch_cells(case: Case) -> Callable[[int], Any]:
    import torch

    layers = layers_of(case, torch.nn)
    kind, names = getattr(torch.nn, f"{case.cell}Cell"), ("weight_ih", "weight_hh")
    cells = []
    for number in range(case.layers):
        cells.append(kind(case.units, case.units))
        for name in (*names, "bias_ih", "bias_hh"):
            getattr(cells[-1], name).data = getattr(layers, f"{name}_l{number}").data
    states: list[Any] = [None] * case.layers
    inputs = inputs_of(case).unsqueeze(1).unbind(0)
    pair = case.cell == "LSTM"

    @torch.inference_mode()
    def step(number: int) -> Any:
        value = inputs[number]
        for n, cell in enumerate(cells):
            states[n] = cell(value, states[n])
            value = states[n][0] if pair else states[n]
        return value

    return step


def onnxruntime(case: Case) -> Callable[[int], Any]:
    import numpy
    import onnxruntime

    import seqcells
    from seqcells.lab.export.stateful import to_stateful_onnx

    model = to_stateful_onnx(layers_of(case, seqcells))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    inputs = list(inputs_of(case).numpy().reshape(-1, 1, 1, case.units))
    source, *names = (value.name for value in session.get_inputs())
    shape = (case.layers, 1, case.units)
    state = {name: numpy.zeros(shape, numpy.float32) for name in names}

    def step(number: int) -> Any:
        output, *new = session.run(None, {source: inputs[number], **state})
        state.update(zip(names, new))
        return output

    return step


ENGINES = {
    "nn.*Cell": torch_cells,
    "nn.*": torch_layers,
    "onnxruntime": onnxruntime,
    "Stepper": stepper,
}


def measure(case: Case, turns: int) -> dict[str, Any]:
    """Return the nanoseconds of each step, by engine; require equal outputs."""
    import numpy

    steps = {name: make(case) for name, make in ENGINES.items()}
    times: dict[str, list[int]] = {name: [] for name in steps}
    now = time.perf_counter_ns
    for turn in range(turns + 1):
        outputs = []
        for name, step in steps.items():
            found = times[name]
            for number in range(WARM_UP if turn == 0 else TURN):
                started = now()
                output = step(number % 64)
                ended = now()
                if turn:
                    found.append(ended - started)
            outputs.append(numpy.asarray(output).reshape(-1))
        for output in outputs[1:]:
            numpy.testing.assert_allclose(output, outputs[0], rtol=1e-4, atol=1e-5)
    return {name: numpy.percentile(found, (50, 99)) / 1e3 for name, found in times.items()}


def row(case: Case, percentiles: dict[str, Any]) -> list[str]:
    """Return a row of the table: microseconds, and the ratio of the medians."""
    medians = {name: pair[0] for name, pair in percentiles.items()}
    ratio = min(medians[name] for name in medians if name != "Stepper") / medians["Stepper"]
    figures = [f"{p50:.1f} / {p99:.1f}" for p50, p99 in percentiles.values()]
    return [case.cell, str(case.layers), str(case.units), *figures, f"{ratio:.1f}"]


def added_memory(name: str, case: Case) -> int:
    """Return by how much a stream increases the peak size of this process, in bytes."""
    import torch

    torch.set_num_threads(1)
    ENGINES[name](case._replace(units=16))(0)
    before = largest_size()
    step = ENGINES[name](case)
    for number in range(WARM_UP):
        step(number % 64)
    return largest_size() - before


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--only", default="", help="rows, as in --only lstm,L=1,H=64")
    parser.add_argument("--turns", type=at_least_one, default=50, help="default: %(default)s")
    options = parser.parse_args(argv)
    known = [word for axis in AXES for word in axis]
    cases = [
        Case(*values) for values in select(AXES, words_of(parser, "--only", options.only, known))
    ]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as fresh:
        sizes = {name: fresh.submit(added_memory, name, LARGEST).result() for name in ENGINES}

    import torch

    from seqcells.lab.machine import processor

    torch.set_num_threads(1)
    bar = tqdm(cases, leave=False, disable=None)
    rows = [row(case, measure(case, options.turns)) for case in bar]
    print(f"{processor()}; torch {torch.__version__}; {options.turns * TURN} steps per figure\n")
    figures = [f"{name}, p50 / p99, us" for name in ENGINES]
    print("\n".join(markdown(["layers", "L", "H"], [*figures, "fastest other / Stepper"], rows)))
    print()
    memory = [[name, f"{size / 1e6:.1f}"] for name, size in sizes.items()]
    print("\n".join(markdown([str(LARGEST)], ["added, MB"], memory)))


if __name__ == "__main__":
    main(sys.argv[1:])
