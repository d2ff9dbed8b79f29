"""Compare recurrences: outputs, final state and every gradient."""

from typing import Any

import torch
from torch import Tensor
from torch.testing import assert_close

from seqcells import Noise, backend
from seqcells.state import map_state

F64 = torch.float64


def random(*shape: int, dtype: torch.dtype = F64) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


def leaves(state: Any) -> list[Tensor]:
    """Return the tensors of a state in order."""
    if isinstance(state, Tensor):
        return [state]
    return [leaf for part in state for leaf in leaves(part)]


def close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    """Require equal tensors up to rounding."""
    found, expected = leaves(found), leaves(expected)
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert_close(one, other, rtol=tolerance, atol=tolerance)


def same(found: Any, expected: Any) -> None:
    """Require tensors that are equal to the last bit."""
    close(found, expected, 0.0)


def relative_error(found: Tensor, exact: Tensor) -> float:
    """Return the largest difference relative to the largest value."""
    difference, scale = (found.double() - exact).abs(), exact.abs()
    if not exact.numel():
        return 0.0
    largest = scale.max().item()
    return difference.max().item() / largest if largest else difference.max().item()


def form(state: Any, parts: Any) -> Any:
    """Return `parts` in the structure of `state`."""
    parts = iter(parts)

    def fill(state):
        if isinstance(state, Tensor):
            return next(parts)
        filled = [fill(part) for part in state]
        return type(state)(*filled) if hasattr(state, "_fields") else tuple(filled)

    return fill(state)


def random_state(cell: Any, batch_size: int) -> Any:
    """Return a state in the cell's own structure with random values that the cell can reach."""
    return randomised(cell.initial_state(batch_size))


def randomised(state: Any) -> Any:
    state = map_state(torch.randn_like, state)
    if hasattr(state, "normalizer"):  # of an sLSTM: a sum of positive numbers, which divides
        state = state._replace(normalizer=state.normalizer.abs() + 0.5)
    return state


def some_resets(steps: int, rows: int) -> Tensor:
    """Reset the first row in the middle and the second row at the last step."""
    resets = torch.zeros(steps, rows, dtype=torch.bool)
    resets[2, 0] = resets[steps - 1, 1] = True
    return resets


def call_options(steps: int, lengths: list[int]) -> dict[str, dict[str, Any]]:
    """Return options of a call by name: none, lengths, lengths with resets."""
    rows = len(lengths)
    resets = torch.arange(steps * rows).reshape(steps, rows) % 3 == 1
    ragged = {"lengths": lengths}
    return {"padded": {}, "lengths": ragged, "resets": {**ragged, "resets": resets}}


def upstream(results: list[Tensor]) -> list[Tensor]:
    """Return random gradients that depend on the shapes alone, not on dtype, layout or seed."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(part.shape, generator=generator, dtype=F64).to(part) for part in results]


def compute(recurrent, inputs, name, *, state=None, noise=None, **options) -> dict[str, Tensor]:
    """Run on the backend `name`; return outputs, final state and every gradient by name.

    A gradient that autograd leaves out is zero.
    """
    given = {"inputs": inputs}
    given |= {f"state {n}": part for n, part in enumerate([] if state is None else leaves(state))}
    sources = {key: part.detach().clone().requires_grad_() for key, part in given.items()}
    start = None if state is None else form(state, list(sources.values())[1:])
    options |= {} if noise is None else {"noise": noise}
    recurrent.zero_grad()
    with backend(name):
        outputs, final = recurrent(sources["inputs"], start, **options)
        results = {f"outputs {n}": part for n, part in enumerate(leaves(outputs))}
        results |= {f"final state {n}": part for n, part in enumerate(leaves(final))}
        values = [part for part in results.values() if part.requires_grad]  # not without steps
        torch.autograd.backward(values, upstream(values))
    found = {key: part.detach() for key, part in results.items()}
    for key, source in (sources | dict(recurrent.named_parameters())).items():
        gradient = torch.zeros_like(source) if source.grad is None else source.grad
        found[f"grad {key}"] = gradient.clone()
    return found


def agree(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-12) -> None:
    """Require equal results by name; the message names the first that differs."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(
            found[name],
            value,
            rtol=tolerance,
            atol=tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )


def backends_agree(recurrent, inputs, name="cpu", tolerance: float = 1e-12, **options) -> None:
    """Hold the backend `name` to the readable loop."""
    found, expected = (compute(recurrent, inputs, each, **options) for each in (name, "reference"))
    agree(found, expected, tolerance)


def noise_of_row(noise: Noise, t: int, b: int, state: Any) -> Noise:
    """Return the noise of one step and one row of the batch."""

    def pick(part: Tensor) -> Tensor:
        return (part[t] if part.dim() == 3 else part)[b : b + 1]

    zone = noise.zone
    if zone is not None:
        zone = form(state, [pick(part) for part in leaves(zone)])
    hidden, candidate = (None if part is None else pick(part) for part in noise[:2])
    return Noise(hidden, candidate, zone, noise.weight_hh)


def by_hand(
    cell, inputs, state=None, lengths=None, resets=None, reverse=False, noise=None
) -> tuple[Tensor, list[Tensor]]:
    """Run each row on its own, one call per step.

    Returns the outputs and the leaves of the final state.
    """
    steps, batch_size = inputs.shape[:2]
    probe = cell(inputs[0])
    pick = getattr(cell, "output", lambda state: leaves(state)[0])
    outputs, finals = inputs.new_zeros(steps, batch_size, pick(probe).shape[1]), []
    for b in range(batch_size):
        end = steps if lengths is None else int(lengths[b])
        now = None if state is None else form(state, [part[b : b + 1] for part in leaves(state)])
        for t in reversed(range(end)) if reverse else range(end):
            fresh = now is None or (resets is not None and resets[t, b])
            drawn = {} if noise is None else {"noise": noise_of_row(noise, t, b, probe)}
            now = cell(inputs[t, b : b + 1], None if fresh else now, **drawn)
            outputs[t, b] = pick(now)[0]
        if now is None:
            start = getattr(cell, "initial_state", lambda *_, **options: None)(1, dtype=F64)
            now = [torch.zeros_like(part[:1]) for part in leaves(probe)] if start is None else start
        finals.append(leaves(now))
    return outputs, [torch.cat(parts) for parts in zip(*finals)]
