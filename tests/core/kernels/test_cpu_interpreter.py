"""The interpreter of programs equals the compiled kernels, and raises where it cannot run one."""

import math

import pytest
import torch
from cell_table import CELLS, make_cell
from parity import F64, close, leaves, random, random_state

import seqcells
from seqcells.equations.catalogue import kernel_of
from seqcells.equations.recording import kernel_weights, program
from seqcells.kernels import cpu
from seqcells.kernels.cpu.compiler import NATIVE
from seqcells.kernels.cpu.encoding import KINDS, MEANS, REGISTERS
from seqcells.recurrence import operators

T, B, I, H = 9, 4, 3, 21  # noqa: E741
LENGTHS = [9, 0, 3, 7]
PROGRAMS = [kind for kind in CELLS if kind != "lstm_proj"]

pytestmark = pytest.mark.skipif(
    cpu.unavailable() is not None, reason=f"no native code here: {cpu.unavailable()}"
)


def compute(kernel, tensors, parts, noise, steps):
    inputs, *tensors = [None if t is None else t.clone().requires_grad_() for t in tensors]
    state, weights, fresh = tensors[:parts], tensors[parts : parts + 6], tensors[parts + 6 :]
    results = operators.recurrence(kernel, inputs, state, *weights, fresh, *noise, *steps, False)
    torch.manual_seed(1)
    torch.autograd.backward(results, [torch.randn_like(part) for part in results])
    return [*results, *(part.grad for part in (inputs, *tensors) if part is not None)]


@pytest.mark.parametrize("units", [5, 64, 100])
@pytest.mark.parametrize("form", ["padded", "resets"])
@pytest.mark.parametrize("kind", PROGRAMS)
def test_results_and_gradients_equal_the_compiled_kernel(kind, form, units):
    cell = make_cell(kind, I, units)
    kernel = cell.built_in_kernel()
    state = leaves(random_state(cell, B))
    weights = [
        None if part is None else part.detach()
        for part in kernel_weights(kernel_of(kernel), cell, cell.weights())
    ]
    tensors = [random(T, B, I), *state, *weights]
    noise, steps = (None, None, []), (None, None, None, False)
    if form == "resets":
        drop = torch.rand(T, B, units, dtype=F64) if kernel_of(kernel).takes_drop else None
        noise = (None, drop, [torch.rand(B, units, dtype=F64) for _ in state])
        steps = (torch.tensor(LENGTHS), None, torch.rand(T, B) < 0.3, True)
        tensors += leaves(random_state(cell, B))
    names = (str(program(cell)), kernel)
    close(*(compute(name, tensors, len(state), noise, steps) for name in names))


@pytest.mark.parametrize("instructions", range(len(cpu.library.instruction_sets())))
def test_every_instruction_set_equals_the_compiled_kernel(instructions, monkeypatch):
    monkeypatch.setattr(cpu.library, "variant", instructions)
    for kind in ("lstm", "layer_norm_gru", "min_lstm"):
        test_results_and_gradients_equal_the_compiled_kernel(kind, "resets", 21)


def test_the_encoding_equals_the_one_of_the_native_code():
    source = (NATIVE / "interpreter.hpp").read_text()

    def names(enum):
        body = source.split(f"enum {enum} {{")[1].split("}")[0]
        return [name.strip().lower() for name in body.split(",")]

    shown = {"p": "parameter"}
    assert names("Kind") == [*(shown.get(kind, kind) for kind in KINDS), "kinds"]
    assert f"REGISTERS = {REGISTERS}, MEANS = {MEANS};" in source


class Normed(seqcells.GatedCell):
    """Layer normalisation, and a mean over the row."""

    gates = ("first", "second")

    def activate(self, from_input, from_hidden, state):
        sums = from_input + from_hidden
        normed = torch.nn.functional.layer_norm(sums, sums.shape[-1:])
        first, second = normed.chunk(2, dim=-1)
        new = first.tanh() * state.square().mean(-1, keepdim=True).add(1).rsqrt() + second
        return new, (first, second)


class CompiledNormed(Normed, compile=True):
    pass


@pytest.mark.parametrize("kind", [Normed, CompiledNormed])
def test_means_over_a_row_equal_the_loop(kind):
    check(kind(I, H, dtype=F64), random(T, B, I))


