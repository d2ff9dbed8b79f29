"""Compare two recurrent modules: outputs, final states and every gradient."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from seqcells.state import State, map_state

# float64: largest difference relative to the largest value. Other dtypes: error against float64
# relative to the error of torch, plus one epsilon.
FLOAT64_TOLERANCE = 1e-12
ERROR_RATIO = 2.0


def assert_parity(
    ours: nn.Module,
    theirs: nn.Module,
    inputs: Tensor | PackedSequence,
    hx: State = None,
    *,
    lengths: Tensor | Sequence[int] | None = None,
    seed: int = 0,
) -> None:
    """Assert that `ours` computes the same as `theirs` with the weights of `theirs`.

    A copy of `ours` loads the state dict of `theirs` strictly, and both run on the same inputs. The
    function compares outputs, final states, and the gradients of inputs, initial states and every
    parameter under random upstream gradients. Neither module is changed.

    In float64 the tolerance is 1e-12, relative to the largest value. In other dtypes both are
    compared with `theirs` in float64, and the error of `ours` may be at most twice that of
    `theirs`, plus one epsilon.

    Args:
        ours: a layer or a cell.
        theirs: its `torch.nn` counterpart.
        inputs: the inputs of both, a tensor or a `PackedSequence`.
        hx: the initial state for both, by default their own.
        lengths: passed to `ours` with the padded inputs, which are packed for `theirs`. Each is at
            least 1, as packing requires.
        seed: seed of the upstream gradients and of dropout.

    Raises:
        AssertionError: a quantity differs. The message names it and the error.
    """
    data = inputs.data if isinstance(inputs, PackedSequence) else inputs
    copied = _copy(ours)
    copied.load_state_dict(theirs.state_dict(), strict=True)
    found = _quantities(copied, inputs, hx, seed, lengths=lengths)
    expected = _quantities(_copy(theirs), inputs, hx, seed, packed_by=lengths)
    exact = expected
    if data.dtype != torch.float64:
        wide = map_state(Tensor.double, hx) if hx is not None else None
        exact = _quantities(_copy(theirs).double(), inputs.double(), wide, seed, packed_by=lengths)
    if missing := sorted(found.keys() ^ expected.keys()):
        raise AssertionError(f"{', '.join(missing)}: expected in both or in neither")
    for name, value in found.items():
        _compare(name, value, expected[name], exact[name])


def _copy(module: nn.Module) -> nn.Module:
    """Copy a module, and make the weights of torch's layers contiguous for cuDNN."""
    copied = copy.deepcopy(module)
    if isinstance(copied, nn.RNNBase):
        copied.flatten_parameters()
    return copied


def _compare(name: str, found: Tensor, expected: Tensor, exact: Tensor) -> None:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise AssertionError(
            f"{name}: expected {expected.dtype} {tuple(expected.shape)}, "
            f"got {found.dtype} {tuple(found.shape)}"
        )
    if found.dtype == torch.float64:
        error = _relative(found, exact, float("inf"))
        allowed = FLOAT64_TOLERANCE
    else:
        error = _relative(found, exact, 2)
        allowed = ERROR_RATIO * _relative(expected, exact, 2) + torch.finfo(found.dtype).eps
    if not error <= allowed:
        raise AssertionError(f"{name}: relative error {error:.3g}, allowed {allowed:.3g}")


def _relative(found: Tensor, exact: Tensor, order: float) -> float:
    """Return the norm of the difference relative to the norm of the exact values."""
    if not exact.numel():
        return 0.0
    difference = (found.double() - exact.double()).flatten()
    scale = torch.linalg.vector_norm(exact.double().flatten(), order).item()
    norm = torch.linalg.vector_norm(difference, order).item()
    return norm / scale if scale else norm


def _quantities(
    module: nn.Module,
    inputs: Tensor | PackedSequence,
    hx: State,
    seed: int,
    *,
    lengths: Any = None,
    packed_by: Any = None,
) -> dict[str, Tensor]:
    """Return outputs, final states and all gradients of the module, by name."""
    generator = torch.Generator().manual_seed(seed)
    module.zero_grad()
    leaf, call = _leaf(inputs)
    options = {} if lengths is None else {"lengths": lengths}
    if hx is not None:
        hx = map_state(lambda part: part.detach().clone().requires_grad_(), hx)
    if packed_by is not None:
        call = pack_padded_sequence(
            leaf, torch.as_tensor(packed_by).cpu(), _batch_first(module), enforce_sorted=False
        )
    with torch.random.fork_rng(devices=[leaf.device] if leaf.is_cuda else []):
        torch.manual_seed(seed)
        result = module(call, hx, **options)
    named: dict[str, Any] = _named_outputs(result, module, inputs, packed_by)
    parts = [(value * _random(value, generator)).sum() for value in named.values()]
    torch.stack(parts).sum().backward()
    named["grad input"] = leaf.grad
    if hx is not None:
        parts = [hx] if isinstance(hx, Tensor) else hx
        named |= {f"grad hx[{number}]": part.grad for number, part in enumerate(parts)}
    named |= {f"grad {name}": value.grad for name, value in module.named_parameters()}
    return {name: value.detach() for name, value in named.items() if value is not None}


def _leaf(inputs: Tensor | PackedSequence) -> tuple[Tensor, Tensor | PackedSequence]:
    if isinstance(inputs, PackedSequence):
        leaf = inputs.data.detach().clone().requires_grad_()
        return leaf, inputs._replace(data=leaf)
    leaf = inputs.detach().clone().requires_grad_()
    return leaf, leaf


def _named_outputs(
    result: Any, module: nn.Module, inputs: Tensor | PackedSequence, packed_by: Any
) -> dict[str, Tensor]:
    if not isinstance(module, nn.RNNBase):
        names = ("hidden", "cell")
        return dict(zip(names, [result] if isinstance(result, Tensor) else result))
    output, state = result
    if packed_by is not None and isinstance(inputs, Tensor):
        steps = inputs.shape[1 if _batch_first(module) else 0]
        output, _ = pad_packed_sequence(output, _batch_first(module), total_length=steps)
    elif isinstance(output, PackedSequence):
        output = output.data
    states = [state] if isinstance(state, Tensor) else state
    return {"output": output} | dict(zip(("h_n", "c_n"), states))


def _batch_first(module: nn.Module) -> bool:
    return getattr(module, "batch_first", False)


def _random(value: Tensor, generator: torch.Generator) -> Tensor:
    """Draw upstream gradients, equal in every dtype up to rounding."""
    drawn = torch.randn(value.shape, generator=generator, dtype=torch.float32)
    return drawn.to(value.device, value.dtype)
