"""Ragged sequences as pure functions: lengths, resets, and what is packed or padded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def is_host_readable(tensor: Tensor) -> bool:
    """Whether the values can be read for nothing: on the CPU, in no graph and under no vmap."""
    if tensor.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return not torch._C._are_functorch_transforms_active()


def time_first(
    inputs: Tensor,
    lengths: Tensor | Sequence[int] | None,
    resets: Tensor | None,
    batch_first: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Inputs `(T, B, ...)`, lengths `(B,)` and resets `(T, B)`, checked, out of a user's own.

    An input `(T, I)` becomes a batch of one. What stands past a length is left as it is.

    Raises:
        TypeError: inputs that are no tensor, lengths or resets of the wrong kind.
        ValueError: a wrong rank or shape, a length beyond the input, lengths without a batch.
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
    """Outputs `(T, B, ...)` laid out as the inputs that `time_first` was given."""
    if not batched:
        return outputs.squeeze(1)
    return outputs.transpose(0, 1) if batch_first else outputs


def check_lengths(
    lengths: Tensor | Sequence[int], steps: int, batch_size: int, device: torch.device
) -> Tensor:
    """The lengths as an int64 tensor `(B,)` on `device`.

    Values are checked where they can be read for nothing, and clamped to `[0, steps]` elsewhere,
    so that nothing waits for a device.

    Raises:
        TypeError: lengths that are not whole numbers.
        ValueError: a wrong number of lengths, a negative one, one beyond the input.
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
    """The resets, checked.

    Raises:
        TypeError: resets that are no bool tensor.
        ValueError: a shape that is not the one given.
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
    """`(T, B)`: true where a step lies within its row's length."""
    return torch.arange(steps, device=lengths.device).unsqueeze(1) < lengths


def zero_padding(inputs: Tensor, lengths: Tensor) -> Tensor:
    """The inputs `(T, B, ...)` with zeros past each length: what stood there can do no harm."""
    padding = ~valid_steps(lengths, len(inputs))
    return inputs.masked_fill(padding.reshape(*padding.shape, *[1] * (inputs.dim() - 2)), 0)


def pack(padded: Tensor, lengths: Tensor) -> Tensor:
    """The valid steps of `padded (T, B, ...)`, step after step: torch's packed layout `(N, ...)`.

    Rows must stand by falling length for the result to be a `PackedSequence`'s data.
    """
    return padded[valid_steps(lengths, len(padded))]


def unpack(data: Tensor, lengths: Tensor, steps: int) -> Tensor:
    """The inverse of `pack`: `(N, ...)` to `(T, B, ...)` with zeros past each length."""
    padded = data.new_zeros(steps, len(lengths), *data.shape[1:])
    return padded.index_put((valid_steps(lengths, steps),), data)


def packed_lengths(batch_sizes: Tensor) -> Tensor:
    """The length of each row, in falling order, of a packed sequence."""
    rows = torch.arange(int(batch_sizes[0]) if len(batch_sizes) else 0)
    return (batch_sizes.unsqueeze(1) > rows).sum(0)
