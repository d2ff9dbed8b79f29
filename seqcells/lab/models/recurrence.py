"""Build and run the recurrent part of a model."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import seqcells
from seqcells.lab.model_config import CELLS, LAYERS, ModelConfig, apply_modifiers


def build_recurrence(config: ModelConfig, input_size: int | None = None) -> nn.Module:
    """Build a layer of seqcells or torch.nn, or a `Stack` for other cells and modifiers.

    `input_size` defaults to the size of the word vectors.
    """
    recurrent = _build(config, input_size or config.embedding_size)
    if config.recurrent_init == "orthogonal":
        seqcells.init.orthogonal_(recurrent)
    if config.forget_bias is not None:
        seqcells.init.forget_bias_(recurrent, config.forget_bias)
    return recurrent


def _build(config: ModelConfig, input_size: int) -> nn.Module:
    directions = 1 + config.bidirectional
    dropout = config.dropout if config.num_layers > 1 else 0.0
    if config.cell in LAYERS and not config.modifiers:
        layers = {"seqcells": seqcells, "torch": nn}[config.backend]
        return getattr(layers, config.cell.upper())(
            input_size,
            config.hidden_size,
            config.num_layers,
            dropout=dropout,
            bidirectional=config.bidirectional,
        )
    entries = []
    for number in range(config.num_layers):
        size = config.hidden_size * directions if number else input_size
        cells = [CELLS[config.cell](size, config.hidden_size) for _ in range(directions)]
        cells = [apply_modifiers(cell, config.modifiers) for cell in cells]
        entries.append(tuple(cells) if config.bidirectional else cells[0])
    return seqcells.Stack(entries, dropout=dropout)


def recur(recurrent: nn.Module, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return outputs `(T, B, D*H)` and the last layer's final hidden state `(B, D*H)`.

    Layers of torch.nn copy the lengths to the CPU, which synchronises with a GPU.
    """
    if isinstance(recurrent, (nn.RNN, nn.GRU, nn.LSTM)):
        packed = pack_padded_sequence(inputs, lengths.cpu(), enforce_sorted=False)
        outputs, state = recurrent(packed)
        outputs, _ = pad_packed_sequence(outputs, total_length=len(inputs))
    else:
        outputs, state = recurrent(inputs, lengths=lengths)
    if isinstance(recurrent, seqcells.Stack):
        layer, last = recurrent.layers[-1], state[-1]
        pairs = zip(layer, last) if isinstance(layer, nn.ModuleList) else [(layer, last)]
        return outputs, torch.cat([run.cell.output(part) for run, part in pairs], -1)
    hidden = state[0] if isinstance(state, tuple) else state
    directions = 2 if recurrent.bidirectional else 1
    return outputs, torch.cat(list(hidden[-directions:]), -1)
