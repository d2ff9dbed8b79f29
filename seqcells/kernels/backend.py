"""The protocol of backends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from seqcells.equations.catalogue import Kernel
from seqcells.kernels.call import Call


class Backend(Protocol):
    """Computes calls. A backend is a module or package of `seqcells.kernels` with these names.

    A call that reaches `forward` is validated: `refuses` returned None, its tensors have one dtype
    and device, and their sizes match (`kernels.checks`).

    Attributes:
        NAME: its name in `seqcells.backend`.
        DTYPES: the supported dtypes.
        SAVES_TENSOR: whether `forward` saves one tensor like `saved_tensor` for `backward`, which
            the operators `_train` and `_backward` pass on. Otherwise it saves an object, and
            the backend runs eager calls only.
    """

    NAME: str
    DTYPES: tuple[torch.dtype, ...]
    SAVES_TENSOR: bool

    def unavailable(self) -> str | None:
        """Return why the backend cannot run on this machine and what to do; None if it can."""

    def description(self) -> str:
        """Return the hardware that it uses, for `seqcells.backends`."""

    def refuses_kernel(self, kernel: Kernel) -> str | None:
        """Return why it does not support a kernel and what to do; None if it does."""

    def refuses(self, call: Call) -> str | None:
        """Return why it does not support a call and what to do; None if it does."""

    def saved_tensor(self, call: Call) -> Tensor:
        """Return an empty tensor of the shape and dtype that `forward` saves."""

    def forward(self, call: Call, *, train: bool) -> list[Any]:
        """Return `[outputs, *final_state]`; a single step has no outputs.

        `call.cells` appends the state's tensors but the first after every step, and `train` the
        values saved for the backward pass.
        """

    def backward(
        self,
        call: Call,
        grads: Sequence[Tensor | None],
        outputs: Tensor,
        saved: Any,
        wanted: Sequence[bool],
    ) -> list[Tensor | None]:
        """Return the gradients of `call.tensors`; None where `wanted` is False.

        `grads` are the gradients of the results, None for zero. `outputs` is the first result.
        """
