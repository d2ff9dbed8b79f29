"""What the tests of the core share."""

import torch
from torch import Tensor, nn
from torch.testing import assert_close

import seqcells
from seqcells.cells.table import VARIANTS

F64 = torch.float64

# Every kind of layer: our class, its twin, and the options that make it this kind.
LAYERS = {
    "rnn_tanh": (seqcells.RNN, nn.RNN, {}),
    "rnn_relu": (seqcells.RNN, nn.RNN, {"nonlinearity": "relu"}),
    "gru": (seqcells.GRU, nn.GRU, {}),
    "lstm": (seqcells.LSTM, nn.LSTM, {}),
    "lstm_proj": (seqcells.LSTM, nn.LSTM, {"proj_size": 3}),
}

# Every kind of cell that torch has as well.
CELLS = {
    "rnn_tanh": (seqcells.RNNCell, nn.RNNCell, {}),
    "rnn_relu": (seqcells.RNNCell, nn.RNNCell, {"nonlinearity": "relu"}),
    "gru": (seqcells.GRUCell, nn.GRUCell, {}),
    "lstm": (seqcells.LSTMCell, nn.LSTMCell, {}),
}

# Every kind of cell of ours.
OUR_CELLS = {
    **{name: (ours, options) for name, (ours, _, options) in CELLS.items()},
    "gru_reset_before": (seqcells.GRUCell, {"reset_after": False}),
    "lstm_proj": (seqcells.LSTMCell, {"proj_size": 3}),
}

# Every kernel's cell, and the one with a projection.
KERNEL_CELLS = {**VARIANTS, "lstm_proj": OUR_CELLS["lstm_proj"]}


def make_cell(kind: str, inputs: int = 4, hidden: int = 5, **options) -> seqcells.GatedCell:
    cell, more = KERNEL_CELLS[kind]
    return cell(inputs, hidden, **{"dtype": F64, **more, **options})


def make_layers(kind: str, inputs: int = 4, hidden: int = 5, **options):
    """Ours and its twin, each with weights of its own."""
    ours, theirs, more = LAYERS[kind]
    options = {"dtype": F64, **more, **options}
    return ours(inputs, hidden, **options), theirs(inputs, hidden, **options)


def prefer_plan(product: str, monkeypatch) -> None:
    """Have Triton's kernels multiply in this way wherever it is possible for a call."""
    from seqcells.kernels.triton import planning  # all of Triton: only where it is used

    plans = planning.plans

    def wanted_first(*arguments):
        return iter(sorted(plans(*arguments), key=lambda plan: plan.product != product))

    monkeypatch.setattr(planning, "plans", wanted_first)


def random(*shape: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


def leaves(state) -> list[Tensor]:
    """The tensors of a state, in order."""
    if isinstance(state, Tensor):
        return [state]
    return [leaf for part in state for leaf in leaves(part)]


def close(found, expected, tolerance: float = 1e-12) -> None:
    """Equal up to rounding, tensor by tensor."""
    found, expected = leaves(found), leaves(expected)
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert_close(one, other, rtol=tolerance, atol=tolerance)


def same(found, expected) -> None:
    """Equal to the last bit, tensor by tensor."""
    close(found, expected, 0.0)


def row(state, number: int):
    """One row of the batch `(B, ...)` of a state, as a batch of one."""
    return [part[number : number + 1] for part in leaves(state)]


def random_state(cell, batch_size: int):
    """A state of the cell's own form with random values."""
    zero = cell.initial_state(batch_size)
    if isinstance(zero, Tensor):
        return torch.randn_like(zero)
    return type(zero)(*(torch.randn_like(part) for part in zero))
