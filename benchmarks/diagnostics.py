"""Train each cell on diagnostic tasks of memory, and print the accuracy with the theory.

python -m benchmarks.diagnostics
python -m benchmarks.diagnostics --cells rnn,lstm --only adding

Runs are stored in runs/diagnostics; finished runs there are reused.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.options import parser_of
from seqcells.lab.model_config import CELLS
from seqcells.lab.training import Config, command, load_config
from seqcells.lab.training.session import train_in

CONFIGS = Path(__file__).parents[1] / "configs"
FOLDER = Path("runs/diagnostics")
REMEMBERS = 3.0  # initial bias of forget gates: each step keeps 0.95 of the cell state
EXPECTED = {
    "adding": (
        "adding: chance is 8%, a mean square of 0.167. Through 100 steps a plain RNN's gradient "
        "vanishes; gates carry the first number to the second."
    ),
    "copying": (
        "copying: chance is 12.5%. Ten symbols must be remembered at once. An additive cell state "
        "can, and so can a plain RNN whose recurrence starts orthogonal and only rotates its "
        "state (Henaff et al. 2016). Units without connections to each other remember few."
    ),
    "digits": (
        "digits: chance is 10%. 64 steps are short enough for every cell; a state of independent "
        "or linear units needs more width or depth."
    ),
    "corpus_lstm": (
        "corpus: chance is 50%. 30% of the verdicts stand at the end, which gives 65%; the "
        "others must be carried over up to 80 words."
    ),
}
DEFAULT_CELLS = (
    "rnn",
    "indrnn",
    "min_gru",
    "gru",
    "mgu",
    "lstm",
    "layer_norm_lstm",
    "coupled_lstm",
    "slstm",
    "multiplicative_lstm",
    "rhn",
    "lem",
    "ugrnn",
)


def config_of(task: str, cell: str) -> Config:
    """Return the configuration of a task with another cell, its forget gates open."""
    config = load_config(CONFIGS / f"{task}.yaml")
    example = CELLS[cell](1, 1, device="meta")
    weight = example.weight_hh
    matrix = weight is not None and weight.dim() == 2
    model = replace(
        config.model,
        cell=cell,
        recurrent_init="orthogonal" if matrix else "uniform",
        forget_bias=REMEMBERS if "forget" in example.gates else None,
    )
    return replace(config, model=model, run=str(FOLDER / f"{task}-{cell}"))


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--cells", default=",".join(DEFAULT_CELLS), help="cells, separated by commas"
    )
    parser.add_argument("--only", default=",".join(EXPECTED), help="tasks, separated by commas")
    options = parser.parse_args(argv)
    tasks, cells = options.only.split(","), options.cells.split(",")
    for name, known in [(task, EXPECTED) for task in tasks] + [(cell, CELLS) for cell in cells]:
        if name not in known:
            raise ValueError(f"expected names out of {', '.join(known)}, got {name!r}")
    found = {}
    for number, (task, cell) in enumerate(((t, c) for t in tasks for c in cells), 1):
        config = config_of(task, cell)
        print(f"{number}/{len(tasks) * len(cells)}: {config.run}", flush=True)
        found[task, cell] = train_in(Path(config.run), config)["test_accuracy"]
    print(f"\ntorch {torch.__version__}; accuracy on the test examples, one seed\n")
    names = [task.partition("_")[0] for task in tasks]
    print("| cell | " + " | ".join(names) + " |")
    print("|---|" + "---:|" * len(tasks))
    for cell in cells:
        print(f"| {cell} | " + " | ".join(f"{found[task, cell]:.1%}" for task in tasks) + " |")
    print("\nTheory:\n")
    for task in tasks:
        print(f"- {EXPECTED[task]}")


if __name__ == "__main__":
    sys.exit(command(main, sys.argv[1:]))
