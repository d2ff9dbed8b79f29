"""What a backend implements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from seqcells.equations.catalogue import Kernel
from seqcells.kernels.call import Call


class Backend(Protocol):
    """Computes calls. Each backend is a module or package of `seqcells.kernels` with these names.

    A call that reaches `forward` is validated: `refuses` returned None, its tensors
    have one dtype and device, and their sizes fit together (`kernels.checks`).

    Attributes:
        NAME: as `seqcells.backend` takes it.
        DTYPES: the dtypes of its tensors.
        SAVES_TENSOR: what `forward` saves for `backward` is one tensor of `saved_columns` columns,
            so that the operators `_train` and `_backward` can pass it on. Otherwise `forward` saves
            an object of its own, and only eager calls run on the backend.
    """

    NAME: str
    DTYPES: tuple[torch.dtype, ...]
    SAVES_TENSOR: bool

    def unavailable(self) -> str | None:
        """Return why the backend cannot run on this machine, and what to do; None if it can."""

    def description(self) -> str:
        """Return what it runs on, for `seqcells.backends`."""

    def refuses_kernel(self, kernel: Kernel) -> str | None:
        """Return why it cannot run a kernel here, and what to do; None if it can."""

    def refuses(self, call: Call) -> str | None:
        """Return why it cannot run a call here, and what to do; None if it can."""

    def saved_columns(self, call: Call) -> int:
        """Return the width of the saved tensor."""

    def forward(self, call: Call, *, train: bool) -> list[Any]:
        """Return `[outputs, *final_state]`, with `call.cells` every step's second state part.

        With `train` what is saved for the backward pass comes last. A single step has no outputs.
        """

    def backward(
        self,
        call: Call,
        grads: Sequence[Tensor | None],
        outputs: Tensor,
        saved: Any,
        wanted: Sequence[bool],
    ) -> list[Tensor | None]:
        """Return the gradients of `call.tensors`; None for those that are not wanted.

        `grads` are those of the results, None for zero; `outputs` is the first result.
        """
