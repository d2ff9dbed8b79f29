"""Random masks and factors of a sequence, drawn before it runs and passed with its inputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqcells.compatibility import replace
from seqcells.state import State, check_dtype, first_tensor, map_state
from seqcells.validation import check_step


class Noise(NamedTuple):
    """Factors and mixing weights of one sequence. Fields that are None have no effect.

    A tensor applies to the whole sequence, or has time as its first dimension. The layout is
    always time first and batched, whatever the layout of the inputs.

    Attributes:
        hidden: `(B, R)` or `(T, B, R)`, factor on the hidden state as the recurrent product reads
            it, and on the value in its place in late products. R is H, or P with a projection.
            Other reads of the state, such as `z * h'` in the GRU, are not affected.
        candidate: `(B, H)` or `(T, B, H)`, factor on a cell's candidate where it enters the state.
        zone: a structure like the state, with tensors `(B, ...)` or `(T, B, ...)`: the share of
            the old value in `new = share * old + (1 - share) * new`.
        weight_hh: factor on the recurrent weights, with their shape.
    """

    hidden: Tensor | None = None
    candidate: Tensor | None = None
    zone: State = None
    weight_hh: Tensor | None = None

    def at(self, step: int, state: State) -> Noise:
        """Return the noise of step `step`. `state` tells the ranks of the state's tensors."""

        def pick(value: Tensor, rank: int) -> Tensor:
            return value[step] if value.dim() > rank else value

        fields = zip(self, _ranks(state))
        return Noise(
            *(None if value is None else map_state(pick, value, rank) for value, rank in fields)
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> Noise:
        """Return a noise with `function` applied to each tensor."""
        return Noise(*(part if part is None else map_state(function, part) for part in self))

    def combine(self, other: Noise) -> Noise:
        """Combine two noises: factors multiply, and shares s and t become `s + t - s * t`."""

        def union(share: Tensor, other_share: Tensor) -> Tensor:
            return 1 - (1 - share) * (1 - other_share)

        def merge(left: State, right: State, function: Callable[..., Tensor]) -> State:
            if left is None or right is None:
                return right if left is None else left
            return map_state(function, left, right)

        functions: list[Any] = [Tensor.mul, Tensor.mul, union, Tensor.mul]  # in field order
        return Noise(*map(merge, self, other, functions))

    def carry_over(self, drawn: Noise, state: State) -> Noise:
        """Return `drawn`, the noise of the next steps, with the per-sequence tensors of this one.

        `state` is a state of the sequence. Its ranks tell which tensors have no time dimension.
        """

        def select(old: Tensor, rank: int, new: Tensor) -> Tensor:
            return new if old.dim() > rank else old

        fields = zip(self, _ranks(state), drawn)
        return Noise(
            *(
                new if old is None or new is None else map_state(select, old, rank, new)
                for old, rank, new in fields
            )
        )

    def beside(self, other: Noise) -> Noise:
        """Old name of `combine`."""
        warnings.warn(_RENAMED.format("beside", "combine"), DeprecationWarning, stacklevel=2)
        return self.combine(other)

    def carried(self, drawn: Noise, state: State) -> Noise:
        """Old name of `carry_over`."""
        warnings.warn(_RENAMED.format("carried", "carry_over"), DeprecationWarning, stacklevel=2)
        return self.carry_over(drawn, state)


_RENAMED = "Noise.{} is deprecated; use Noise.{}"


def _ranks(state: State) -> tuple[Any, ...]:
    """Return the rank of each field of a noise without the time dimension."""
    return 2, 2, None if state is None else map_state(Tensor.dim, state), 2


def scale_hidden(hidden: Tensor, noise: Noise | None) -> Tensor:
    """Return the hidden state times `noise.hidden`, as the recurrent product reads it."""
    return hidden if noise is None or noise.hidden is None else hidden * noise.hidden


def scale_candidate(candidate: Tensor, drop: Tensor | None = None) -> Tensor:
    """Return the candidate times the factor `drop`, as it enters the state."""
    return candidate if drop is None else candidate * drop


def drop_args(noise: Noise | None) -> tuple[Tensor, ...]:
    """Return the optional fourth argument of `activate`, the candidate's factor, as a tuple."""
    return () if noise is None or noise.candidate is None else (noise.candidate,)


def apply_zoneout(noise: Noise | None, old: State, new: State) -> State:
    """Return `share * old + (1 - share) * new`, share from `noise.zone`; `new` if old is None."""
    if noise is None or noise.zone is None or old is None:
        return new

    def blend(after: Tensor, before: Tensor, share: Tensor) -> Tensor:
        return share * before + (1 - share) * after

    return map_state(blend, new, old, noise.zone)


def step_with_noise(
    cell: Any,
    weights: Any,
    from_input: Tensor,
    state: State,
    noise: Noise | None,
    validated: bool = False,
) -> tuple[State, tuple[Tensor, ...]]:
    """Compute a gated cell's step with the noise of that step.

    The cell gets the noise only if it applies to the inside of the step: the method `step` of a
    subclass need not take the argument. `validated` states that an earlier step of the same call
    has passed `check_step`: only the types are compared then.

    Raises:
        TypeError, ValueError: those of `check_step`.
    """
    if noise is None:
        result = cell.step(weights, from_input, state)
    else:
        inside = noise.hidden is not None or noise.candidate is not None
        result = cell.step(weights, from_input, state, *([noise] if inside else []))
    valid = validated and type(result) is tuple and len(result) == 2
    if not valid or type(result[0]) is not type(state):
        result = check_step(cell, result, state, from_input.shape[0])
    if noise is None:
        return result
    new, gates = result
    return apply_zoneout(noise, state, new), gates


def coefficients_with_noise(
    decay: Tensor, addend: Tensor, noise: Noise | None
) -> tuple[Tensor, Tensor]:
    """Return a and b of `h = a * h' + b` with the noise of all steps applied."""
    if noise is None:
        return decay, addend
    addend = scale_candidate(addend, noise.candidate)
    if noise.zone is None:
        return decay, addend
    return noise.zone + (1 - noise.zone) * decay, (1 - noise.zone) * addend


def apply_weight_factor(weights: Any, noise: Noise | None) -> tuple[Any, Noise | None]:
    """Multiply the recurrent weights by `noise.weight_hh`.

    Returns:
        The weights, and the rest of the noise, None if it is empty.

    Raises:
        ValueError: the factor's shape or dtype differs from the weights'.
    """
    if noise is None:
        return weights, None
    if noise.weight_hh is not None:
        weight = weights.weight_hh
        _check_part(noise.weight_hh, [weight.shape], weight.dtype, "noise.weight_hh")
        weights = replace(weights, weight_hh=weights.weight_hh * noise.weight_hh)
        noise = replace(noise, weight_hh=None)
    return weights, None if all(part is None for part in noise) else noise


def check_noise(
    noise: Noise, steps: int, state: State, hidden: Sequence[int], candidate: Sequence[int | None]
) -> None:
    """Validate the noise of a sequence with this number of steps and states like `state`.

    `hidden` and `candidate` are the expected shapes of these factors without time.
    `apply_weight_factor` validates `weight_hh`.

    Raises:
        TypeError: a value that is not a tensor, or a tensor in place of a tuple.
        ValueError: a wrong shape, dtype or number of parts.
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
    fields = getattr(type(state), "_fields", range(len(state)))
    for part, own, field in zip(zone, state, fields):
        _check_zone(part, steps, own, f"{name}.{field}")


def _check_part(part: Any, expected: Sequence[Any], dtype: torch.dtype, name: str) -> None:
    if not isinstance(part, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(part).__name__}")
    if tuple(part.shape) not in [tuple(shape) for shape in expected]:
        wanted = " or ".join(str(tuple(shape)) for shape in expected)
        raise ValueError(f"{name}: expected shape {wanted}, got {tuple(part.shape)}")
    check_dtype(part, dtype, name)
