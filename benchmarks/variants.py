"""Time further cells against the plain ones, a Python loop, and torchrecurrent.

python -m benchmarks.variants

A training step is forward, and backward from a given gradient of the outputs to the inputs. All
columns of a row are timed in turn, with the same weights and inputs. The loop calls a cell in the
style of torch.nn at each step: torch.nn's own, or our equations with both products in the call and
without validation.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

import seqcells
from benchmarks import torchrecurrent_layers
from benchmarks.options import at_least_one, parser_of
from benchmarks.shapes import SHAPES, Shape
from benchmarks.table import markdown
from benchmarks.timing import in_turn
from benchmarks.torchrecurrent_layers import HOW_TO_INSTALL, MULTIPLICATIVE, Theirs
from seqcells import GatedCell, LSTMState, Recurrent

NAMES = ("small", "medium")
SEED, SHARE = 0, 0.2
PLAIN = {"GRU": seqcells.GRUCell, "LSTM": seqcells.LSTMCell}


class OwnLSTM(GatedCell):
    """An LSTM written as a user's own cell."""

    gates = ("input", "forget", "candidate", "output")

    def initial_state(self, batch_size: int, **kind: Any) -> LSTMState:
        return LSTMState(*(GatedCell.initial_state(self, batch_size, **kind) for _ in range(2)))

    @staticmethod
    def activate(
        from_input: Tensor, from_hidden: Tensor, state: LSTMState
    ) -> tuple[LSTMState, tuple[Tensor, ...]]:
        input, forget, candidate, output = (from_input + from_hidden).chunk(4, dim=-1)
        input, forget, output = input.sigmoid(), forget.sigmoid(), output.sigmoid()
        candidate = candidate.tanh()
        cell = forget * state.cell + input * candidate
        return LSTMState(output * cell.tanh(), cell), (input, forget, candidate, output)


class CompiledLSTM(OwnLSTM, compile=True):
    """The same with a compiled kernel."""


class ZoneoutLSTM(nn.LSTMCell):
    """Zoneout written around torch.nn's cell."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        new = super().forward(input, hx)
        old = (torch.zeros_like(new[0]),) * 2 if hx is None else hx
        stays = [torch.rand_like(part) < SHARE for part in new]
        return tuple(torch.where(*parts) for parts in zip(stays, old, new))


class VariationalLSTM(nn.LSTMCell):
    """Variational dropout written around torch.nn's cell."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        if hx is None:
            hx = (input.new_zeros(len(input), self.hidden_size),) * 2
            self.mask = nn.functional.dropout(torch.ones_like(hx[0]), SHARE)
        return super().forward(input, (hx[0] * self.mask, hx[1]))


@dataclass(frozen=True)
class Variant:
    """One of our cells and its competitors.

    `plain` is the plain cell to compare with, `twin` the cell of torch.nn with the same equations,
    `theirs` the layer of torchrecurrent. `modifier` wraps our cell and draws random numbers, and
    then the `twin` does too.
    """

    name: str
    cell: Callable[[int, int], GatedCell]
    plain: str
    twin: type[nn.RNNCellBase] | None = None
    theirs: Theirs | None = None
    modifier: Callable[[GatedCell], Any] | None = None


VARIANTS = (
    Variant("RNN", seqcells.RNNCell, "GRU", twin=nn.RNNCell),
    Variant("GRU", seqcells.GRUCell, "GRU", twin=nn.GRUCell),
    Variant("LSTM", seqcells.LSTMCell, "LSTM", twin=nn.LSTMCell),
    Variant("LayerNormLSTM", seqcells.LayerNormLSTMCell, "LSTM"),
    Variant("LayerNormGRU", seqcells.LayerNormGRUCell, "GRU"),
    Variant("PeepholeLSTM", seqcells.PeepholeLSTMCell, "LSTM", theirs=Theirs("PeepholeLSTM")),
    Variant("CoupledLSTM", seqcells.CoupledLSTMCell, "LSTM"),
    Variant("LightLSTM", seqcells.LightLSTMCell, "LSTM"),
    Variant(
        "MGU",
        seqcells.MGUCell,
        "GRU",
        theirs=Theirs("MGU", note="torchrecurrent's gate acts before the product, ours after it"),
    ),
    Variant(
        "MGU, reset before",
        partial(seqcells.MGUCell, reset_after=False),
        "GRU",
        theirs=Theirs("MGU"),
    ),
    Variant(
        "IndRNN",
        seqcells.IndRNNCell,
        "GRU",
        theirs=Theirs("IndRNN", {"nonlinearity": "relu", "recurrent_bias": False}),
    ),
    Variant("MinGRU", seqcells.MinGRUCell, "GRU"),
    Variant("MinLSTM", seqcells.MinLSTMCell, "LSTM"),
    Variant("SLSTM", seqcells.SLSTMCell, "LSTM"),
    Variant("MultiplicativeLSTM", seqcells.MultiplicativeLSTMCell, "LSTM", theirs=MULTIPLICATIVE),
    Variant("RHN", seqcells.RHNCell, "GRU"),
    Variant("LEM", seqcells.LEMCell, "LSTM"),
    Variant("UGRNN", seqcells.UGRNNCell, "GRU", theirs=Theirs("UGRNN", order=(1, 0))),
    Variant(
        "LSTM, zoneout",
        seqcells.LSTMCell,
        "LSTM",
        twin=ZoneoutLSTM,
        modifier=partial(seqcells.Zoneout, share=SHARE),
    ),
    Variant(
        "LSTM, variational dropout",
        seqcells.LSTMCell,
        "LSTM",
        twin=VariationalLSTM,
        modifier=partial(seqcells.VariationalDropout, share=SHARE),
    ),
    Variant("a user's own LSTM", OwnLSTM, "LSTM", twin=nn.LSTMCell),
    Variant("the same, compiled", CompiledLSTM, "LSTM", twin=nn.LSTMCell),
)


