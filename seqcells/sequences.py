"""Functions for ragged sequences: lengths, resets, packing and padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seqcells.compatibility import are_transforms_active


def is_host_readable(tensor: Tensor) -> bool:
    """Whether values can be read without synchronisation: on the CPU, not compiled or vmapped."""
    if tensor.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return not are_transforms_active()


def time_first(
    inputs: Tensor,
    lengths: Tensor | Sequence[int] | None,
    resets: Tensor | None,
    batch_first: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Validate arguments; return inputs `(T, B, ...)`, lengths `(B,)` and resets `(T, B)`.

    An unbatched input `(T, I)` becomes a batch of one. Padding is not changed.

    Raises:
        TypeError: inputs that are not a tensor, or lengths or resets of the wrong type.
        ValueError: a wrong rank or shape, a length beyond T, or lengths for unbatched inputs.
    """
    if not isinstance(inputs, Tensor):
        raise TypeError(f"inputs: expected a tensor, got {type(inputs).__name__}")
    if inputs.dim() < 2:
        raise ValueError(
            "inputs: expected (T, B, I), (B, T, I) with batch_first, or (T, I) without a batch, "
            f"got shape {tuple(inputs.shape)}"
        )
    if resets is not None:
        resets = check_resets(resets, inputs.shape[: min(2, inputs.dim() - 1)])
    if inputs.dim() == 2:
        if lengths is not None:
            raise ValueError(
                "lengths: expected none for an input without a batch; cut the input to its length"
            )
        return inputs.unsqueeze(1), None, None if resets is None else resets.unsqueeze(1)
    if batch_first:
        inputs = inputs.transpose(0, 1)
        resets = None if resets is None else resets.transpose(0, 1)
    if lengths is not None:
        lengths = check_lengths(lengths, inputs.shape[0], inputs.shape[1], inputs.device)
    return inputs, lengths, resets


def restore_layout(outputs: Tensor, batched: bool, batch_first: bool) -> Tensor:
    """Return outputs `(T, B, ...)` in the layout of the inputs before `time_first`."""
    if not batched:
        return outputs.squeeze(1)
    return outputs.transpose(0, 1) if batch_first else outputs


def check_lengths(
    lengths: Tensor | Sequence[int], steps: int, batch_size: int, device: torch.device
) -> Tensor:
    """Return the lengths as an int64 tensor `(B,)` on `device`.

    Values are validated if they can be read without synchronisation, and otherwise clamped to
    `[0, steps]`.

    Raises:
        TypeError: lengths that are not integers.
        ValueError: a wrong number of lengths, or a length outside `[0, steps]`.
    """
    if not isinstance(lengths, Tensor):
        lengths = _to_tensor(lengths)
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths: expected whole numbers, got {lengths.dtype}")
    if lengths.shape != (batch_size,):
        raise ValueError(
            f"lengths: expected one for each row of the batch, shape ({batch_size},), "
            f"got shape {tuple(lengths.shape)}"
        )
    if lengths.is_meta and device.type != "meta":
        raise ValueError(
            f"lengths: expected values for inputs on {device}, got a meta tensor, which has none; "
            "pass a list"
        )
    lengths = lengths.to(torch.int64)
    if not is_host_readable(lengths):
        return lengths.to(device).clamp(0, steps)
    if batch_size:
        least, most = (int(end) for end in lengths.aminmax())
        if least < 0 or most > steps:
            raise ValueError(
                f"lengths: expected values from 0 to {steps}, the steps of the input, "
                f"got {least if least < 0 else most}"
            )
    return lengths.to(device)


def _to_tensor(lengths: Sequence[int]) -> Tensor:
    try:
        return torch.tensor(lengths, dtype=None if len(lengths) else torch.int64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"lengths: expected a tensor or a list of whole numbers, got {lengths!r}"
        ) from error


def check_resets(resets: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the resets after validation.

    Raises:
        TypeError: resets that are not a bool tensor.
        ValueError: resets with another shape than `shape`.
    """
    if not isinstance(resets, Tensor) or resets.dtype != torch.bool:
        kind = resets.dtype if isinstance(resets, Tensor) else type(resets).__name__
        raise TypeError(f"resets: expected a bool tensor, got {kind}")
    if resets.shape != tuple(shape):
        raise ValueError(
            f"resets: expected the shape of the inputs without their features, {tuple(shape)}, "
            f"got {tuple(resets.shape)}"
        )
    return resets


def valid_steps(lengths: Tensor, steps: int) -> Tensor:
    """Return a mask `(T, B)`, true for the steps within each row's length."""
    return torch.arange(steps, device=lengths.device).unsqueeze(1) < lengths


def zero_padding(inputs: Tensor, lengths: Tensor) -> Tensor:
    """Return the inputs `(T, B, ...)` with zeros as padding, which may have been inf or NaN."""
    padding = ~valid_steps(lengths, len(inputs))
    return inputs.masked_fill(padding.reshape(*padding.shape, *[1] * (inputs.dim() - 2)), 0)


def pack(padded: Tensor, lengths: Tensor) -> Tensor:
    """Return the valid steps of `padded (T, B, ...)` in torch's packed layout `(N, ...)`.

    The result is the data of a `PackedSequence` if rows are sorted by decreasing length.
    """
    return padded[valid_steps(lengths, len(padded))]


def unpack(data: Tensor, lengths: Tensor, steps: int) -> Tensor:
    """Return packed data `(N, ...)` as `(T, B, ...)` with zero padding: the inverse of `pack`."""
    padded = data.new_zeros(steps, len(lengths), *data.shape[1:])
    return padded.index_put((valid_steps(lengths, steps),), data)


def packed_lengths(batch_sizes: Tensor) -> Tensor:
    """Return the length of each row of a packed sequence, in decreasing order."""
    rows = torch.arange(int(batch_sizes[0]) if len(batch_sizes) else 0)
    return (batch_sizes.unsqueeze(1) > rows).sum(0)
