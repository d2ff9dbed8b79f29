"""The randomness of a sequence: tensors drawn before it runs, which go along beside its inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqcells.state import State, check_dtype, first_tensor, map_state


class Noise(NamedTuple):
    """Factors and shares that one sequence runs with; what is None changes nothing.

    Each holds for the whole sequence, or has the time as its first dimension. Time comes first
    here, and the batch is there, whatever the layout of the inputs.

    Attributes:
        hidden: `(B, R)` or `(T, B, R)`, the factor on the hidden state (R units: H, or P where it
            is projected) as the recurrent product reads it. What is carried on past the product,
            as in the GRU's `z * h'`, stays as it is.
        candidate: `(B, H)` or `(T, B, H)`, the factor on a cell's candidate where it enters the
            state.
        zone: in the state's form, for each part `(B, ...)` its own shape or `(T, B, ...)`, the
            share of the old value that stays: `new = share * old + (1 - share) * new`.
        weight_hh: shaped as the recurrent weights, the factor on them.
    """

    hidden: Tensor | None = None
    candidate: Tensor | None = None
    zone: State = None
    weight_hh: Tensor | None = None

    def at(self, step: int, state: State) -> Noise:
        """The noise of one step of a sequence whose states are shaped as `state`."""

        def pick(own: Tensor, rank: int) -> Tensor:
            return own[step] if own.dim() > rank else own

        parts = zip(self, _ranks(state))
        return Noise(*(own if own is None else map_state(pick, own, rank) for own, rank in parts))

    def map(self, function: Callable[[Tensor], Tensor]) -> Noise:
        """The same with `function` of each tensor."""
        return Noise(*(part if part is None else map_state(function, part) for part in self))

    def beside(self, other: Noise) -> Noise:
        """Both at once: factors multiply, and of what one share leaves the other keeps its own."""

        def join(share: Tensor, its: Tensor) -> Tensor:
            return 1 - (1 - share) * (1 - its)

        def both(mine: State, its: State, function: Callable[..., Tensor]) -> State:
            if mine is None or its is None:
                return its if mine is None else mine
            return map_state(function, mine, its)

        functions: list[Any] = [Tensor.mul, Tensor.mul, join, Tensor.mul]  # by the parts' order
        return Noise(*map(both, self, other, functions))

    def carried(self, drawn: Noise, state: State) -> Noise:
        """What was `drawn` for the steps that follow, but from here what holds for a sequence.

        `state` is one of the sequence: its shape tells which parts have no time.
        """

        def keep(old: Tensor, rank: int, new: Tensor) -> Tensor:
            return new if old.dim() > rank else old

        parts = zip(self, _ranks(state), drawn)
        return Noise(
            *(
                new if old is None or new is None else map_state(keep, old, rank, new)
                for old, rank, new in parts
            )
        )


def _ranks(state: State) -> tuple[Any, ...]:
    """Of each part of a noise, the dimensions that it has where it has no time."""
    return 2, 2, None if state is None else map_state(Tensor.dim, state), 2


# What a step does with it. A noise of None is none.


def read(hidden: Tensor, noise: Noise | None) -> Tensor:
    """The hidden state as the recurrent product reads it."""
    return hidden if noise is None or noise.hidden is None else hidden * noise.hidden


def kept(candidate: Tensor, drop: Tensor | None = None) -> Tensor:
    """The candidate as it enters the state."""
    return candidate if drop is None else candidate * drop


def drop_of(noise: Noise | None) -> tuple[Tensor, ...]:
    """The candidate's factor, the fourth argument of `activate`, if there is one."""
    return () if noise is None or noise.candidate is None else (noise.candidate,)


def zoned(noise: Noise | None, old: State, new: State) -> State:
    """The new state, and of the old one what stays: nothing of a state that is not known."""
    if noise is None or noise.zone is None or old is None:
        return new

    def blend(after: Tensor, before: Tensor, share: Tensor) -> Tensor:
        return share * before + (1 - share) * after

    return map_state(blend, new, old, noise.zone)


def noisy_step(
    cell: Any, weights: Any, from_input: Tensor, state: State, noise: Noise | None
) -> tuple[State, tuple[Tensor, ...]]:
    """A gated cell's step with the noise of that step; the cell sees only what is inside it."""
    inside = noise is not None and (noise.hidden is not None or noise.candidate is not None)
    new, gates = cell.step(weights, from_input, state, *([noise] if inside else []))
    return zoned(noise, state, new), gates


def noisy_coefficients(decay: Tensor, addend: Tensor, noise: Noise | None) -> tuple[Tensor, Tensor]:
    """a and b of `h = a * h' + b` with the noise of all steps, which is of that form again."""
    if noise is None:
        return decay, addend
    addend = kept(addend, noise.candidate)
    if noise.zone is None:
        return decay, addend
    return noise.zone + (1 - noise.zone) * decay, (1 - noise.zone) * addend


def settle(weights: Any, noise: Noise | None) -> tuple[Any, Noise | None]:
    """The weights with their factor, and what noise is left for the steps, None if there is none.

    Raises:
        ValueError: a factor that is not shaped as the weights are.
    """
    if noise is None:
        return weights, None
    if noise.weight_hh is not None:
        weight = weights.weight_hh
        _check_part(noise.weight_hh, [weight.shape], weight.dtype, "noise.weight_hh")
        weights = weights._replace(weight_hh=weights.weight_hh * noise.weight_hh)
        noise = noise._replace(weight_hh=None)
    return weights, None if all(part is None for part in noise) else noise


def check_noise(
    noise: Noise, steps: int, state: State, hidden: Sequence[int], candidate: Sequence[int | None]
) -> None:
    """Raise unless the noise fits a sequence of so many steps, whose states are as `state`.

    `hidden` and `candidate` are the shapes of what these factors are for; `settle` checks
    `weight_hh`.

    Raises:
        TypeError: something else than tensors in it, or a tensor for a tuple.
        ValueError: a shape, a dtype or a number of parts that does not fit.
    """
    dtype = first_tensor(state).dtype
    for name, shape in (("hidden", hidden), ("candidate", candidate)):
        if (factor := getattr(noise, name)) is not None:
            _check_part(factor, [shape, (steps, *shape)], dtype, f"noise.{name}")
    if noise.zone is not None:
        _check_zone(noise.zone, steps, state, "noise.zone")


def _check_zone(zone: State, steps: int, state: State, name: str) -> None:
    if isinstance(state, Tensor):
        _check_part(zone, [state.shape, (steps, *state.shape)], state.dtype, name)
        return
    if not isinstance(zone, (tuple, list)):
        raise TypeError(f"{name}: expected a tuple of {len(state)}, got {type(zone).__name__}")
    if len(zone) != len(state):
        raise ValueError(f"{name}: expected {len(state)} parts, got {len(zone)}")
    fields = getattr(state, "_fields", range(len(state)))
    for part, own, field in zip(zone, state, fields):
        _check_zone(part, steps, own, f"{name}.{field}")


def _check_part(part: Any, expected: Sequence[Any], dtype: torch.dtype, name: str) -> None:
    if not isinstance(part, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(part).__name__}")
    if tuple(part.shape) not in [tuple(shape) for shape in expected]:
        wanted = " or ".join(str(tuple(shape)) for shape in expected)
        raise ValueError(f"{name}: expected shape {wanted}, got {tuple(part.shape)}")
    check_dtype(part, dtype, name)
