"""`Stepper`, which runs a recurrent module one step at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor, nn

from seqcells.kernels.cpu.stepper import NativeStepper
from seqcells.recurrence.plan import guard
from seqcells.state import State
from seqcells.streams.single_steps import SingleSteps, single_steps


class Stepper:
    """Run a recurrent module one step at a time: `stepper(input) -> output`.

    All layers run in one native call, in one thread, without the GIL and without an allocation.
    The weights are packed once and the state is held in place::

        stepper = Stepper(seqcells.LSTM(8, 16, num_layers=2).eval())
        for sample in samples:  # (I,)
            output = stepper(sample)  # (H,)

    Results equal those of the module in evaluation mode up to rounding, and have no gradients. Use
    a stepper in one thread at a time; several steppers run in parallel threads.

    Args:
        module: a cell, with or without modifiers, a forward `Recurrent`, a `Stack` of cells, or an
            `RNN`, `GRU` or `LSTM` of any number of layers. On the CPU, in float32 or float64.
        batch_size: the number of rows B, independent streams that step together.

    Attributes:
        module: the module. After a change of its weights or equations, call `refresh`.
        batch_size: the number of rows.

    Raises:
        TypeError: another module.
        ValueError: a module in training mode that draws noise then, a bidirectional module, a cell
            without a kernel, or another device or dtype.
        MemoryError: not enough memory for the packed weights.
    """

    def __init__(self, module: nn.Module, batch_size: int = 1) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size: expected an integer of at least 1, got {batch_size!r}")
        self.module = module
        self.batch_size = batch_size
        self._load(single_steps(module, batch_size))
        first, last = self._steps.calls[0].inputs, self._steps.calls[-1].state[0]
        self._dtype, self._shape = first.dtype, first.shape
        self._output = torch.empty_like(last, memory_format=torch.contiguous_format)
        self._admits = guard((first,), 0)

    def _load(self, steps: SingleSteps) -> None:
        self._steps = steps
        self._native = NativeStepper(steps.calls, steps.residual)
        self._step, self._handle = self._native.step, self._native.handle

    def __call__(self, input: Tensor) -> Tensor:
        """Run one step from the current state.

        Args:
            input: `(B, I)`, or `(I,)` if the batch size is 1.

        Returns:
            The last layer's output `(B, H)` or `(H,)`, a new tensor.

        Raises:
            TypeError: the input is not a tensor.
            ValueError: another shape, dtype or device.
            RuntimeError: another thread is running a step of this stepper.
        """
        if not self._admits(input):
            input = self._validate(input)
        output = torch.empty_like(self._output)
        if self._step(self._handle, input.data_ptr(), output.data_ptr()):
            raise RuntimeError(
                "expected one step at a time, got a second thread; create a stepper per thread"
            )
        return output

    def _validate(self, input: Tensor) -> Tensor:
        """Validate an input that the guard rejects; return it contiguous. Guard on its rank."""
        if not isinstance(input, Tensor):
            raise TypeError(f"input: expected a tensor, got {type(input).__name__}")
        shapes = [self._shape] if self.batch_size > 1 else [self._shape, self._shape[1:]]
        if (
            input.shape not in shapes
            or input.dtype is not self._dtype
            or not input.is_cpu
            or input.layout is not torch.strided
        ):
            expected = " or ".join(str(tuple(shape)) for shape in shapes)
            raise ValueError(
                f"input: expected shape {expected}, {self._dtype}, on the CPU, got "
                f"{tuple(input.shape)}, {input.dtype}, {input.layout}, on {input.device}"
            )
        input = input.detach().resolve_neg().contiguous()
        if input.dim() != self._output.dim():
            units = self._output.shape[-1]
            self._output = self._output.new_empty(*input.shape[:-1], units)
        self._admits = guard((input,), 0)
        return input

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Stepper holds native memory and cannot be copied; create another one")

    @property
    def state(self) -> State:
        """The state before the next step, a copy in the form of the module's final state.

        For a cell or `Recurrent` it is the cell's state, for layers `(L, B, H)`, and `(h, c)` for
        an LSTM, for a `Stack` a tuple of states. Assigning a state validates and copies it.
        """
        found = [[torch.empty_like(part) for part in call.state] for call in self._steps.calls]
        for layer, parts in enumerate(found):
            self._native.get_state(layer, parts)
        return self._steps.join(found)

    @state.setter
    def state(self, state: State) -> None:
        for layer, parts in enumerate(self._steps.split(state)):
            self._native.set_state(layer, parts)

    def reset(self, rows: Tensor | Sequence[int] | None = None) -> None:
        """Set the state to the module's initial state.

        Args:
            rows: the rows to reset: a bool mask `(B,)` or row numbers; None for all.

        Raises:
            ValueError: a mask of another shape, or a row number out of range.
        """
        mask = None if rows is None else _mask(rows, self.batch_size)
        for layer, call in enumerate(self._steps.calls):
            self._native.set_state(layer, call.state, mask)

    def refresh(self) -> None:
        """Read the module's weights, initial state and equations again; the state is kept.

        Raises:
            ValueError: the module's sizes or dtype have changed; create a new stepper.
        """
        steps, state = single_steps(self.module, self.batch_size), self.state
        if _sizes(steps) != _sizes(self._steps):
            raise ValueError(
                "expected the sizes and the dtype that the stepper was created with, got others; "
                "create a new stepper"
            )
        self._load(steps)
        self.state = state


def _sizes(steps: SingleSteps) -> list[object]:
    return [
        (call.inputs.shape, call.inputs.dtype, [part.shape for part in call.state])
        for call in steps.calls
    ]


def _mask(rows: Tensor | Sequence[int], batch_size: int) -> Tensor:
    """Return rows as a bool mask `(B,)`."""
    given = torch.as_tensor(rows)
    if given.dtype is torch.bool:
        if given.shape != (batch_size,):
            raise ValueError(
                f"rows: expected a mask of shape ({batch_size},), got {tuple(given.shape)}"
            )
        return given
    mask = torch.zeros(batch_size, dtype=torch.bool)
    for row in given.reshape(-1).tolist():
        if not isinstance(row, int) or not 0 <= row < batch_size:
            raise ValueError(f"rows: expected integers from 0 to {batch_size - 1}, got {row}")
        mask[row] = True
    return mask
