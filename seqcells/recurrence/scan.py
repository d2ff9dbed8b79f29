"""Parallel scan of the linear recurrence `h_t = a_t * h_{t-1} + b_t`."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqcells.sequences import valid_steps


def linear_recurrence(
    decay: Tensor,
    addend: Tensor,
    state: Tensor,
    *,
    fresh_state: Any = None,  # a tensor if there are resets
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run `scan` with lengths `(B,)`, resets `(T, B)` and a direction.

    They are changes of a and b, each `(T, B, H)`. Beyond a length a is 1 and b is 0, so that the
    state is unchanged. At a reset, `a * fresh_state` is added to b, and a is 0.

    Returns:
        The states `(T, B, H)`, zero beyond each length, and each row's state after its last step.
    """
    dtype = torch.promote_types(addend.dtype, state.dtype)
    decay, addend, state = decay.to(dtype), addend.to(dtype), state.to(dtype)
    if resets is not None:
        mask = resets.unsqueeze(-1)
        addend = torch.where(mask, decay * fresh_state + addend, addend)
        decay = decay.masked_fill(mask, 0)
    if lengths is not None:
        padding = ~valid_steps(lengths, len(addend)).unsqueeze(-1)
        decay, addend = decay.masked_fill(padding, 1), addend.masked_fill(padding, 0)
    if reverse:
        decay, addend = decay.flip(0), addend.flip(0)
    states = scan(decay, addend, state)
    final_state = states[-1].clone() if len(states) else state
    if reverse:
        states = states.flip(0)
    return (states if lengths is None else states.masked_fill(padding, 0)), final_state


def scan(decay: Tensor, addend: Tensor, start: Tensor) -> Tensor:
    """Return all states of `h_t = a_t * h_{t-1} + b_t` from `start`, in O(log T) operations.

    Two consecutive steps are one step of the same form, `a = a_2 a_1` and `b = a_2 b_1 + b_2`. The
    scan merges steps in pairs, scans half as many steps recursively, and computes each state in
    between by one more step. This takes O(T) arithmetic. There is no division and no logarithm, so
    b may have any sign and a may be zero. For a within [0, 1] the error is that of a loop.

    The gradient is the same recurrence backwards in time, `db_t = g_t + a_{t+1} db_{t+1}` and
    `da_t = db_t * h_{t-1}`. It is computed by `scan`, so derivatives of any order exist.

    Shapes:
        decay a and addend b `(T, ...)`, start `(...)`, of one dtype; result `(T, ...)`.
    """
    if not len(addend):
        return addend
    start = start.expand(addend.shape[1:])
    if torch.compiler.is_compiling():  # Dynamo rejects autograd functions with a jvp
        return _states(decay, addend, start)
    return _Scan.apply(decay, addend, start)


class _Scan(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(decay: Tensor, addend: Tensor, start: Tensor) -> Tensor:
        return _states(decay, addend, start)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], states: Tensor) -> None:
        decay, _, start = inputs
        ctx.save_for_backward(decay, start, states)
        ctx.save_for_forward(decay, start, states)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        decay, start, states = ctx.saved_tensors
        backwards = torch.cat((torch.zeros_like(decay[:1]), decay[1:].flip(0)))
        grad_addend = scan(backwards, gradient.flip(0), torch.zeros_like(start)).flip(0)
        grad_decay = grad_addend * _previous_states(start, states)
        return grad_decay, grad_addend, decay[0] * grad_addend[0]

    @staticmethod
    def jvp(
        ctx: Any, tangent_decay: Tensor, tangent_addend: Tensor, tangent_start: Tensor
    ) -> Tensor:
        decay, start, states = ctx.saved_tensors
        addend = tangent_decay * _previous_states(start, states) + tangent_addend
        return scan(decay, addend, tangent_start)


def _previous_states(start: Tensor, states: Tensor) -> Tensor:
    """Return the state before each step."""
    return torch.cat((start.unsqueeze(0), states[:-1]))


def _states(decay: Tensor, addend: Tensor, start: Tensor) -> Tensor:
    first = torch.addcmul(addend[:1], decay[:1], start)
    return _scan_from_zero(decay, torch.cat((first, addend[1:])))


def _scan_from_zero(a: Tensor, b: Tensor) -> Tensor:
    """Return the states after each of at least one step, from a state of zero."""
    steps = len(b)
    if steps == 1:
        return b
    pairs = steps // 2
    even_a, even_b, odd_a, odd_b = a[::2], b[::2], a[1::2], b[1::2]
    odd = _scan_from_zero(odd_a * even_a[:pairs], torch.addcmul(odd_b, odd_a, even_b[:pairs]))
    later_even = torch.addcmul(even_b[1:], even_a[1:], odd[: len(even_b) - 1])
    even = torch.cat((even_b[:1], later_even))
    states = torch.stack((even[:pairs], odd), dim=1).reshape(2 * pairs, *b.shape[1:])
    return states if steps % 2 == 0 else torch.cat((states, even[pairs:]))
