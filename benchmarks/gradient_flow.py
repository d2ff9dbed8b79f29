"""Measure vanishing and exploding gradients of untrained recurrences, as in docs/gradients.md.

python -m benchmarks.gradient_flow

Random inputs, a loss at the last step, float64, one seed. Prints and draws `gradient_flow` by cell
and by the size of the recurrent weights, and the effect of clipping on the parameters' gradient.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.options import parser_of
from benchmarks.picture import COLOURS, STYLE
from benchmarks.table import markdown
from seqcells import GRUCell, LSTMCell, Recurrent, RNNCell
from seqcells.init import chrono_, forget_bias_, identity_, orthogonal_
from seqcells.inspect.flow import gradient_flow

FOLDER = "build"
STEPS, ROWS, FEATURES, UNITS = 200, 32, 32, 64
SEED = 0

# Label: class, initialisation, line style.
CELLS = {
    "RNN": (RNNCell, lambda cell: cell, "-"),
    "GRU": (GRUCell, lambda cell: cell, "-"),
    "LSTM": (LSTMCell, lambda cell: cell, "-"),
    "LSTM, forget bias 1": (LSTMCell, forget_bias_, ":"),
    "GRU, chrono": (GRUCell, lambda cell: chrono_(cell, STEPS), "--"),
    "LSTM, chrono": (LSTMCell, lambda cell: chrono_(cell, STEPS), "--"),
}
GAINS = {0.5: "#56B4E9", 1.0: "#0072B2", 1.5: "#009E73", 2.0: "#E69F00", 3.0: "#D55E00"}
SWEEP = [0.25 * number for number in range(2, 13)]
MAX_NORM, MAX_VALUE = 1.0, 0.001


def made(kind: type, fill: Callable[[nn.Module], nn.Module], **options: str) -> Recurrent:
    """Return a recurrence of the benchmark's sizes and seed."""
    torch.manual_seed(SEED)
    return Recurrent(fill(kind(FEATURES, UNITS, dtype=torch.float64, **options)))


def plain(gain: float) -> Recurrent:
    """Return an RNN whose recurrent matrix has all singular values equal to `gain`."""
    return made(RNNCell, partial(orthogonal_, gain=gain))


def inputs() -> Tensor:
    generator = torch.Generator().manual_seed(SEED)
    return torch.randn(STEPS, ROWS, FEATURES, dtype=torch.float64, generator=generator)


def flow(recurrent: Recurrent) -> Tensor:
    """Return the median over the rows of the batch, `(T,)`."""
    return gradient_flow(recurrent, inputs())["Recurrent"].median(dim=1).values


def clipped(gain: float) -> dict[str, Tensor]:
    """Return the gradient of all parameters of an RNN as one vector: whole, clipped two ways."""
    recurrent = plain(gain)
    outputs, _ = recurrent(inputs())
    parameters = list(recurrent.parameters())
    whole = torch.autograd.grad(outputs[-1].mean(), parameters)
    vectors = {"whole": torch.cat([gradient.flatten() for gradient in whole])}
    for name, clip, bound in (
        ("by norm", nn.utils.clip_grad_norm_, MAX_NORM),
        ("by value", nn.utils.clip_grad_value_, MAX_VALUE),
    ):
        for parameter, gradient in zip(parameters, whole):
            parameter.grad = gradient.clone()
        clip(parameters, bound)
        vectors[name] = torch.cat([parameter.grad.flatten() for parameter in parameters])
    return vectors


def factors(recurrent: Recurrent) -> str:
    """Describe the expected factor per step back of an RNN: largest eigenvalue and mean slope."""
    eigenvalue = torch.linalg.eigvals(recurrent.cell.weight_hh.detach()).abs().max().item()
    slope = (1 - recurrent(inputs())[0] ** 2).mean().item()
    return (
        f"RNN: largest eigenvalue {eigenvalue:.3f}, mean slope of the tanh {slope:.3f}, "
        f"product {eigenvalue * slope:.3f}"
    )


