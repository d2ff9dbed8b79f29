"""The recurrence as operators, which every part of PyTorch sees as one: `torch.ops.seqcells`.

`recurrence` is what `unroll` calls. The readable loop, which `specify` hands in, says what it
means; the C++ of `cpu` computes the same on the CPU, `triton` on a GPU, faster. Beside it stand
`_train`, which also returns what the backward pass needs, and `_backward`. In a graph that is
compiled or exported each is one node, however long the sequence.

A call is answered, in this order:

    vmap, grad, jvp: functorch's transforms      by the readable loop, which they look through
    forward-mode differentiation                 by the readable loop
    a gradient is wanted                         by `_train`; its backward pass by `_backward` or,
                                                 if that is to be differentiated, the readable loop
    none is wanted                               by `recurrence` itself: nothing is kept

and each of the three operators by its `runner`, where there is none by the readable loop. The name
of a kernel may ask for a runner that is not its device's own. cuDNN's keeps a graph of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils.flop_counter import register_flop_formula

from seqcells.equations.catalogue import split
from seqcells.kernels import cpu, cudnn, triton
from seqcells.kernels.checks import check
from seqcells.kernels.request import Call

_ARGUMENTS = (
    "str cell, Tensor inputs, Tensor[] state, Tensor weight_ih, Tensor? weight_hh, "
    "Tensor? bias_ih, Tensor? bias_hh, Tensor? weight_hr, Tensor? parameters, Tensor[] fresh, "
    "Tensor? read, Tensor? drop, Tensor[] zone, Tensor? lengths, Tensor? batch_sizes, "
    "Tensor? resets, bool reverse, bool cells"
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

BACKENDS = {"cpu": cpu, "triton": triton, "cudnn": cudnn}
OWN = {"cpu": "cpu", "cuda": "triton"}  # of each device

_readable: Callable[..., list[Tensor]]


def specify(readable: Callable[..., list[Tensor]]) -> Callable[..., list[Tensor]]:
    """Hand in the readable loop: a differentiable function of `recurrence`'s arguments."""
    global _readable
    _readable = readable
    return readable


def transformed() -> bool:
    """Whether functorch or forward-mode differentiation looks on."""
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def batched(grads: Sequence[Tensor | None]) -> bool:
    """Whether `torch.autograd.grad(..., is_grads_batched=True)` asks, by a vmap of its own."""
    if torch.compiler.is_compiling():
        return False
    found = (grad for grad in grads if grad is not None)
    return any(torch._C._functorch.is_legacy_batchedtensor(grad) for grad in found)


def runner(kernel: str, inputs: Tensor) -> Any:
    """The module that computes a recurrence over these inputs, None for the readable loop."""
    asked, name = split(kernel)
    module = BACKENDS.get(asked or OWN.get(inputs.device.type))
    runs = module is not None and inputs.dtype in module.DTYPES and module.refusal(name) is None
    return module if runs else None


# Which operator answers: autograd's and functorch's keys.


def call(*arguments: Any) -> list[Tensor]:
    """`recurrence`; where nobody looks on, not even the dispatcher, whose time short calls feel."""
    if _observed():
        return recurrence(*arguments)
    return _answer(_forward, *arguments)


def _observed() -> bool:
    """Whether something watches which operators are called: a compiler, a mode, a profiler."""
    return (
        torch.compiler.is_compiling()
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or torch.autograd._profiler_enabled()
        or torch._C._get_tracing_state() is not None
    )


def _differentiable(keys: Any, *arguments: Any) -> list[Tensor]:
    def below(*arguments: Any) -> list[Tensor]:
        return recurrence.redispatch(keys & torch._C._after_autograd_keyset, *arguments)

    return _answer(below, *arguments)


def _answer(below: Callable[..., list[Tensor]], *arguments: Any) -> list[Tensor]:
    if forward_ad._current_level >= 0:
        return _readable(*arguments)
    if torch.is_grad_enabled():
        call = Call(*arguments)
        if any(part is not None and part.requires_grad for part in call.noise):
            return _readable(*arguments)
        tensors = call.tensors
        if any(tensor is not None and tensor.requires_grad for tensor in tensors):
            return list(_Recurrence.apply(*call.flags, *call.rest, *tensors))
    return below(*arguments)


def _looked_through(*arguments: Any) -> list[Tensor]:
    return _readable(*arguments)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        call = Call.join(*arguments)
        ctx.graph = cudnn.Graph.of(call) if split(call.cell)[0] == "cudnn" else None
        if ctx.graph is None:
            *results, kept = (_train if _observed() else _forward_train)(*call)
        else:
            results, kept = [part.detach() for part in ctx.graph.results], _nothing(call)
        ctx.set_materialize_grads(False)
        ctx.flags = call.flags
        ctx.save_for_backward(results[0], kept, *arguments[len(ctx.flags) :])
        return tuple(results)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        outputs, kept, *saved = ctx.saved_tensors
        call = Call.join(*ctx.flags, *saved)
        skipped = len(ctx.flags) + len(call.rest)
        wanted = ctx.needs_input_grad[skipped:]
        if torch.is_grad_enabled() or transformed() or batched(grads):
            found = _read_backward(call, grads, wanted, torch.is_grad_enabled())
        elif ctx.graph is not None:
            found = ctx.graph.gradients(grads, wanted)
        else:
            weights = slice(1 + len(call.state), 7 + len(call.state))
            plain = all(grad is None or type(grad) is Tensor for grad in grads)
            run = _gradients if plain and not _observed() else _backward
            found = run(grads, *call, outputs, kept, wanted[0], any(wanted[weights]))
            found = [grad if want else None for grad, want in zip(found, wanted)]
        return *[None] * skipped, *found


