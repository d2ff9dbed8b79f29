"""A recurrence over time: the readable loop, and the one place that picks a faster path."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from seqcells.backends import chosen, refuse
from seqcells.cells.base import EQUATIONS, GatedCell, Weights, kernel_of
from seqcells.cells.linear import is_linear
from seqcells.generate import kernel_for
from seqcells.kernels import cpu, operators
from seqcells.kernels.catalogue import COMPILED, PRODUCTS_ALONE, kind_of
from seqcells.loop import evaluated_once, loop
from seqcells.noise import Noise, noisy_coefficients, noisy_step, settle
from seqcells.programs import constant, factor_of, interpreted, kernel_weights
from seqcells.scan import linear_recurrence
from seqcells.sequences import pack, packed_lengths, unpack, zero_padding
from seqcells.state import State, autocast, first_tensor, flat_state, form_state, map_state

REDUCED = (torch.float16, torch.bfloat16)

TRANSFORMED = "a transform of torch.func or forward-mode differentiation has to see every step"


def unroll(
    cell: GatedCell,
    weights: Weights,
    inputs: Tensor,
    initial_state: State,
    *,
    fresh_state: State = None,
    lengths: Tensor | None = None,
    batch_sizes: Tensor | None = None,
    resets: Tensor | None = None,
    reverse: bool = False,
    noise: Noise | None = None,
    all_states: bool = False,
) -> tuple[State, State]:
    """Run a gated cell's equations over `inputs (T, B, I)`, with these weights and this noise.

    `lengths (B,)`, `resets (T, B)` and `noise` are checked already, `fresh_state` is what a reset
    restarts from; what stands past a length reaches nothing. With `batch_sizes (T,)`, on the CPU,
    inputs and outputs are packed, `(N, I)` and `(N, H)`.

    An operator computes it (`kernels/operators.py`) if a kernel is made for the cell's equations,
    or can be made of them (`generate.kernel_for`), `backend("reference")` is not asked for, and
    either the call is being compiled or exported, so that the graph does not grow with T, or
    `obstacle` finds none to native code. Else the readable loop does, under ordinary autograd.

    Where there is a kernel, autocast changes the arithmetic of neither: it is float32, as it is
    for float16 and bfloat16 by an operator on the CPU. The results have the state's dtype.

    Returns:
        The outputs `(T, B, H)`, or with `all_states` the states, each part so; zero past each
        length. And each row's state at its own end.

    Raises:
        RuntimeError: `backend("cpu")` is asked for and cannot run the call.
    """
    weights, noise = settle(weights, noise)
    kernel, reason = _kernel(cell)
    steps = (lengths, batch_sizes, resets, reverse)
    options = (noise, all_states)
    if kernel is None:
        refuse(reason)
        return reference(cell, weights, inputs, initial_state, fresh_state, *steps, *options)
    if autocast(inputs):
        with torch.autocast(inputs.device.type, enabled=False):
            return _in_float32(cell, weights, inputs, initial_state, fresh_state, *steps, *options)
    fresh_state = None if resets is None else fresh_state
    factors, left_over = _factors(cell, kernel, noise)
    if left_over:
        refuse(f"the kernel of {type(cell).__name__} takes no noise.{left_over}")
        return reference(cell, weights, inputs, initial_state, fresh_state, *steps, *options)
    tensors = [inputs, *flat_state(initial_state), *weights, *flat_state(fresh_state)]
    if noise is not None:
        tensors += [*factors[:2], *factors[2]]
    if not _takes_operator(kernel, tensors):
        return reference(cell, weights, inputs, initial_state, fresh_state, *steps, *options)
    if inputs.dtype in REDUCED and inputs.device.type == "cpu":
        return _in_float32(cell, weights, inputs, initial_state, fresh_state, *steps, *options)
    packed = weights if kernel in PRODUCTS_ALONE else kernel_weights(kernel, cell, weights)
    rows = inputs.shape[1] if batch_sizes is None else None
    state, fresh = (_for_rows(parts, rows) for parts in (initial_state, fresh_state))
    cells = all_states and len(state) > 1
    outputs, *final = operators.call(kernel, inputs, state, *packed, fresh, *factors, *steps, cells)
    if all_states:
        outputs = form_state(initial_state, [outputs, final.pop()] if cells else [outputs])
    return outputs, form_state(initial_state, final)


def reference(
    cell: GatedCell,
    weights: Weights,
    inputs: Tensor,
    initial_state: State,
    fresh_state: State,
    lengths: Tensor | None,
    batch_sizes: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    noise: Noise | None = None,
    all_states: bool = False,
) -> tuple[State, State]:
    """What `unroll` means: the readable loop. The products with all inputs are one product.

    For a cell whose next state is linear in the last, a scan takes the loop's place.
    """

    def step(from_input: Tensor, state: State, noise: Noise | None) -> tuple[State, tuple[()]]:
        return noisy_step(cell, weights, from_input, state, noise)[0], ()

    if lengths is not None:
        inputs = zero_padding(inputs, lengths)
    from_inputs = cell.from_inputs(weights, inputs)
    if batch_sizes is not None:
        lengths = packed_lengths(batch_sizes).to(inputs.device)
        from_inputs = unpack(from_inputs, lengths, len(batch_sizes))
    options = {
        "fresh_state": fresh_state,
        "lengths": lengths,
        "resets": resets,
        "reverse": reverse,
    }
    if is_linear(cell):
        coefficients, _ = cell.coefficients(from_inputs)
        coefficients = noisy_coefficients(*coefficients, noise)
        outputs, final_state = linear_recurrence(*coefficients, initial_state, **options)
    else:
        keep, options["noise"] = (
            (lambda state, _: state if all_states else cell.output(state)),
            noise,
        )
        with evaluated_once(cell):
            outputs, final_state = loop(step, keep, from_inputs, initial_state, **options)
    if batch_sizes is not None:
        outputs = map_state(lambda part: pack(part, lengths), outputs)
    return outputs, final_state


@operators.specify
def _readable(
    kernel: str,
    inputs: Tensor,
    state: list[Tensor],
    weight_ih: Tensor,
    weight_hh: Tensor | None,
    bias_ih: Tensor | None,
    bias_hh: Tensor | None,
    weight_hr: Tensor | None,
    parameters: Tensor | None,
    fresh: list[Tensor],
    read: Tensor | None,
    drop: Tensor | None,
    zone: list[Tensor],
    *steps: Any,
) -> list[Tensor]:
    """`reference` in the operators' terms: the cell by its kernel's name, states as lists."""
    own = parameters is not None or kernel not in EQUATIONS
    cell = interpreted(kernel) if own else EQUATIONS[kernel]
    form = cell.initial_state(0)
    weights = Weights(weight_ih, weight_hh, bias_ih, bias_hh, weight_hr, parameters)
    fresh_state = form_state(form, fresh) if fresh else None
    noise = Noise(read, drop, form_state(form, zone) if zone else None)
    _, noise = settle(weights, noise)
    state = form_state(form, state)
    *steps, cells = steps
    outputs, final = reference(cell, weights, inputs, state, fresh_state, *steps, noise, cells)
    outputs, *rest = flat_state(outputs)
    return [outputs, *flat_state(final), *rest]


def _factors(
    cell: GatedCell, kernel: str, noise: Noise | None
) -> tuple[tuple[Tensor | None, Tensor | None, list[Tensor]], str]:
    """The noise as an operator takes it, `read`, `drop` and `zone`, and what it cannot take."""
    if noise is None:
        return (None, None, []), ""
    has_product, drops = _takes(kernel)
    factors = {"hidden": noise.hidden, "candidate": noise.candidate}
    read = factors.pop("hidden") if has_product else None
    drop = factors.pop(factor_of(cell)) if drops else None
    left_over = [name for name, factor in factors.items() if factor is not None]
    return (read, drop, flat_state(noise.zone)), left_over[0] if left_over else ""


def _for_rows(state: State, rows: int | None) -> list[Tensor]:
    """The state's tensors, one that stands for all rows spread out."""
    parts = flat_state(state)
    if rows is None or all(part.dim() == 2 and part.shape[0] == rows for part in parts):
        return parts
    return [part.expand(rows, -1) for part in parts]