def flow_table(flows: dict[str, Tensor]) -> Iterator[str]:
    """Return a table of norms at a few steps, and of the factor per step back."""
    shown = [1, *(STEPS * quarter // 4 for quarter in range(1, 5))]
    rows = []
    for label, norms in flows.items():
        factor = (norms[0] / norms[-1]) ** (1 / (STEPS - 1))
        rows.append([label, *(f"{norms[t - 1]:.1e}" for t in shown), f"{factor:.3f}"])
    return markdown(["recurrence"], [*(f"t={t}" for t in shown), "factor per step back"], rows)


def clip_table(rows: dict[float, dict[str, Tensor]]) -> Iterator[str]:
    """Return a table of norms of the parameters' gradient, and cosines to the whole gradient."""
    lines = []
    for gain, vectors in rows.items():
        whole, *others = vectors.values()
        norms = [f"{vector.norm():.1e}" for vector in vectors.values()]
        cosines = [f"{torch.cosine_similarity(whole, vector, dim=0):.2f}" for vector in others]
        lines.append([f"{gain:g}", *norms, *cosines])
    columns = ["whole", "by norm", "by value", "cosine to the whole: by norm", "by value"]
    return markdown([], ["gain", *columns], lines)


def draw_cells(axes: Axes, flows: dict[str, Tensor]) -> None:
    for label, norms in flows.items():
        kind, _, line = CELLS[label]
        colour = COLOURS[kind.__name__.removesuffix("Cell")]
        axes.plot(range(1, STEPS + 1), norms, line, color=colour, label=label, linewidth=1.4)
    _name_time(axes)
    axes.set_ylim(1e-50, 1e3)


def draw_weights(axes: Axes, flows: dict[float, Tensor]) -> None:
    """Draw the norms of each gain, and their theoretical bound for gains up to one."""
    for gain, norms in flows.items():
        times = range(1, STEPS + 1)
        axes.plot(times, norms, color=GAINS[gain], label=f"{gain:g}", linewidth=1.4)
        if gain <= 1:
            axes.plot(times, ceiling(gain), ":", color=GAINS[gain], linewidth=1)
    _name_time(axes)
    axes.set_ylim(1e-50, 1e30)


def ceiling(gain: float) -> Tensor:
    """Return the upper bound of the norm at each step, for a tanh without saturation."""
    weight_ih = plain(gain).cell.weight_ih.detach()
    last = UNITS**0.5 * torch.linalg.matrix_norm(weight_ih, 2)
    return last * gain ** torch.arange(STEPS - 1, -1, -1, dtype=torch.float64)


def draw_clipping(axes: Axes, rows: dict[float, dict[str, Tensor]]) -> None:
    """Draw the norms, and dotted the bounds: by value, that of all elements at their bound."""
    size = len(next(iter(rows.values()))["whole"])
    bounds = {"whole": None, "by norm": MAX_NORM, "by value": MAX_VALUE * size**0.5}
    for (name, bound), colour in zip(bounds.items(), ("#D55E00", "#0072B2", "#009E73")):
        norms = [vectors[name].norm() for vectors in rows.values()]
        label = "clipped " + name if bound else "not clipped"
        axes.plot(list(rows), norms, "o-", color=colour, label=label, markersize=3, linewidth=1.4)
        if bound:
            axes.axhline(bound, color=colour, linestyle=":", linewidth=1)
    axes.set_xlabel("gain of the orthogonal recurrent matrix")
    axes.set_ylabel("norm of the gradient of all parameters")


def _name_time(axes: Axes) -> None:
    axes.set_xlabel("time step t")
    axes.set_ylabel("norm of dL/dx at step t")
    axes.set_xlim(1, STEPS)


def write(path: Path, draw: Callable[..., None], measured: dict, title: str, legend: str) -> None:
    """Write one panel as an SVG; the same figures make the same file."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.set_yscale("log")
        draw(axes, measured)
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(title, fontsize=10)
        figure.legend(loc="outside right upper", title=legend or None, frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    print()


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--output", default=FOLDER, metavar="FOLDER", help=f"of the pictures; default: {FOLDER}"
    )
    folder = Path(parser.parse_args(argv).output)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / f"gradients_{name}.svg" for name in ("cells", "weights", "clipping")}
    print(f"T={STEPS} B={ROWS} I={FEATURES} H={UNITS}, medians over the batch\n")
    cells = {label: flow(made(kind, fill)) for label, (kind, fill, _) in CELLS.items()}
    print("\n".join([*flow_table(cells), "", factors(made(*CELLS["RNN"][:2]))]))
    title = "Gradient at each step's input, loss at the last step"
    write(paths["cells"], draw_cells, cells, title, "")

    gains = {gain: flow(plain(gain)) for gain in GAINS}
    identity = flow(made(RNNCell, identity_, nonlinearity="relu"))
    print("\n".join(flow_table({f"RNN, gain {g:g}": norms for g, norms in gains.items()})))
    print(list(flow_table({"RNN, relu, identity": identity}))[-1])
    write(paths["weights"], draw_weights, gains, "RNN with orthogonal recurrent weights", "gain")

    rows = {gain: clipped(gain) for gain in SWEEP}
    print(f"At most {MAX_NORM:g} by norm, {MAX_VALUE:g} per element by value\n")
    print("\n".join(clip_table(rows)))
    write(paths["clipping"], draw_clipping, rows, "Gradient of an RNN's parameters", "")
    print(f"Pictures: {', '.join(map(str, paths.values()))}")


if __name__ == "__main__":
    main(sys.argv[1:])
