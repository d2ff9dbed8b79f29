"""PyTorch's own layers as a backend of plain cells: cuDNN, where the tensors are on a GPU.

One layer in one direction is computed as `torch.nn` has it computed. What these layers cannot do,
`refusal` says: they take no lengths, no resets, no noise, and tell the last state alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.backends.cudnn.rnn import get_cudnn_mode

from seqcells.equations.catalogue import Kernel
from seqcells.kernels.call import Call

NAME = "cudnn"
SAVES_TENSOR = False  # PyTorch keeps a graph of its own
DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

_LAYERS = {
    "rnn_tanh": torch.rnn_tanh,
    "rnn_relu": torch.rnn_relu,
    "gru": torch.gru,
    "lstm": torch.lstm,
}


def unavailable() -> str | None:
    """Why cuDNN cannot run on this machine, and what to do; None where it can."""
    if not torch.cuda.is_available():
        return "PyTorch finds no GPU here; install its wheel for CUDA on a machine that has one"
    if not torch.backends.cudnn.is_available() or not torch.backends.cudnn.enabled:
        return "this PyTorch has no cuDNN, or torch.backends.cudnn.enabled is False"
    return None


def refuses_kernel(kernel: Kernel) -> str | None:
    """Why cuDNN cannot run this kernel, and what to do."""
    if kernel.name not in _LAYERS:
        return "cuDNN has plain RNN, GRU and LSTM alone; use backend('triton')"
    return unavailable()


def description() -> str:
    """Return the GPU, and the version of cuDNN."""
    return f"{torch.cuda.get_device_name()}, cuDNN {torch.backends.cudnn.version()}"


def refuses(call: Call) -> str | None:
    """Return why cuDNN cannot run a call, and what to do."""
    if reason := refuses_kernel(call.kernel):
        return reason
    asked = {
        "lengths as a tensor": call.lengths is not None,
        "resets": call.resets is not None,
        "noise": any(part is not None for part in call.noise),
        "all states": call.cells,
        "packed sequences in reverse": call.batch_sizes is not None and call.reverse,
        "empty inputs": call.inputs.numel() == 0,
    }
    found = [what for what, is_asked in asked.items() if is_asked]
    return f"cuDNN takes no {found[0]}; use backend('triton')" if found else None


def saved_columns(call: Call) -> int:
    """Return 0: nothing is saved in a tensor."""
    return 0


def forward(call: Call, *, train: bool) -> list[Any]:
    """Return `[outputs, *final_state]`, with `train` the graph to go back through."""
    sequence = call.with_time()
    if train:
        graph = Graph.of(sequence)
        results = [part.detach() for part in graph.results]
        return [*(results[1:] if call.single else results), graph]
    results = compute(_with(sequence, in_one_block(sequence, sequence.tensors)), False)
    return results[1:] if call.single else results


def backward(
    call: Call,
    grads: Sequence[Tensor | None],
    outputs: Tensor,
    saved: Graph,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of `call.tensors`."""
    if not call.single:
        return saved.gradients(grads, wanted)
    inputs, *found = saved.gradients([None, *grads], wanted)
    return [None if inputs is None else inputs.squeeze(0), *found]


def _with(call: Call, tensors: Sequence[Tensor | None]) -> Call:
    """The call with these tensors in place of those that can be differentiated."""
    layout, own = call.split()
    return Call.join(layout, [*tensors, *own[len(tensors) :]])


def compute(call: Call, train: bool) -> list[Tensor]:
    """`[outputs, *final_state]`; with `train` they can be gone back through."""
    inputs = call.inputs.flip(0) if call.reverse else call.inputs
    weights = [weight for weight in call.weights[:5] if weight is not None]
    state = [part.unsqueeze(0).contiguous() for part in call.state]
    hx = state if len(state) > 1 else state[0]
    sizes = [] if call.batch_sizes is None else [call.batch_sizes.cpu()]
    settings = (call.bias_ih is not None, 1, 0.0, train, False)
    layer: Any = _LAYERS[call.kernel.name]
    outputs, *final = layer(inputs, *sizes, hx, weights, *settings, *([] if sizes else [False]))
    if call.reverse:
        outputs = outputs.flip(0)
    return [outputs, *(part.squeeze(0) for part in final)]


class Graph(NamedTuple):
    """A forward pass that can be gone back through, any number of times."""

    results: list[Tensor]
    sources: list[Tensor | None]

    @classmethod
    def of(cls, call: Call) -> Graph:
        sources = in_one_block(call, call.tensors)
        sources = [None if part is None else part.detach().requires_grad_() for part in sources]
        with torch.enable_grad():
            return cls(compute(_with(call, sources), True), sources)

    def gradients(
        self, grads: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        """Those of the `wanted` tensors of the call."""
        pairs = [(own, grad) for own, grad in zip(self.results, grads) if grad is not None]
        sources = [part for part, want in zip(self.sources, wanted) if want and part is not None]
        if not pairs or not sources:
            return [None] * len(wanted)
        ends, upstream = zip(*pairs)
        options = {"retain_graph": True, "allow_unused": True}
        found = iter(torch.autograd.grad(ends, sources, upstream, **options))
        return [next(found) if want else None for want in wanted]


@torch.no_grad()
def in_one_block(call: Call, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """The call's tensors, with the weights in one block of memory, in the order of cuDNN.

    Where they are not in one block PyTorch copies them at each call, and warns. The parameters of a
    layer are, since `nn.RNNBase` puts them there, and stay as they are.
    """
    found: list[Any] = list(tensors)
    first = 1 + len(call.state)
    # weight_ih, weight_hh, weight_hr, bias_ih, bias_hh
    places = [n for n in (first + offset for offset in (0, 1, 4, 2, 3)) if found[n] is not None]
    if call.bias_ih is None:
        # cuDNN reserves memory for biases all the same: PyTorch knows how much and where.
        return _flattened(call, found, sorted(places)) if call.inputs.is_cuda else found
    weights = [found[n] for n in places]
    if not _side_by_side(weights):
        block = torch.cat([weight.flatten() for weight in weights])
        parts = block.split([weight.numel() for weight in weights])
        for n, weight, part in zip(places, weights, parts):
            found[n] = part.view_as(weight)
    return found


def _side_by_side(weights: Sequence[Tensor]) -> bool:
    """Whether the weights fill one block of memory in this order."""
    start = weights[0].untyped_storage().data_ptr()
    end = start + weights[0].untyped_storage().nbytes()
    for weight in weights:
        if weight.data_ptr() != start or not weight.is_contiguous():
            return False
        start += weight.numel() * weight.itemsize
    return start == end


def _flattened(call: Call, found: list[Any], places: Sequence[int]) -> list[Tensor | None]:
    copies = [found[n].clone() for n in places]
    mode = get_cudnn_mode(call.kernel.name.upper())
    sizes = call.inputs.shape[-1], mode, call.state[-1].shape[1]
    projected = 0 if call.weight_hr is None else call.weight_hr.shape[0]
    torch._cudnn_rnn_flatten_weight(copies, len(copies), *sizes, projected, 1, False, False)
    for n, copy in zip(places, copies):
        found[n] = copy
    return found
