"""Per-sample gradients of the layers for Opacus: differentially private training.

::

    import opacus
    import seqcells.adapters.opacus

    seqcells.adapters.opacus.register()
    engine = opacus.PrivacyEngine()
    model, optimizer, loader = engine.make_private(module=model, ...)  # with seqcells' layers

Opacus calls a grad sampler with the first output of a module only, so gradients that arrive through
a final state would be lost. These layers compute per-sample gradients in their own backward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from opacus.grad_sample import GradSampleHooksFastGradientClipping
from opacus.grad_sample.grad_sample_module import (
    GradSampleHooks,
    create_or_accumulate_grad_sample,
    promote_current_grad_sample,
)
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import parametrize
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from seqcells.cells import Weights
from seqcells.cells.table import EQUATIONS
from seqcells.layers import GRU, LSTM, RNN
from seqcells.recurrence.compute import compute
from seqcells.recurrence.request import Request
from seqcells.sequences import pack, zero_padding
from seqcells.state import State, first_tensor

_iterate_submodules = GradSampleHooks.iterate_submodules


def register() -> None:
    """Let `GradSampleModule` and `PrivacyEngine` take `seqcells.RNN`, `GRU` and `LSTM` as they are.

    Per-sample gradients include those of lengths, resets, packed and nested inputs, initial and
    final states, several layers and both directions. Call it before wrapping a model. A second call
    has no effect.
    """
    GradSampleHooks.iterate_submodules = _iterate


def _iterate(self: GradSampleHooks, module: nn.Module) -> Iterator[nn.Module]:
    """Attach to a layer of seqcells in place of Opacus' hooks."""
    kind = parametrize.type_before_parametrizations(module)
    if kind in PRIVATE:
        if kind is not type(module):
            raise ValueError(
                f"{kind.__name__}: expected parameters for per-sample gradients, got "
                "parametrized weights; call torch.nn.utils.parametrize.remove_parametrizations"
            )
        self.autograd_grad_sample_hooks.append(Attachment(self, module))
    else:
        yield from _iterate_submodules(self, module)


class Attachment:
    """A layer that computes per-sample gradients, until `remove` is called.

    Opacus stores it among the handles of its hooks.

    Raises:
        ValueError: ghost clipping or a projection.
    """

    def __init__(self, hooks: GradSampleHooks, layer: Any) -> None:
        if isinstance(hooks, GradSampleHooksFastGradientClipping):
            raise ValueError(
                "grad_sample_mode: expected 'hooks' for layers of seqcells, got ghost clipping, "
                "which needs norms without gradients; pass grad_sample_mode='hooks'"
            )
        if layer.proj_size:
            raise ValueError(
                f"proj_size: expected 0 for per-sample gradients, got {layer.proj_size}; follow "
                "the layer with torch.nn.Linear"
            )
        self.hooks = hooks
        self.layer = layer
        layer.__class__ = PRIVATE[type(layer)]
        vars(layer)["_attachment"] = self

    def remove(self) -> None:
        """Restore the class of the layer."""
        self.layer.__class__ = PUBLIC[type(self.layer)]
        del vars(self.layer)["_attachment"]

    def compute(self, request: Request) -> tuple[State, State]:
        """Compute a request whose backward pass also computes per-sample gradients.

        The recurrence reads the products of the inputs, so that the gradients by its inputs are
        the gradients by the gates of each step.
        """
        weights, record = request.weights, Record(self.hooks, request)
        for parameter in weights:
            if parameter is None:
                continue
            if not isinstance(parameter, nn.Parameter):
                raise ValueError(
                    "weights: expected parameters for per-sample gradients, got a "
                    f"{type(parameter).__name__}; remove hooks that compute weights"
                )
            if parameter.requires_grad:
                parameter._forward_counter += 1  # type: ignore[attr-defined]
        products = GateProducts.apply(record, request.inputs, *weights[:4])
        identity = torch.eye(products.shape[-1], dtype=products.dtype, device=products.device)
        recurrent, _, bias = (None if part is None else part.detach() for part in weights[1:4])
        plain = Weights(identity, recurrent, None, bias)
        outputs, final = compute(request._replace(weights=plain, inputs=products))
        record.outputs = outputs.detach()
        return outputs, final


