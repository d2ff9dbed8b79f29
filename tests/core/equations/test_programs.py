"""Programs from `activate`: their results, gradients and generated kernels."""

import pytest
import torch
from cell_table import CELLS, Highway, make_cell
from parity import F64, close, random

import seqcells
from seqcells.cells import table
from seqcells.cells.base import GatedCell
from seqcells.cells.write_kernels import GENERATED_FILES
from seqcells.equations.catalogue import NUMBERS, RENAMED, kernel_of
from seqcells.equations.gradient import differentiate
from seqcells.equations.program import Program, UntraceableError
from seqcells.equations.readable import ProgramEquations, equations_of
from seqcells.equations.recording import kernel_weights, program

H = 4
GENERATED = [kind for kind in CELLS if kind != "lstm_proj"]

HIGHWAY = """gates 2 hidden 1 states 1 parameters 0
v0 = add x0 h0
v1 = sigmoid v0
v2 = mul s0 v1
v3 = add x1 h1
v4 = tanh v3
v5 = sub 1.0 v1
v6 = mul v4 v5
v7 = add v2 v6
return v7"""


def test_the_generated_kernels_are_up_to_date():
    """Run `make kernels` after a change of a cell's equations or of the generator."""
    for path, text in GENERATED_FILES.items():
        assert path.read_text() == text()


def test_every_public_cell_is_in_the_table():
    public = {getattr(seqcells, name) for name in seqcells.__all__}
    cells = {kind for kind in public if isinstance(kind, type) and issubclass(kind, GatedCell)}
    assert cells - {GatedCell, seqcells.LinearCell} == {
        entry.cell for entry in table.CELLS.values()
    }


def test_the_catalogue_and_the_table_have_the_same_kernels():
    assert set(NUMBERS) == set(table.EQUATIONS)
    for name, cell in table.EQUATIONS.items():
        assert cell.built_in_kernel() == name
        assert kernel_of(name).gates == len(cell.gates)


@pytest.mark.parametrize("old", RENAMED)
def test_a_kernel_is_found_by_its_old_name(old):
    assert kernel_of(old) == kernel_of(RENAMED[old])
    assert (
        equations_of(kernel_of(f"triton {old}")).program
        == equations_of(kernel_of(RENAMED[old])).program
    )


def test_a_kernel_is_linear_where_its_cell_is():
    for name, cell in table.EQUATIONS.items():
        assert equations_of(kernel_of(name)).linear == cell.linear
    assert equations_of(kernel_of("min_gru")).linear


def test_a_program_has_no_superfluous_operations():
    assert str(program(Highway(3, H))) == HIGHWAY


@pytest.mark.parametrize("kind", GENERATED)
def test_a_program_equals_its_cell(kind):
    cell = make_cell(kind, 3, H)
    found = program(cell)
    assert Program.parse(str(found)) == found
    weights = kernel_weights(kernel_of(cell.built_in_kernel()), cell, cell.weights())
    inputs, state = random(2, 3), cell.initial_state(2)
    state = type(state)(*map(torch.randn_like, state)) if isinstance(state, tuple) else random(2, H)
    from_input = cell.from_inputs(weights, inputs)
    close(ProgramEquations(found).step(weights, from_input, state)[0], cell(inputs, state))


@pytest.mark.parametrize("kind", GENERATED)
def test_the_gradient_of_a_program_equals_autograds(kind):
    found = program(make_cell(kind, 3, H))
    write, gradients = differentiate(found)
    names = list(gradients)
    inputs = {name: random(7).requires_grad_() for name in names}
    upstream = {f"g{n}": random(7) for n in range(found.states)} | {"d0": random(7)}
    # The weights of a late gate are a factor here, and its name is that of the bias.
    late = {f"h{gate}": random(7) for stage in found.stages for gate in stage.gates}
    multiply = {name: lambda value, name=name: late[name] * value + inputs[name] for name in late}
    results = found.run(inputs | upstream | multiply)
    expected = torch.autograd.grad(
        results, list(inputs.values()), list(upstream.values())[:-1], allow_unused=True
    )
    sizes = found.gates, True, 0, 0, found.inputs
    whole = Program(*sizes, tuple(write.values), tuple(gradients.values()))
    by_operand = {f"e{n}": torch.zeros(7, dtype=F64) for n in range(len(found.stages))}
    for _ in range(len(found.stages) + 1):  # each stage reads the gradients of those after it
        computed = whole.run(inputs | upstream | multiply | by_operand)
        by_name = dict(zip(names, computed))
        for n, stage in enumerate(found.stages):
            parts = [late[f"h{gate}"] * by_name[f"h{gate}"] for gate in stage.gates]
            by_operand[f"e{n}"] = torch.stack(parts).sum(0)
    for name, ours, theirs in zip(names, computed, expected):
        assert (theirs is None) == (gradients[name] == "0.0")
        if theirs is not None:
            close(ours, theirs)


def own_cell(activate):
    return type("Own", (seqcells.GatedCell,), {"gates": ("a", "b"), "activate": activate})(3, H)