def _kernel(cell: GatedCell) -> tuple[str | None, str]:
    """The kernel that computes the cell's equations, or None and the reason."""
    if (kernel := kernel_of(cell)) is not None:
        return kernel, ""
    if not torch.compiler.is_compiling():
        if operators.transformed():
            return None, TRANSFORMED
        if cell._any_parameter().device.type not in ("cpu", "meta"):
            return None, "its equations are traced on the CPU alone; move it with .to('cpu')"
    kernel, reason = kernel_for(cell)
    if kernel is not None and chosen() == "auto" and _missing(kernel):
        kernel = kernel.removeprefix(COMPILED)  # where it cannot be compiled it is interpreted
    return kernel, reason


def _takes_operator(kernel: str, tensors: list[Tensor | None]) -> bool:
    if chosen() == "reference":
        return False
    compiling = torch.compiler.is_compiling()
    reason = _missing(kernel) if compiling else obstacle(kernel, tensors)
    refuse(reason)
    return compiling or reason is None


@constant
def _missing(kernel: str) -> str | None:
    return cpu.refusal(kernel)


@constant
def _takes(kernel: str) -> tuple[bool, bool]:
    """Whether there is a product with the hidden state, and whether its program takes a factor."""
    kind = kind_of(kernel)
    return kind.hidden, kind.drops


def obstacle(kernel: str, tensors: list[Tensor | None]) -> str | None:
    """Why native code cannot run a call on these tensors, and what to do; None where it can."""
    if operators.transformed():
        return TRANSFORMED
    dtype = tensors[0].dtype
    if dtype not in (*operators.DTYPES, *REDUCED):
        return f"expected float32, float64, float16 or bfloat16, got {dtype}; convert it with .to()"
    for tensor in tensors:
        if tensor is None:
            continue
        if type(tensor) not in (Tensor, nn.Parameter):
            return f"expected plain tensors, got a {type(tensor).__name__}"
        if not tensor.is_cpu:
            return f"expected tensors on the CPU, got {tensor.device}; move them with .to('cpu')"
        if tensor.dtype != dtype:
            return f"expected tensors of one dtype, got {dtype} and {tensor.dtype}"
    return cpu.refusal(kernel)


def _in_float32(
    cell: GatedCell,
    weights: Weights,
    inputs: Tensor,
    initial_state: State,
    fresh_state: State,
    *steps: Any,
) -> tuple[Tensor, State]:
    """`unroll` in float32, or float64 as it came, and its results in the initial state's dtype."""
    lengths, batch_sizes, resets, reverse, noise, all_states = steps
    outputs, final_state = unroll(
        cell,
        Weights(*(weight if weight is None else _widened(weight) for weight in weights)),
        _widened(inputs),
        map_state(_widened, initial_state),
        fresh_state=None if resets is None else map_state(_widened, fresh_state),
        lengths=lengths,
        batch_sizes=batch_sizes,
        resets=resets,
        reverse=reverse,
        noise=None if noise is None else noise.map(_widened),
        all_states=all_states,
    )
    dtype = first_tensor(initial_state).dtype
    return map_state(lambda part: part.to(dtype), (outputs, final_state))


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in REDUCED else tensor
