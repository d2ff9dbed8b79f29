"""Plot the gates of a trained classifier while it reads one review, as in docs/trace.md.

python -m benchmarks.gates RUN

RUN is a run of `train.py` with seqcells.LSTM layers, such as one of configs/imdb_lstm.yaml.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.options import parser_of
from benchmarks.picture import STYLE
from seqcells import LSTM, Trace, backend, trace
from seqcells.lab.models import TextClassifier
from seqcells.lab.training import Run, encode, load_best

PATH = "build/trace_gates.svg"
REVIEW = (
    "I expected little , and the first half hour was slow and dull . But then the story turned , "
    "the acting was wonderful , and I left the cinema happy ."
)
SHOWN = ("input", "forget", "output")
NEGATIVE = "#D55E00"


def largest_difference(model: TextClassifier, words: Tensor, traces: dict[str, Trace]) -> float:
    """Return the largest difference between the outputs of the recurrence and of its trace."""
    directions = 1 + model.recurrent.bidirectional
    last = [found.outputs for found in list(traces.values())[-directions:]]
    return (torch.cat(last, -1) - model.recurrent(words)[0]).abs().max().item()


def running_probability(model: TextClassifier, tokens: Tensor) -> Tensor:
    """Return the probability, after each word, that the review is positive."""
    steps = len(tokens)
    return model(tokens.expand(-1, steps), torch.arange(1, steps + 1)).sigmoid()


def draw(path: Path, words: list[str], probabilities: Tensor, gates: dict[str, Tensor]) -> None:
    """Draw the probability by word, and a map of each gate: units by words, closed to open."""
    order = gates["forget"].mean(0).argsort()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 7), layout="constrained")
        first, *maps = figure.subplots(1 + len(SHOWN), sharex=True, height_ratios=[2, 3, 3, 3])
        _draw_probability(first, probabilities)
        for axes, name in zip(maps, SHOWN):
            image = axes.imshow(
                gates[name].T[order].numpy(), aspect="auto", vmin=0, vmax=1, interpolation="nearest"
            )
            axes.set_ylabel(f"{name} gate")
            axes.set_yticks([])
        maps[-1].set_xticks(range(len(words)), words, rotation=90)
        figure.colorbar(image, ax=maps, label="closed to open", shrink=0.6)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None}, dpi=100)


def _draw_probability(axes: Axes, probabilities: Tensor) -> None:
    colours = ["#0072B2" if probability > 0.5 else NEGATIVE for probability in probabilities]
    heights = (probabilities - 0.5).tolist()
    axes.bar(range(len(heights)), heights, bottom=0.5, color=colours)
    axes.axhline(0.5, color="black", linewidth=0.8)
    axes.set_ylim(0, 1)
    axes.set_ylabel("positive")
    axes.spines[["top", "right"]].set_visible(False)


@torch.no_grad()
def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--text", default=REVIEW, help="the review")
    parser.add_argument("--output", default=PATH, metavar="FILE", help=f"default: {PATH}")
    options = parser.parse_args(argv)
    output = Path(options.output)
    run = Run.open(options.run)
    vocabulary = run.load_vocabulary()
    model = load_best(run, vocabulary).eval()
    if not isinstance(getattr(model, "recurrent", None), LSTM):
        raise ValueError(f"RUN: expected a model of seqcells.LSTM layers, got {run.config.model}")
    tokens = torch.tensor(encode(options.text, vocabulary, run.config.data)).unsqueeze(1)
    words = model.inputs(tokens)
    traces = trace(model.recurrent, words)
    with backend("reference"):
        exact = largest_difference(model, words, traces)
    kernel = largest_difference(model, words, traces)
    print(
        f"Largest difference to the model's outputs: {exact:g} by the loop, {kernel:.1g} by default"
    )
    gates = {name: traces["l0"].gates[name][:, 0] for name in SHOWN}
    probabilities = running_probability(model, tokens)
    print(f"Positive with probability {probabilities[-1]:.3f}; mean of the gates over all units:")
    for n, word in enumerate(vocabulary.tokenise(options.text)):
        means = " ".join(f"{name} {gate[n].mean():.2f}" for name, gate in gates.items())
        print(f"  {probabilities[n]:.3f}  {means}  {word}")
    output.parent.mkdir(parents=True, exist_ok=True)
    draw(output, vocabulary.tokenise(options.text), probabilities, gates)
    print(f"\nPicture: {output}")


if __name__ == "__main__":
    main(sys.argv[1:])