class Record:
    """A request and its outputs, which the backward pass reads."""

    outputs: Tensor

    def __init__(self, hooks: GradSampleHooks, request: Request) -> None:
        self.hooks = hooks
        self.request = request

    def hidden_before(self) -> Tensor:
        """Return the hidden state before each step, `(T, B, H)`."""
        request, outputs = self.request, self.outputs
        first, lengths = first_tensor(request.state).detach(), request.lengths
        before = torch.empty_like(outputs)
        if not len(outputs):
            return before
        if request.reverse:
            before[:-1], before[-1] = outputs[1:], first
            if lengths is not None:
                row = lengths.nonzero().squeeze(1)
                before[lengths[row] - 1, row] = first[row]
        else:
            before[1:], before[0] = outputs[:-1], first
        if request.resets is not None:
            before = before.masked_fill(request.resets.unsqueeze(-1), 0)
        return before

    def by_recurrent_products(self, grads: Tensor, before: Tensor) -> Tensor:
        """Return the gradients by the products with the hidden state, from those with the input.

        They are equal but for the candidate of the GRU, whose hidden product is multiplied by the
        reset gate.
        """
        request = self.request
        if request.cell is not EQUATIONS["gru"]:
            return grads
        inputs, weights = _without_padding(request), request.weights
        reset_gate: list[Any] = [
            None if part is None else part.detach().chunk(3)[0] for part in weights[:4]
        ]
        own, recurrent, bias_ih, bias_hh = reset_gate
        reset = F.linear(inputs, own, bias_ih) + F.linear(before, recurrent, bias_hh)
        *others, candidate = grads.chunk(3, dim=-1)
        return torch.cat([*others, candidate * reset.sigmoid()], dim=-1)

    def add(self, parameter: Tensor | None, sums: Tensor) -> None:
        """Add the gradients of each row of the batch to a parameter's."""
        if parameter is None or not parameter.requires_grad:
            return
        hooks, rows = self.hooks, len(sums)
        if hooks.loss_reduction == "mean":
            sums = sums * rows
        create_or_accumulate_grad_sample(param=parameter, grad_sample=sums, max_batch_len=rows)
        counted: Any = parameter
        counted._forward_counter -= 1
        if counted._forward_counter == 0:
            promote_current_grad_sample(counted)
            samples = counted.grad_sample
            if not hooks.grad_accumulation_allowed and isinstance(samples, list):
                raise ValueError(
                    "backward: expected one backward pass per optimizer step with Poisson "
                    f"sampling, got {len(samples)}; call optimizer.step() after each, or use "
                    "BatchMemoryManager"
                )


class GateProducts(torch.autograd.Function):
    """The input products. Its backward pass computes the per-sample gradients of all weights."""

    @staticmethod
    def forward(ctx: Any, record: Record, inputs: Tensor, *weights: Tensor | None) -> Tensor:
        ctx.record = record
        weight_ih, _, bias_ih, _ = weights
        return F.linear(inputs, weight_ih, bias_ih)  # type: ignore[arg-type]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grads: Tensor) -> tuple[Tensor | None, ...]:
        record: Record = ctx.record
        weight_ih, weight_hh, bias_ih, bias_hh = record.request.weights[:4]
        dtype = weight_ih.dtype  # autocast computes in another one
        grads, before = grads.to(dtype), record.hidden_before().to(dtype)
        recurrent = record.by_recurrent_products(grads, before)
        sums = (
            _outer_products(grads, _without_padding(record.request)),
            _outer_products(recurrent, before),
            None if bias_ih is None else grads.sum(0),
            None if bias_hh is None else recurrent.sum(0),
        )
        by_inputs = (grads @ weight_ih).to(record.request.inputs.dtype)
        found: list[Tensor | None] = [None, by_inputs if ctx.needs_input_grad[1] else None]
        for parameter, part in zip((weight_ih, weight_hh, bias_ih, bias_hh), sums, strict=True):
            found.append(None if part is None else part.sum(0))
            if part is not None:
                record.add(parameter, part)
        return tuple(found)


def _outer_products(left: Tensor, right: Tensor) -> Tensor:
    """Return `(B, M, N)`, the outer products of `(T, B, M)` and `(T, B, N)` summed over time."""
    return torch.bmm(left.permute(1, 2, 0), right.transpose(0, 1))


def _without_padding(request: Request) -> Tensor:
    inputs = request.inputs.detach().to(request.weights.weight_ih.dtype)
    return inputs if request.lengths is None else zero_padding(inputs, request.lengths)


class _Private:
    """Base class of layers that compute per-sample gradients in training."""

    _attachment: Attachment

    def forward(self, input: Any, hx: Any = None, **steps: Any) -> tuple[Any, Any]:
        run: Any = super().forward  # type: ignore[misc]
        layer: Any = self
        if not isinstance(input, PackedSequence) or any(
            part is not None for part in steps.values()
        ):
            return run(input, hx, **steps)
        # Pad, so that a row of the gradients is a row of the batch as in all other modules.
        _, batch_sizes, order, positions = input
        first = layer.batch_first
        padded, lengths = pad_packed_sequence(input, batch_first=first)
        output, state = run(padded, hx, lengths=lengths)
        if first:
            output = output.transpose(0, 1)
        if order is not None:
            output, lengths = output.index_select(1, order), lengths[order.to(lengths.device)]
        data = pack(output, lengths.to(output.device))
        return PackedSequence(data, batch_sizes, order, positions), state

    def _run(self, *arguments: Any, **options: Any) -> tuple[Tensor, Any]:
        run: Any = super()._run  # type: ignore[misc]
        layer: Any = self
        if layer.training and torch.is_grad_enabled() and self._attachment.hooks.hooks_enabled:
            options.setdefault("compute", self._attachment.compute)  # `trace` passes its own
        return run(*arguments, **options)


class PrivateRNN(_Private, RNN):
    """`seqcells.RNN` with per-sample gradients."""


class PrivateGRU(_Private, GRU):
    """`seqcells.GRU` with per-sample gradients."""


class PrivateLSTM(_Private, LSTM):
    """`seqcells.LSTM` with per-sample gradients."""


PRIVATE: dict[type, type] = {RNN: PrivateRNN, GRU: PrivateGRU, LSTM: PrivateLSTM}
PUBLIC = {private: public for public, private in PRIVATE.items()}
