"""The slots of a step: the sums that it reads, one block of H units each."""

from __future__ import annotations

import functools
from typing import NamedTuple

from seqcells.equations.program import CACHE_SIZE, Program


class Slots(NamedTuple):
    """The sums that a step reads, as gates whose products each sum contains.

    Attributes:
        separate: gates with one slot per product.
        shared: gates that only add their two products, with one slot for the sum.
        input_only: gates without a product with W_hh.
        hidden_only: gates without a product with the input.
        stages: the gates of each product with W_hh, in the order of their slots, which are
            adjacent: first those that multiply the hidden state, then each stage of late products.
    """

    separate: tuple[int, ...] = ()
    shared: tuple[int, ...] = ()
    input_only: tuple[int, ...] = ()
    hidden_only: tuple[int, ...] = ()
    stages: tuple[tuple[int, ...], ...] = ((),)

    @property
    def total(self) -> int:
        """The number of slots."""
        return len(self.inputs) + len(self.unshared)

    @property
    def inputs(self) -> tuple[int, ...]:
        """The gates of the slots with an input product, which come first."""
        return self.separate + self.shared + self.input_only

    @property
    def hidden(self) -> tuple[int, ...]:
        """The gates of the slots with a hidden product, which come last."""
        return self.shared + self.unshared

    @property
    def unshared(self) -> tuple[int, ...]:
        """The gates of the slots that hold a hidden product alone."""
        order = [gate for stage in self.stages for gate in stage]
        return tuple(sorted(self.separate + self.hidden_only, key=order.index))

    def of(self, kind: str, gate: int) -> int:
        """Return the slot of `x<gate>` or `h<gate>`."""
        if kind == "x":
            return self.inputs.index(gate)
        return self.total - len(self.hidden) + self.hidden.index(gate)

    def ranges(self) -> list[tuple[int, int]]:
        """Return the first slot and the number of slots of each of `stages`."""
        return [(self.of("h", stage[0]) if stage else 0, len(stage)) for stage in self.stages]


@functools.lru_cache(maxsize=CACHE_SIZE)
def slots_of(program: Program) -> Slots:
    """Return the slots of a program: shared if every use adds both products of the gate."""
    gates = range(program.gates)
    if not program.hidden:
        return Slots(input_only=tuple(gates))
    products = {name: f"h{gate}" for gate, name in product_names(program).items()}
    unshared = {f"{gate}" for gate in range(program.inputs, program.gates)}
    for operation, *operands in program.values:
        names = [products.get(name, name) for name in operands]
        if operation == "product":
            del names[0]
        read = {name[1:] for name in names if name[0] in "xh"}
        kinds = sorted(name[0] for name in names)
        if operation != "add" or len(read) != 1 or kinds != ["h", "x"]:
            unshared |= read
    results = [products.get(name, name) for name in program.results]
    unshared |= {name[1:] for name in results if name[0] in "xh"}
    late = [stage.gates for stage in program.stages]
    early = gates[: program.early]
    stages = [tuple(sorted(s, key=lambda g: (str(g) in unshared, g))) for s in (early, *late)]
    if late:  # a stage with both kinds of slots could not have adjacent ones
        for stage in stages:
            if any(str(gate) in unshared for gate in stage):
                unshared |= {str(gate) for gate in stage}
    separate = tuple(gate for gate in range(program.inputs) if str(gate) in unshared)
    shared = tuple(gate for stage in stages for gate in stage if str(gate) not in unshared)
    hidden_only = tuple(range(program.inputs, program.gates))
    return Slots(separate, shared, (), hidden_only, tuple(stages))


def product_names(program: Program) -> dict[int, str]:
    """Return the names of the late products by gate."""
    return {
        int(value[1][1:]): f"v{n}"
        for n, value in enumerate(program.values)
        if value[0] == "product"
    }
