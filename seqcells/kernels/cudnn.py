"""The cuDNN backend: runs plain cells on a GPU with the layer functions of PyTorch.

A call is one layer in one direction, as in `torch.nn`. `refuses` lists what these functions do not
support: lengths, resets, noise and the states of all steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.backends.cudnn.rnn import get_cudnn_mode

from seqcells.compatibility import flatten_cudnn_weights
from seqcells.equations.catalogue import Kernel
from seqcells.kernels.call import Call

NAME = "cudnn"
SAVES_TENSOR = False  # `forward` saves an autograd graph
DTYPES: tuple[torch.dtype, ...] = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

_LAYERS = {
    "rnn_tanh": torch.rnn_tanh,
    "rnn_relu": torch.rnn_relu,
    "gru": torch.gru,
    "lstm": torch.lstm,
}


def unavailable() -> str | None:
    """Return why cuDNN cannot run on this machine, and what to do; None if it can."""
    if not torch.cuda.is_available():
        return "PyTorch finds no GPU; use a machine with a GPU and a CUDA wheel of PyTorch"
    if not torch.backends.cudnn.is_available() or not torch.backends.cudnn.enabled:
        return (
            "this PyTorch has no cuDNN, or it is disabled; set torch.backends.cudnn.enabled = "
            "True, or install a wheel with cuDNN"
        )
    return None


def refuses_kernel(kernel: Kernel) -> str | None:
    """Return why cuDNN cannot run this kernel, and what to do; None if it can."""
    if kernel.name not in _LAYERS:
        return f"cuDNN runs {', '.join(_LAYERS)}, got {kernel.name!r}; use backend('triton')"
    return unavailable()


def description() -> str:
    """Return the name of the GPU and the version of cuDNN."""
    return f"{torch.cuda.get_device_name()}, cuDNN {torch.backends.cudnn.version()}"


def refuses(call: Call) -> str | None:
    """Return why cuDNN cannot run a call, and what to do; None if it can."""
    if reason := refuses_kernel(call.kernel):
        return reason
    unsupported = {
        "lengths as a tensor": call.lengths is not None,
        "resets": call.resets is not None,
        "noise": any(part is not None for part in call.noise),
        "all states": call.cells,
        "packed sequences in reverse": call.batch_sizes is not None and call.reverse,
        "empty inputs": call.inputs.numel() == 0,
        "single bias": (call.bias_ih is None) != (call.bias_hh is None),
    }
    name = next((name for name, is_used in unsupported.items() if is_used), None)
    return f"cuDNN takes no {name}; use backend('triton')" if name else None


def saved_tensor(call: Call) -> Tensor:
    """Return an empty tensor: nothing is saved in a tensor."""
    return call.inputs.new_empty(0)


def forward(call: Call, *, train: bool) -> list[Any]:
    """Return `[outputs, *final_state]`, and with `train` the graph for the backward pass."""
    sequence = call.with_time()
    if train:
        graph = Graph.of(sequence)
        results = [part.detach() for part in graph.results]
        return [*(results[1:] if call.is_single() else results), graph]
    results = compute(
        _replace_tensors(sequence, flatten_weights(sequence, sequence.tensors)), False
    )
    return results[1:] if call.is_single() else results


def backward(
    call: Call,
    grads: Sequence[Tensor | None],
    outputs: Tensor,
    saved: Graph,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Return the gradients of `call.tensors`."""
    if not call.is_single():
        return saved.gradients(grads, wanted)
    grad_inputs, *others = saved.gradients([None, *grads], wanted)
    return [None if grad_inputs is None else grad_inputs.squeeze(0), *others]


def _replace_tensors(call: Call, tensors: Sequence[Tensor | None]) -> Call:
    """Return the call with these tensors in place of `call.tensors`."""
    layout, parts = call.split()
    return Call.join(layout, [*tensors, *parts[len(tensors) :]])


def compute(call: Call, train: bool) -> list[Tensor]:
    """Return `[outputs, *final_state]`; with `train`, autograd can differentiate them."""
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
    """The autograd graph of a forward pass, which can be differentiated repeatedly."""

    results: list[Tensor]
    sources: list[Tensor | None]

    @classmethod
    def of(cls, call: Call) -> Graph:
        sources = flatten_weights(call, call.tensors)
        sources = [None if part is None else part.detach().requires_grad_() for part in sources]
        with torch.enable_grad():
            return cls(compute(_replace_tensors(call, sources), True), sources)

    def gradients(
        self, grads: Sequence[Tensor | None], wanted: Sequence[bool]
    ) -> list[Tensor | None]:
        """Return the gradients of the `wanted` tensors of the call."""
        pairs = [(part, grad) for part, grad in zip(self.results, grads) if grad is not None]
        sources = [part for part, want in zip(self.sources, wanted) if want and part is not None]
        if not pairs or not sources:
            return [None] * len(wanted)
        ends, upstream = zip(*pairs)
        options = {"retain_graph": True, "allow_unused": True}
        results = iter(torch.autograd.grad(ends, sources, upstream, **options))
        return [next(results) if want else None for want in wanted]


@torch.no_grad()
def flatten_weights(call: Call, tensors: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return the call's tensors with the weights in one block of memory, in the order of cuDNN.

    PyTorch copies weights that are not in one block at each call, and warns. The parameters of a
    layer are already in one block (`nn.RNNBase` flattens them) and are returned unchanged.
    """
    flat: list[Any] = list(tensors)
    first = 1 + len(call.state)
    # weight_ih, weight_hh, weight_hr, bias_ih, bias_hh
    places = [n for n in (first + offset for offset in (0, 1, 4, 2, 3)) if flat[n] is not None]
    if call.bias_ih is None:
        # cuDNN reserves memory for biases in any case, in a layout that only PyTorch knows.
        return _flatten_without_biases(call, flat, sorted(places)) if call.inputs.is_cuda else flat
    weights = [flat[n] for n in places]
    if not _is_one_block(weights):
        block = torch.cat([weight.flatten() for weight in weights])
        parts = block.split([weight.numel() for weight in weights])
        for n, weight, part in zip(places, weights, parts):
            flat[n] = part.view_as(weight)
    return flat


def _is_one_block(weights: Sequence[Tensor]) -> bool:
    """Return whether the weights fill one block of memory in this order."""
    start = weights[0].untyped_storage().data_ptr()
    end = start + weights[0].untyped_storage().nbytes()
    for weight in weights:
        if weight.data_ptr() != start or not weight.is_contiguous():
            return False
        start += weight.numel() * weight.itemsize
    return start == end


def _flatten_without_biases(
    call: Call, flat: list[Any], places: Sequence[int]
) -> list[Tensor | None]:
    copies = [flat[n].clone() for n in places]
    mode = get_cudnn_mode(call.kernel.name.upper())
    sizes = call.inputs.shape[-1], mode, call.state[-1].shape[1]
    projected = 0 if call.weight_hr is None else call.weight_hr.shape[0]
    flatten_cudnn_weights(copies, len(copies), *sizes, projected, 1, False, False)
    for n, copy in zip(places, copies):
        flat[n] = copy
    return flat
