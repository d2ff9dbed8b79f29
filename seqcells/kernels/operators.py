"""The recurrence as operators, which every part of PyTorch sees as one: `torch.ops.seqcells`.

`recurrence` is what `unroll` calls. The readable loop, which `specify` hands in, says what it
means; the C++ of `cpu` computes the same from float32 and float64, faster. Beside it stand
`_train`, which also returns what the backward pass needs, and `_backward`. In a graph that is
compiled or exported each is one node, however long the sequence.

A call is answered, in this order:

    vmap, grad, jvp: functorch's transforms      by the readable loop, which they look through
    forward-mode differentiation                 by the readable loop
    a gradient is wanted                         by `_train`; its backward pass by `_backward` or,
                                                 if that is to be differentiated, the readable loop
    none is wanted                               by `recurrence` itself: nothing is kept

and each of the three operators by C++ where `runs_native`, elsewhere by the readable loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.autograd import forward_ad

from seqcells.kernels import cpu
from seqcells.kernels.checks import check

_ARGUMENTS = (
    "str cell, Tensor inputs, Tensor[] state, Tensor weight_ih, Tensor? weight_hh, "
    "Tensor? bias_ih, Tensor? bias_hh, Tensor? weight_hr, Tensor? parameters, Tensor[] fresh, "
    "Tensor? lengths, Tensor? batch_sizes, Tensor? resets, bool reverse"
)
_SCHEMAS = (
    f"recurrence({_ARGUMENTS}) -> Tensor[]",
    f"_train({_ARGUMENTS}) -> Tensor[]",
    f"_backward(Tensor?[] grads, {_ARGUMENTS}, Tensor outputs, Tensor kept, "
    "bool need_inputs, bool need_weights) -> Tensor[]",
)

_library = torch.library.Library("seqcells", "DEF")
for _schema in _SCHEMAS:
    _library.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))
recurrence = torch.ops.seqcells.recurrence.default
_train = torch.ops.seqcells._train.default
_backward = torch.ops.seqcells._backward.default

DTYPES = (torch.float32, torch.float64)

_readable: Callable[..., list[Tensor]]


def specify(readable: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    """Hand in the readable loop: a differentiable function of `recurrence`'s arguments."""
    global _readable
    _readable = readable
    return readable


class Call(NamedTuple):
    """The arguments of `recurrence`.

    `cell` names its kernel (`catalogue.kind_of`), and `parameters (n, H)` are what its step reads
    beside the products. `inputs (T, B, I)`, or packed `(N, I)` with `batch_sizes (T,)` on the CPU;
    `state` and, with `resets (T, B)`, `fresh` hold a tensor for each part of the cell's state, the
    hidden one first; `lengths (B,)`. Results are `[outputs, *final_state]`.
    """

    cell: str
    inputs: Tensor
    state: Sequence[Tensor]
    weight_ih: Tensor
    weight_hh: Tensor | None
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    weight_hr: Tensor | None
    parameters: Tensor | None
    fresh: Sequence[Tensor]
    lengths: Tensor | None
    batch_sizes: Tensor | None
    resets: Tensor | None
    reverse: bool

    @property
    def steps(self) -> tuple[Any, ...]:
        """What cannot be differentiated, with the number of the state's parts."""
        return self.cell, len(self.state), self.reverse, *self[10:13]

    @property
    def tensors(self) -> list[Tensor | None]:
        """What can be, in the order in which `_backward` returns the gradients."""
        return [self.inputs, *self.state, *self[3:9], *self.fresh]

    @classmethod
    def join(
        cls,
        cell: str,
        parts: int,
        reverse: bool,
        lengths: Tensor | None,
        batch_sizes: Tensor | None,
        resets: Tensor | None,
        *tensors: Tensor | None,
    ) -> Self:
        """The call of these `steps` and `tensors`."""
        inputs, state, fresh = tensors[0], tensors[1 : 1 + parts], tensors[7 + parts :]
        weights = tensors[1 + parts : 7 + parts]
        rest = (lengths, batch_sizes, resets, reverse)
        return cls(cell, inputs, list(state), *weights, list(fresh), *rest)


def transformed() -> bool:
    """Whether functorch or forward-mode differentiation looks on."""
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def batched(grads: Sequence[Tensor | None]) -> bool:
    """Whether `torch.autograd.grad(..., is_grads_batched=True)` asks, by a vmap of its own."""
    if torch.compiler.is_compiling():
        return False
    found = (grad for grad in grads if grad is not None)
    return any(torch._C._functorch.is_legacy_batchedtensor(grad) for grad in found)


def runs_native(kernel: str, inputs: Tensor) -> bool:
    """Whether C++ computes a recurrence over these inputs."""
    return inputs.is_cpu and inputs.dtype in DTYPES and cpu.refusal(kernel) is None


# Which operator answers: autograd's and functorch's keys.


def _differentiable(keys: Any, *arguments: Any) -> list[Tensor]:
    if forward_ad._current_level >= 0:
        return _readable(*arguments)
    if torch.is_grad_enabled():
        call = Call(*arguments)
        tensors = call.tensors
        if any(tensor is not None and tensor.requires_grad for tensor in tensors):
            return list(_Recurrence.apply(*call.steps, *tensors))
    return recurrence.redispatch(keys & torch._C._after_autograd_keyset, *arguments)


