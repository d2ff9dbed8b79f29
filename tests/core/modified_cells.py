"""Every modifier, the cells that it can stand around, and a modified recurrence by hand."""

from typing import Any

import torch
from core_helpers import leaves, random
from every_cell import EVERY, make_random
from invented_cells import form

import seqcells
from seqcells import (
    DropConnect,
    LearnedState,
    Noise,
    RecurrentDropout,
    VariationalDropout,
    Zoneout,
)

I, H = 4, 5  # noqa: E741


def learned(cell: Any) -> LearnedState:
    """With a start that is not the one a cell has anyway."""
    modified = LearnedState(cell)
    for name, parameter in modified.named_parameters(recurse=False):
        assert name.startswith("start")
        torch.nn.init.uniform_(parameter, -1, 1)
    return modified


MODIFY = {
    "zoneout": lambda cell: Zoneout(cell, 0.4),
    "variational": lambda cell: VariationalDropout(cell, 0.4),
    "recurrent": lambda cell: RecurrentDropout(cell, 0.4),
    "drop_connect": lambda cell: DropConnect(cell, 0.4),
    "learned": learned,
    "composed": lambda cell: Zoneout(VariationalDropout(DropConnect(learned(cell), 0.2), 0.2), 0.4),
}


def fits(modifier: str, kind: str) -> bool:
    """Whether the cell has what is modified."""
    gates = EVERY[kind].cell.gates
    if modifier in ("variational", "drop_connect", "composed"):
        return not kind.startswith("min_")
    return modifier != "recurrent" or "candidate" in gates


PAIRS = [(modifier, kind) for modifier in MODIFY for kind in EVERY if fits(modifier, kind)]
MISFITS = [(modifier, kind) for modifier in MODIFY for kind in EVERY if not fits(modifier, kind)]


def make_modified(modifier: str, kind: str) -> seqcells.modifiers.Modifier:
    return MODIFY[modifier](make_random(kind, I, H))


def of_row(noise: Noise, t: int, b: int, state: Any) -> Noise:
    """The noise of one step and one row of the batch."""

    def pick(part: torch.Tensor) -> torch.Tensor:
        return (part[t] if part.dim() == 3 else part)[b : b + 1]

    zone = noise.zone
    if zone is not None:
        zone = form(state, [pick(part) for part in leaves(zone)])
    hidden, candidate = (None if part is None else pick(part) for part in noise[:2])
    return Noise(hidden, candidate, zone, noise.weight_hh)


def by_hand(cell, inputs, noise, state, lengths=None, resets=None, reverse=False):
    """Each row on its own, one call a step: the outputs, and the parts of the final state."""
    outputs, finals = [], []
    fresh = cell.initial_state(1, dtype=inputs.dtype)
    for b in range(inputs.shape[1]):
        end = len(inputs) if lengths is None else lengths[b]
        now = form(fresh, [part[b : b + 1] for part in leaves(state)])
        of_steps = [torch.zeros_like(cell.output(now)[0])] * len(inputs)
        for t in reversed(range(end)) if reverse else range(end):
            before = fresh if resets is not None and resets[t, b] else now
            now = cell(inputs[t, b : b + 1], before, noise=of_row(noise, t, b, fresh))
            of_steps[t] = cell.output(now)[0]
        outputs.append(torch.stack(of_steps))
        finals.append(leaves(now))
    return torch.stack(outputs, 1), [torch.cat(parts) for parts in zip(*finals)]


def some_resets(steps: int, rows: int) -> torch.Tensor:
    resets = torch.zeros(steps, rows, dtype=torch.bool)
    resets[2, 0] = resets[steps - 1, 1] = True
    return resets


def a_state(cell: Any, rows: int) -> Any:
    zero = cell.initial_state(rows, dtype=torch.float64)
    return form(zero, [random(*part.shape) for part in leaves(zero)])