def simple(function):
    """Return a cell whose next state is `function(first gate, second gate, state)`."""

    def activate(self, from_input, from_hidden, state):
        first, second = (from_input + from_hidden).chunk(2, dim=-1)
        return function(first, second, state), (first, second)

    return own_cell(activate)


SAYABLE = {
    "relu": lambda a, b, s: torch.relu(a) + b * s,
    "silu": lambda a, b, s: torch.nn.functional.silu(a) - b,
    "leaky": lambda a, b, s: torch.nn.functional.leaky_relu(a, 0.2) / (1 + b * b) + s,
    "elu": lambda a, b, s: torch.nn.functional.elu(a) * s + b,
    "softplus": lambda a, b, s: torch.nn.functional.softplus(a) * s - b,
    "logsigmoid": lambda a, b, s: torch.nn.functional.logsigmoid(a) * s - b,
    "softsign": lambda a, b, s: a / (1 + abs(a)) + b - s,
    "clamp": lambda a, b, s: torch.clamp(a, -0.5, 0.7) + torch.clamp(b, min=0.1) * s,
    "hardtanh": lambda a, b, s: torch.nn.functional.hardtanh(a) - torch.exp(-b) * s,
    "maximum": lambda a, b, s: torch.maximum(a, b) * torch.minimum(a, s),
    "powers": lambda a, b, s: a**2 * 0.5 + b.square() - s**3 + 1 / (2 + a.tanh()),
    "norm": lambda a, b, s: torch.nn.functional.layer_norm(a * s, (H,)) + b,
    "norm of gates": lambda a, b, s: (
        torch.nn.functional.layer_norm(torch.cat((a, b), -1), (2 * H,))[..., H:] + s
    ),
    "shares of a row": lambda a, b, s: a.exp() / a.exp().sum(-1, keepdim=True) + b * s,
    "norm by the root of the mean square": lambda a, b, s: (
        s * (a.square().mean(-1, keepdim=True) + 1e-3).rsqrt() + (b * b + 1).sqrt()
    ),
    "parts": lambda a, b, s: torch.cat((a, b), -1)[:, H:] * 2 + s,
}


@pytest.mark.parametrize("name", SAYABLE)
def test_supported_operations_equal_their_cell(name):
    cell = simple(SAYABLE[name]).double()
    inputs, state = random(2, 3), random(2, H)
    weights = cell.weights()
    ours = ProgramEquations(program(cell)).step(weights, cell.from_inputs(weights, inputs), state)[
        0
    ]
    close(ours, cell(inputs, state))


def with_greatest(self, from_input, from_hidden, state):
    return from_input[..., :H] - from_input.amax(-1, keepdim=True), ()


def with_mean_of_the_batch(self, from_input, from_hidden, state):
    return from_input[..., :H] - state.mean(0, keepdim=True), ()


def with_narrow_mean(self, from_input, from_hidden, state):
    return from_input[..., :H] - state.mean(), ()


def with_choice(self, from_input, from_hidden, state):
    return (state if from_input.sum() > 0 else from_input[..., :H]), ()


def with_tensor(self, from_input, from_hidden, state):
    return state * torch.arange(H), ()


def with_dropout(self, from_input, from_hidden, state):
    return torch.nn.functional.dropout(from_input[..., :H], 0.5), ()


def with_half_a_gate(self, from_input, from_hidden, state):
    return torch.cat((from_input[..., : H // 2], from_hidden[..., : H // 2]), -1), ()


@pytest.mark.parametrize(
    ("activate", "reason"),
    [
        (with_greatest, "amax"),
        (with_mean_of_the_batch, "along the units"),
        (with_narrow_mean, "mean.default"),
        (with_choice, "sum.default"),
        (with_tensor, "arange"),
        (with_dropout, "empty_like"),
        (with_half_a_gate, "whole gates"),
    ],
)
def test_the_error_names_an_unsupported_operation(activate, reason):
    with pytest.raises(UntraceableError, match=reason):
        program(own_cell(activate))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lstm",
        HIGHWAY.replace("return v7", "return v8"),
        HIGHWAY.replace("sigmoid v0", "sigmoid v0 v0"),
        HIGHWAY.replace("tanh", "system"),
        HIGHWAY.replace("mul s0 v1", "mul s1 v1"),
        HIGHWAY.replace("1.0", "1.0;exit(0)"),
        HIGHWAY.replace("parameters 0", "parameters 0 inputs 3"),
        HIGHWAY.replace("states 1", "states 9"),
        HIGHWAY.replace("add x1 h1", "product x1 v2"),
        HIGHWAY.replace("add x1 h1", "product h0 v2"),
        HIGHWAY.replace("add x1 h1", "product h1 1.0"),
        HIGHWAY.replace("add x1 h1", "product h1 v4"),
        HIGHWAY.replace("add x1 h1", "product h1"),
    ],
)
def test_text_that_is_not_a_program_raises(text):
    assert Program.parse(HIGHWAY.replace("add x1 h1", "product h1 v2")).stages == (("v2", (1,)),)
    with pytest.raises(ValueError, match="expected the text of a program"):
        Program.parse(text)