class Stepped(nn.Module):
    """Our equations as a cell in the style of torch.nn: `(input, state)` to the next state."""

    def __init__(self, cell: GatedCell) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, input: Tensor, state: Any = None) -> Any:
        if state is None:
            state = self.cell.initial_state(len(input))
        weights = self.cell.weights()
        return self.cell.step(weights, self.cell.from_inputs(weights, input), state)[0]


class Loop(nn.Module):
    """A cell over time as a loop in Python."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, inputs: Tensor) -> tuple[Tensor, Any]:
        state, outputs = None, []
        for input in inputs:
            state = self.cell(input, state)
            outputs.append(state if isinstance(state, Tensor) else state[0])
        return torch.stack(outputs), state


class Training:
    """One training step without an optimizer per call."""

    def __init__(self, module: nn.Module, shape: Shape) -> None:
        dtype = next(module.parameters()).dtype
        generator = torch.Generator().manual_seed(SEED)
        sizes = (shape.steps, shape.batch)
        inputs = torch.randn(*sizes, shape.features, dtype=dtype, generator=generator)
        self.gradient = torch.randn(*sizes, shape.hidden, dtype=dtype, generator=generator)
        self.module, self.inputs = module, inputs.requires_grad_()

    def __call__(self) -> Tensor:
        self.inputs.grad = None
        self.module.zero_grad()
        outputs, _ = self.module(self.inputs)
        outputs.backward(self.gradient)
        return outputs


def sides(
    variant: Variant, shape: Shape, dtype: torch.dtype = torch.float32
) -> dict[str, Training | None]:
    """Return the runs by column; None if torchrecurrent lacks the cell or is not installed."""
    torch.manual_seed(SEED)
    sizes = shape.features, shape.hidden
    cell = variant.cell(*sizes).to(dtype)
    modules = {
        "seqcells": Recurrent(variant.modifier(cell) if variant.modifier else cell),
        "plain": Recurrent(PLAIN[variant.plain](*sizes).to(dtype)),
        "loop": Loop(_twin(variant, cell)),
        "torchrecurrent": variant.theirs and variant.theirs.layer(cell),
    }
    return {name: module and Training(module, shape) for name, module in modules.items()}


def _twin(variant: Variant, cell: GatedCell) -> nn.Module:
    if variant.twin is None:
        return Stepped(cell)
    twin = variant.twin(cell.input_size, cell.hidden_size, dtype=cell.weight_ih.dtype)
    twin.load_state_dict(cell.state_dict())
    return twin


def measure(
    variant: Variant, shape: Shape, rounds: int, tick: Callable[[], object]
) -> dict[str, float]:
    """Return the median seconds by column."""
    runs = {name: run for name, run in sides(variant, shape).items() if run}
    return dict(zip(runs, in_turn(list(runs.values()), rounds, tick)))


def row(variant: Variant, shape: Shape, times: Mapping[str, float]) -> list[str]:
    ours = times["seqcells"]
    theirs = "none"
    if variant.theirs is not None and "torchrecurrent" not in times:
        theirs = "not installed"
    elif variant.theirs is not None:
        theirs = f"{times['torchrecurrent'] / ours:.2f}" + ("*" if variant.theirs.note else "")
    return [
        str(shape),
        variant.name,
        variant.plain,
        f"{1e3 * ours:.2f}",
        f"{ours / times['plain']:.2f}",
        f"{times['loop'] / ours:.2f}",
        theirs,
    ]


def footnotes() -> Iterator[str]:
    for variant in VARIANTS:
        if variant.theirs is not None and variant.theirs.note:
            yield f"\\* {variant.name}: {variant.theirs.note}."
    if torchrecurrent_layers.torchrecurrent is None:
        yield HOW_TO_INSTALL


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=at_least_one, default=7, help="default: %(default)s")
    parser.add_argument(
        "--threads", type=at_least_one, default=torch.get_num_threads(), help="default: %(default)s"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    cases = [(SHAPES[name], variant) for name in NAMES for variant in VARIANTS]
    rows = []
    with tqdm(total=len(cases) * options.rounds, leave=False, disable=None) as bar:
        for shape, variant in cases:
            bar.set_description(f"{shape.name} {variant.name}")
            rows.append(row(variant, shape, measure(variant, shape, options.rounds, bar.update)))
    print(
        f"torch {torch.__version__}, {options.threads} threads, medians of {options.rounds} "
        "rounds, float32, training\n"
    )
    figures = ["seqcells, ms", "seqcells / plain", "loop / seqcells", "torchrecurrent / seqcells"]
    print("\n".join([*markdown(["shape", "cell", "plain"], figures, rows), "", *footnotes()]))


if __name__ == "__main__":
    main(sys.argv[1:])
