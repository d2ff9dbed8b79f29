"""Ragged inputs of the layers: packed sequences and nested tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from seqcells.sequences import check_resets
from seqcells.state import map_state


def run_packed(
    layers: Any, input: PackedSequence, hx: Any, lengths: Any, resets: Any
) -> tuple[PackedSequence, Any]:
    """Run layers over a packed sequence."""
    if lengths is not None or resets is not None:
        raise ValueError(
            "lengths, resets: expected None with a PackedSequence, which has its own lengths; "
            "pad it with pad_packed_sequence and pass both"
        )
    data, batch_sizes, sorted_indices, unsorted_indices = input
    weights = layers._weights()
    layers._check_input(data, (2,), weights[0].weight_ih)
    batch_size = int(batch_sizes[0]) if sorted_indices is None else sorted_indices.shape[0]
    states = layers._initial_states(hx, batch_size, data)
    if hx is not None and sorted_indices is not None:
        states = map_state(lambda part: part.index_select(0, sorted_indices), states)
    output, state = layers._run(weights, data, states, batch_sizes=batch_sizes)
    if unsorted_indices is not None:
        state = map_state(lambda part: part.index_select(1, unsorted_indices), state)
    return PackedSequence(output, batch_sizes, sorted_indices, unsorted_indices), state


def run_jagged(
    layers: Any, input: Tensor, hx: Any, lengths: Any, resets: Any
) -> tuple[Tensor, Any]:
    """Run layers over a nested tensor `(B, T*, I)` with the layout `torch.jagged`.

    The output has the offsets of the input, so both can be combined elementwise.
    """
    if lengths is not None:
        raise ValueError(
            "lengths: expected None with a nested tensor, which has its own lengths, got "
            f"{type(lengths).__name__}; pass the nested tensor alone"
        )
    values, offsets = _rows(input, 3, "input")
    weights = layers._weights()
    layers._check_input(values, (2,), weights[0].weight_ih)
    counts = offsets.diff()
    batch_size, steps = len(counts), int(counts.max()) if len(counts) else 0
    row = torch.repeat_interleave(counts, output_size=len(values))
    step = torch.arange(len(values), device=row.device) - offsets[row]

    def pad(data: Tensor) -> Tensor:
        return data.new_zeros(steps, batch_size, *data.shape[1:]).index_put((step, row), data)

    if resets is not None:
        resets = pad(_reset_values(resets, offsets))
    states = layers._initial_states(hx, batch_size, values)
    output, state = layers._run(weights, pad(values), states, counts, resets)
    rows = output[step, row]
    return torch.nested.nested_tensor_from_jagged(rows, offsets, max_seqlen=steps), state


def _rows(input: Tensor, rank: int, name: str) -> tuple[Tensor, Tensor]:
    """Return the rows of a nested tensor, one after the other, and their offsets."""
    if input.layout is not torch.jagged:
        raise ValueError(
            f"{name}: expected a nested tensor with the layout torch.jagged, got {input.layout}; "
            "create it with layout=torch.jagged"
        )
    shape = input.shape
    if len(shape) != rank or not isinstance(shape[1], torch.SymInt):
        expected = "(B, T*, I)" if rank == 3 else "(B, T*)"
        raise ValueError(
            f"{name}: expected a nested tensor {expected}, whose second dimension is ragged, got "
            f"shape {tuple(shape)}; transpose it"
        )
    if not input.is_contiguous():  # rows with gaps between them
        input = input.contiguous()
    return input.values(), input.offsets()


def _reset_values(resets: Any, offsets: Tensor) -> Tensor:
    if not getattr(resets, "is_nested", False):
        raise TypeError(
            f"resets: expected a nested tensor, as the input is, got {type(resets).__name__}; "
            "pass torch.nested.nested_tensor_from_jagged(resets, input.offsets())"
        )
    values, own = _rows(resets, 2, "resets")
    if not torch.equal(own, offsets):
        raise ValueError(
            f"resets: expected the lengths of the input, {offsets.diff().tolist()}, got "
            f"{own.diff().tolist()}; pass one value per step"
        )
    return check_resets(values, values.shape)
