"""Compare our layers with torch's, in every form of input."""

import torch
from cell_table import H, I, make_layers
from parity import F64, random
from torch.nn.utils.rnn import pack_padded_sequence

from seqcells.state import map_state
from seqcells.testing import assert_parity

T, B = 6, 4
LENGTHS = [3, 6, 1, 4]
FORMS = ["padded", "sorted", "unsorted", "unbatched", "lengths"]


def assert_equals_torch(
    kind, form, *, hx=True, dtype=F64, batch_first=False, device="cpu", **options
):
    """Compare one layer with torch's; float32 takes more units, because errors of few vary."""
    steps, rows, features, hidden = (T, B, I, H) if dtype == F64 else (T, B, 24, 32)
    if kind == "lstm_proj" and dtype != F64:
        options["proj_size"] = 20
    batch_first = batch_first and form != "unbatched"
    options |= {"dtype": dtype, "batch_first": batch_first, "device": device}
    ours, theirs = make_layers(kind, features, hidden, **options)
    inputs = random(steps, rows, features, dtype=dtype).to(device)
    state = map_state(lambda part: part.to(device), initial_state(theirs, rows, dtype))
    lengths = None
    if form == "unbatched":
        inputs = inputs[:, 0]
        state = map_state(lambda part: part[:, 0], state)
    elif batch_first:
        inputs = inputs.transpose(0, 1)
    if form == "lengths":
        lengths = LENGTHS if device == "cpu" else torch.tensor(LENGTHS, device=device)
    if form in ("sorted", "unsorted"):
        ends = sorted(LENGTHS, reverse=True) if form == "sorted" else LENGTHS
        inputs = pack_padded_sequence(inputs, ends, batch_first, enforce_sorted=form == "sorted")
    assert_parity(ours, theirs, inputs, state if hx else None, lengths=lengths)


def initial_state(layer, rows, dtype):
    directions = layer.num_layers * (2 if layer.bidirectional else 1)
    hidden = random(directions, rows, layer.proj_size or layer.hidden_size, dtype=dtype)
    if layer.mode != "LSTM":
        return hidden
    return hidden, random(directions, rows, layer.hidden_size, dtype=dtype)
