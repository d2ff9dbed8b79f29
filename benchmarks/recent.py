"""Cells of recent papers against loops over their equations, and against torchrecurrent.

Each loop is written in PyTorch from the paper of the cell: the products with the inputs for all
steps at once, then a function of the state per step. The step is also compiled by `torch.compile`.
Outputs and gradients are compared before they are timed, in turn.

    python -m benchmarks.recent
    python -m benchmarks.recent --only rhn,lem
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

import seqcells
from benchmarks import torchrecurrent_layers
from benchmarks.options import at_least_one, parser_of, words_of
from benchmarks.table import markdown
from benchmarks.timing import in_turn
from benchmarks.torchrecurrent_layers import HOW_TO_INSTALL, MULTIPLICATIVE, Theirs
from seqcells import GatedCell, Recurrent

STEPS, ROWS, SIZE = 200, 32, 256
TOLERANCE = 1e-3  # relative; float32 over 200 steps

Step = Callable[..., tuple[Tensor, ...]]


def slstm(
    x: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor, blocks: Tensor
) -> tuple[Tensor, ...]:
    """Beck et al. 2024. `blocks` is `(4, heads, D, D)`."""
    gates, heads, size, _ = blocks.shape
    product = torch.einsum("bkd,gkud->bgku", h.view(-1, heads, size), blocks)
    i, f, z, o = (x + product.reshape(-1, gates * heads * size)).chunk(4, dim=-1)
    kept = F.logsigmoid(f) + m
    new = torch.maximum(kept, i)
    i, f = torch.exp(i - new), torch.exp(kept - new)
    c = f * c + i * torch.tanh(z)
    n = f * n + i
    return torch.sigmoid(o) * c / n, c, n, new


def multiplicative_lstm(
    x: Tensor, h: Tensor, c: Tensor, weight: Tensor, bias: Tensor, late: Tensor
) -> tuple[Tensor, ...]:
    """Krause et al. 2016. `late` multiplies the product m of the input and the hidden state."""
    size = h.shape[-1]
    m = x[:, :size] * F.linear(h, weight, bias)
    i, f, g, o = (x[:, size:] + F.linear(m, late)).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def rhn(x: Tensor, s: Tensor, weights: Tensor, biases: Tensor) -> tuple[Tensor, ...]:
    """Zilly et al. 2017. `weights` is `(depth, 2H, H)`; the first layer alone reads the input."""
    for layer, (weight, bias) in enumerate(zip(weights, biases)):
        sums = F.linear(s, weight, bias)
        n, t = (sums + x if layer == 0 else sums).chunk(2, dim=-1)
        t = torch.sigmoid(t)
        s = torch.tanh(n) * t + s * (1 - t)
    return (s,)


def lem(x: Tensor, y: Tensor, z: Tensor, weight: Tensor, late: Tensor) -> tuple[Tensor, ...]:
    """Rusch et al. 2022, with a time step of 1. `late` multiplies the new z."""
    size = y.shape[-1]
    p, q, u = (x[:, : 3 * size] + F.linear(y, weight)).chunk(3, dim=-1)
    p, q = torch.sigmoid(p), torch.sigmoid(q)
    z = (1 - p) * z + p * torch.tanh(u)
    return (1 - q) * y + q * torch.tanh(x[:, 3 * size :] + F.linear(z, late)), z


def slstm_weights(cell: GatedCell) -> tuple[Tensor, ...]:
    size = cell.hidden_size // cell.heads
    return (cell.weight_hh.view(4, cell.heads, size, size),)


def multiplicative_weights(cell: GatedCell) -> tuple[Tensor, ...]:
    size = cell.hidden_size
    return cell.weight_hh[:size], cell.bias_hh[:size], cell.weight_hh[size:]


def rhn_weights(cell: GatedCell) -> tuple[Tensor, ...]:
    size = 2 * cell.hidden_size
    return torch.stack(cell.weight_hh.split(size)), torch.stack(cell.bias_hh.split(size))


def lem_weights(cell: GatedCell) -> tuple[Tensor, ...]:
    size = 3 * cell.hidden_size
    return cell.weight_hh[:size], cell.weight_hh[size:]


class Case(NamedTuple):
    """A cell, the step of its paper with the recurrent weights, and torchrecurrent's layer.

    `added` is the first row of `bias_hh` that the loop adds to the product with the inputs, None if
    its step adds all.
    """

    word: str
    title: str
    cell: Callable[[int, int], GatedCell]
    step: Step
    weights: Callable[[GatedCell], tuple[Tensor, ...]]
    added: Callable[[GatedCell], int | None] = lambda _: 0
    theirs: Theirs | None = None


def first_late(cell: GatedCell) -> int:
    return (len(cell.gates) - len(cell.late_gates)) * cell.hidden_size


CASES = (
    Case("slstm", "sLSTM, 4 heads", partial(seqcells.SLSTMCell, heads=4), slstm, slstm_weights),
    Case("slstm", "sLSTM", seqcells.SLSTMCell, slstm, slstm_weights),
    Case(
        "multiplicative_lstm",
        "multiplicative LSTM",
        seqcells.MultiplicativeLSTMCell,
        multiplicative_lstm,
        multiplicative_weights,
        first_late,
        MULTIPLICATIVE,
    ),
    Case("rhn", "RHN, depth 3", seqcells.RHNCell, rhn, rhn_weights, lambda _: None),
    Case("lem", "LEM", seqcells.LEMCell, lem, lem_weights),
)


def loop(case: Case, run_step: Step, cell: GatedCell, inputs: Tensor) -> Tensor:
    """Return the outputs of all steps."""
    bias, added = cell.bias_ih, case.added(cell)
    if added is not None:
        bias = bias + torch.cat([torch.zeros_like(bias[:added]), cell.bias_hh[added:]])
    from_inputs, weights = F.linear(inputs, cell.weight_ih, bias), case.weights(cell)
    state: Any = cell.initial_state(inputs.shape[1])
    outputs = []
    for from_input in from_inputs:
        state = run_step(from_input, *([state] if torch.is_tensor(state) else state), *weights)
        outputs.append(state[0])
    return torch.stack(outputs)


def relative(found: list[Tensor], exact: list[Tensor]) -> float:
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True))


def measure(case: Case, train: bool, compiled: Step, rounds: int) -> list[str]:
    """Return one row of the table."""
    torch.manual_seed(0)
    cell = case.cell(SIZE, SIZE)
    recurrent, inputs = Recurrent(cell), torch.randn(STEPS, ROWS, SIZE)
    runs: dict[str, tuple[Callable[[], Tensor], torch.nn.Module]] = {
        "ours": (lambda: recurrent(inputs)[0], cell),
        "loop": (lambda: loop(case, case.step, cell, inputs), cell),
        "compiled": (lambda: loop(case, compiled, cell, inputs), cell),
    }
    layer = case.theirs and case.theirs.layer(cell)
    if layer is not None:
        runs["theirs"] = (lambda: layer(inputs)[0], layer)

    def once(name: str) -> list[Tensor]:
        run, module = runs[name]
        if not train:
            with torch.no_grad():
                return [run()]
        outputs = run()
        return [outputs.detach(), *torch.autograd.grad(outputs.sum(), list(module.parameters()))]

    exact = once("loop")
    equal = dict.fromkeys(("ours", "compiled"), exact)
    if layer is not None:
        equal["theirs"] = exact[:1]  # its parameters are divided in another way
    error = max(relative(once(name)[: len(exact)], exact) for name, exact in equal.items())
    if error > TOLERANCE:
        raise RuntimeError(f"expected equal results, got a relative difference of {error:.1e}")
    mode = "forward and backward" if train else "forward"
    with tqdm(total=rounds, desc=f"{case.title}, {mode}", leave=False, disable=None) as bar:
        seconds = in_turn([partial(once, name) for name in runs], rounds, bar.update)
    times = dict(zip(runs, seconds))
    missing = "none" if case.theirs is None else "not installed"
    names = ("loop", "compiled", "theirs")
    return [
        case.title,
        mode,
        f"{1e3 * times['ours']:.1f}",
        *(f"{1e3 * times[name]:.1f}" if name in times else missing for name in names),
        *(f"{times[name] / times['ours']:.1f}" if name in times else missing for name in names[:2]),
        f"{times['theirs'] / times['ours']:.1f}" if "theirs" in times else missing,
    ]


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    words = list(dict.fromkeys(case.word for case in CASES))
    parser.add_argument("--only", default=",".join(words), help="cells, separated by commas")
    parser.add_argument("--rounds", type=at_least_one, default=7, help="default: %(default)s")
    parser.add_argument(
        "--threads", type=at_least_one, default=torch.get_num_threads(), help="default: %(default)s"
    )
    options: argparse.Namespace = parser.parse_args(argv)
    chosen = words_of(parser, "--only", options.only, words)
    torch.set_num_threads(options.threads)
    cases = [case for case in CASES if case.word in chosen]
    print(f"T={STEPS}, B={ROWS}, {SIZE} inputs and units, {options.threads} threads, float32, ms\n")
    sides = ("loop", "compiled step", "torchrecurrent")
    figures = ["seqcells", *sides, *(f"{side} / seqcells" for side in sides)]
    rows = (
        measure(case, train, torch.compile(case.step), options.rounds)
        for case in cases
        for train in (False, True)
    )
    for line in markdown(["cell", "pass"], figures, rows):
        print(line, flush=True)
    print("\nThe results of the loops and of seqcells agree.")
    if torchrecurrent_layers.torchrecurrent is None:
        print(HOW_TO_INSTALL)


if __name__ == "__main__":
    main(sys.argv[1:])