def _looked_through(*arguments: Any) -> list[Tensor]:
    return _readable(*arguments)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        call = Call.join(*arguments)
        *results, kept = _train(*call)
        ctx.set_materialize_grads(False)
        ctx.steps = call.steps[:3]
        ctx.save_for_backward(results[0], kept, *call.steps[3:], *call.tensors)
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        outputs, kept, *saved = ctx.saved_tensors
        call = Call.join(*ctx.steps, *saved)
        wanted = ctx.needs_input_grad[6:]
        if torch.is_grad_enabled() or transformed() or batched(grads):
            found = _read_backward(call, grads, wanted, torch.is_grad_enabled())
        else:
            weights = slice(1 + len(call.state), 7 + len(call.state))
            found = _backward(grads, *call, outputs, kept, wanted[0], any(wanted[weights]))
            found = [grad if want else None for grad, want in zip(found, wanted)]
        return None, None, None, None, None, None, *found


def _read_backward(
    call: Call, grads: Sequence[Tensor | None], wanted: Sequence[bool], create_graph: bool
) -> list[Tensor | None]:
    """The gradients of the `wanted` tensors, which require them, by the readable loop."""
    with torch.enable_grad():
        aliases = [
            tensor.view_as(tensor) if want else tensor for tensor, want in zip(call.tensors, wanted)
        ]
        results = _readable(*Call.join(*call.steps, *aliases))
    pairs = [(r, g) for r, g in zip(results, grads) if g is not None and r.requires_grad]
    if not pairs:
        return [None] * len(aliases)
    ends, upstream = zip(*pairs)
    sources = [alias for alias, want in zip(aliases, wanted) if want]
    found = iter(
        torch.autograd.grad(ends, sources, upstream, create_graph=create_graph, allow_unused=True)
    )
    return [next(found) if want else None for want in wanted]


# What each operator computes, below autograd.


def _forward(*arguments: Any) -> list[Tensor]:
    if runs_native(*arguments[:2]):
        check(Call(*arguments))
        return cpu.forward(*arguments, train=False)
    return [_own(result) for result in _readable(*arguments)]


def _forward_train(*arguments: Any) -> list[Tensor]:
    if runs_native(*arguments[:2]):
        check(Call(*arguments))
        return cpu.forward(*arguments, train=True)
    return [*_forward(*arguments), _kept(Call(*arguments))]


def _backward_through_time(grads: Sequence[Tensor | None], *arguments: Any) -> list[Tensor]:
    *arguments, outputs, kept, need_inputs, need_weights = arguments
    call = Call(*arguments)
    wanted = _wanted(call, need_inputs, need_weights)
    if runs_native(call.cell, call.inputs):
        needs = (need_inputs, need_weights)
        found = cpu.backward(call.cell, grads, *call[1:], outputs, kept, *needs)
        return [grad if want else _nothing(call) for grad, want in zip(found, wanted)]
    leaves = [
        tensor.detach().requires_grad_() if want else tensor
        for tensor, want in zip(call.tensors, wanted)
    ]
    found = _read_backward(Call.join(*call.steps, *leaves), grads, wanted, create_graph=False)
    return [
        _own(torch.zeros_like(leaf) if grad is None else grad) if want else _nothing(call)
        for leaf, grad, want in zip(leaves, found, wanted)
    ]


def _fake(*arguments: Any) -> list[Tensor]:
    call = Call(*arguments)
    outputs = call.inputs.new_empty((*call.inputs.shape[:-1], call.state[0].shape[1]))
    return [outputs, *(part.new_empty(part.shape) for part in call.state)]


def _fake_train(*arguments: Any) -> list[Tensor]:
    return [*_fake(*arguments), _kept(Call(*arguments))]


def _fake_backward(grads: Sequence[Tensor | None], *arguments: Any) -> list[Tensor]:
    *arguments, _, _, need_inputs, need_weights = arguments
    call = Call(*arguments)
    return [
        tensor.new_empty(tensor.shape) if want else _nothing(call)
        for tensor, want in zip(call.tensors, _wanted(call, need_inputs, need_weights))
    ]


def _kept(call: Call) -> Tensor:
    """Room for what `_train` keeps, its shape the same on every machine; left empty but by C++."""
    rows = math.prod(call.inputs.shape[:-1])
    columns = cpu.kept_columns(call.cell, call.state[-1].shape[1])
    return call.inputs.new_empty(rows, columns if call.inputs.device.type == "cpu" else 0)


def _wanted(call: Call, need_inputs: bool, need_weights: bool) -> list[bool]:
    """Which of the call's tensors `_backward` returns a gradient for."""
    weights = [weight is not None and need_weights for weight in call[3:9]]
    return [need_inputs, *[True] * len(call.state), *weights, *[True] * len(call.fresh)]


def _nothing(call: Call) -> Tensor:
    return call.inputs.new_empty(0)


def _own(result: Tensor) -> Tensor:
    """The same in memory of its own, as an operator's results have to be."""
    return result.detach().clone(memory_format=torch.contiguous_format)


_library.impl("recurrence", _differentiable, "Autograd", with_keyset=True)
_library.impl("recurrence", _looked_through, "FuncTorchDynamicLayerFrontMode")
for _name, _kernel, _shape in (
    ("recurrence", _forward, _fake),
    ("_train", _forward_train, _fake_train),
    ("_backward", _backward_through_time, _fake_backward),
):
    _library.impl(_name, _kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"seqcells::{_name}", _shape, lib=_library)
    for _device in ("cpu", "cuda"):
        torch.library.register_autocast(f"seqcells::{_name}", _device, torch.float32, lib=_library)