def _read_backward(
    call: Call, grads: Sequence[Tensor | None], wanted: Sequence[bool], create_graph: bool
) -> list[Tensor | None]:
    """The gradients of the `wanted` tensors, which require them, by the readable loop."""
    with torch.enable_grad():
        aliases = [
            tensor.view_as(tensor) if want else tensor for tensor, want in zip(call.tensors, wanted)
        ]
        results = _readable(*Call.join(*call.flags, *call.rest, *aliases))
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
    call = Call(*arguments)
    if (module := runner(call.cell, call.inputs)) is not None:
        check(call)
        return module.forward(_plain(call), train=False)
    return [_own(result) for result in _readable(*arguments)]


def _forward_train(*arguments: Any) -> list[Tensor]:
    call = Call(*arguments)
    if (module := runner(call.cell, call.inputs)) is not None:
        check(call)
        return module.forward(_plain(call), train=True)
    return [*_forward(*arguments), _kept(call)]


def _backward_through_time(grads: Sequence[Tensor | None], *arguments: Any) -> list[Tensor]:
    call, found = Call(*arguments[:-4]), _gradients(grads, *arguments)
    return [_nothing(call) if grad is None else grad for grad in found]


def _gradients(grads: Sequence[Tensor | None], *arguments: Any) -> list[Tensor | None]:
    *arguments, outputs, kept, need_inputs, need_weights = arguments
    call = Call(*arguments)
    if (module := runner(call.cell, call.inputs)) is not None:
        call = _plain(call)
        return module.backward(call, grads, outputs, kept, need_inputs, need_weights)
    wanted = _wanted(call, need_inputs, need_weights)
    leaves = [
        tensor.detach().requires_grad_() if want else tensor
        for tensor, want in zip(call.tensors, wanted)
    ]
    call = Call.join(*call.flags, *call.rest, *leaves)
    found = _read_backward(call, grads, wanted, create_graph=False)
    return [
        _own(torch.zeros_like(leaf) if grad is None else grad) if want else None
        for leaf, grad, want in zip(leaves, found, wanted)
    ]


def _fake(*arguments: Any) -> list[Tensor]:
    call = Call(*arguments)
    rows = call.inputs.shape[:-1]
    outputs = call.inputs.new_empty((*rows, call.state[0].shape[1]))
    cells = [call.inputs.new_empty((*rows, call.state[1].shape[1]))] if call.cells else []
    return [outputs, *(part.new_empty(part.shape) for part in call.state), *cells]


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
    module = BACKENDS.get(split(call.cell)[0] or OWN.get(call.inputs.device.type))
    return call.inputs.new_empty(rows, 0 if module is None else module.kept_columns(call))


def _plain(call: Call) -> Call:
    asked, name = split(call.cell)
    return call._replace(cell=name) if asked else call


def _wanted(call: Call, need_inputs: bool, need_weights: bool) -> list[bool]:
    """Which of the call's tensors `_backward` returns a gradient for."""
    weights = [weight is not None and need_weights for weight in call[3:9]]
    return [need_inputs, *[True] * len(call.state), *weights, *[True] * len(call.fresh)]


def _nothing(call: Call) -> Tensor:
    return call.inputs.new_empty(0)


def _own(result: Tensor) -> Tensor:
    """The same in memory of its own, as an operator's results have to be."""
    return result.detach().clone(memory_format=torch.contiguous_format)


def _flops(*shapes: Any, **options: Any) -> int:
    """Multiplications and additions of the products, for `FlopCounterMode`; padding counts."""
    call = Call(*shapes[: len(Call._fields)])
    weights = (call.weight_ih, call.weight_hh, call.weight_hr)
    sizes = (math.prod(shape) for shape in weights if shape is not None)
    return 2 * math.prod(call.inputs[:-1]) * sum(sizes)


_library.impl("recurrence", _differentiable, "Autograd", with_keyset=True)
_library.impl("recurrence", _looked_through, "FuncTorchDynamicLayerFrontMode")
for _name, _kernel, _shape, _count in (
    ("recurrence", _forward, _fake, _flops),
    ("_train", _forward_train, _fake_train, _flops),
    ("_backward", _backward_through_time, _fake_backward, lambda _, *s, **o: 2 * _flops(*s, **o)),
):
    register_flop_formula(getattr(torch.ops.seqcells, _name))(_count)
    _library.impl(_name, _kernel, "CompositeExplicitAutograd")
    torch.library.register_fake(f"seqcells::{_name}", _shape, lib=_library)
    for _device in ("cpu", "cuda"):
        torch.library.register_autocast(f"seqcells::{_name}", _device, torch.float32, lib=_library)