def check(cell, inputs):
    """Compare the kernel with the readable loop."""
    recurrent, found = seqcells.Recurrent(cell), []
    for name in ("cpu", "reference"):
        recurrent.zero_grad()
        with seqcells.backend(name):
            outputs, final = recurrent(inputs, lengths=LENGTHS)
        (outputs.square().sum() + final.sum()).backward()
        found.append([outputs, *(parameter.grad for parameter in recurrent.parameters())])
    close(*found)


FACTOR = 0.5


class Reading(seqcells.GatedCell):
    """Equations that depend on a global."""

    gates = ("only",)

    @staticmethod
    def activate(from_input, from_hidden, state):
        new = torch.tanh(FACTOR * (from_input + from_hidden))
        return new, (new,)


def test_equations_are_traced_again_when_a_global_changes(monkeypatch):
    recurrent, inputs = seqcells.Recurrent(Reading(I, H, dtype=F64)), random(T, B, I)
    before = recurrent(inputs)[0]
    monkeypatch.setitem(globals(), "FACTOR", 0.25)
    after = recurrent(inputs)[0]
    assert not torch.equal(before, after)
    with seqcells.backend("reference"):
        close(after, recurrent(inputs)[0])


class Wide(seqcells.GatedCell):
    """Equations with more live values than registers."""

    gates = tuple(f"gate{n}" for n in range(200))

    def activate(self, from_input, from_hidden, state):
        gates = [gate.tanh() for gate in (from_input + from_hidden).chunk(200, dim=-1)]
        return (sum(gates) + state * math.prod(gates)).tanh(), tuple(gates)


class Squares(seqcells.GatedCell):
    """5,000 operations, none of them saved: the backward pass recomputes them all."""

    gates = ("only",)

    def activate(self, from_input, from_hidden, state):
        new = from_input + from_hidden
        for n in range(1666):
            new = new * new * (0.3 + n / 10_000) + state
        return new, (new,)


class Tanhs(Squares):
    """5,000 operations, a third of them saved."""

    def activate(self, from_input, from_hidden, state):
        new = from_input + from_hidden
        for _ in range(1666):
            new = torch.tanh(new) * 0.9 + state
        return new, (new,)


@pytest.mark.parametrize("kind", [Wide, Squares, Tanhs])
def test_more_values_than_registers_equal_the_loop(kind):
    cell = kind(I, H, dtype=F64)
    with torch.no_grad():
        cell.weight_hh *= 0.1  # keeps rounding from growing over the steps
    check(cell, 0.1 * random(T, B, I))


@pytest.mark.parametrize("count", [5, 8, 11])
def test_any_number_of_gates_equals_the_loop(count):
    class Many(seqcells.GatedCell):
        gates = tuple(f"gate{n}" for n in range(count))

        def activate(self, from_input, from_hidden, state):
            gates = (from_input + from_hidden.tanh()).chunk(count, dim=-1)
            total = sum((n + 1) * gate for n, gate in enumerate(gates)) / count**2
            return total.tanh() + 0.5 * state, gates

    check(Many(I, H, dtype=F64), random(T, B, I))


class ManyMeans(Wide):
    """Equations with more means over a row than the interpreter holds."""

    def activate(self, from_input, from_hidden, state):
        gates = (from_input + from_hidden).chunk(200, dim=-1)
        return sum(gate - gate.mean(-1, keepdim=True) for gate in gates), gates


class Softened(seqcells.GatedCell):
    gates = ("only",)

    @staticmethod
    def activate(from_input, from_hidden, state):
        new = torch.softmax(from_input + from_hidden, dim=-1)
        return new, (new,)


class Detached(seqcells.GatedCell):
    gates = ("only",)

    @staticmethod
    def activate(from_input, from_hidden, state):
        with torch.no_grad():
            old = 0.5 * state
        new = torch.tanh(from_input + from_hidden + old)
        return new, (new,)


class Stepping(Softened):
    def step(self, weights, from_input, state):
        return super().step(weights, from_input, state)


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (Softened, "_softmax"),
        (Stepping, "overrides step"),
        (Detached, "turns gradients off"),
        (ManyMeans, "cannot be interpreted: expected at most 32 means.*compile=True"),
    ],
)
def test_an_unsupported_cell_runs_as_the_loop_and_a_named_backend_raises(cell, reason):
    recurrent = seqcells.Recurrent(cell(I, H))
    recurrent(torch.randn(T, B, I))
    with seqcells.backend("cpu"), pytest.raises(RuntimeError, match=reason):
        recurrent(torch.randn(T, B, I))
