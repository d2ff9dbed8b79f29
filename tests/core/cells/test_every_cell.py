"""Every built-in cell: equations, gradients, parameters, state dicts and errors."""

import re

import pytest
import torch
from cell_table import CELLS, make_cell, make_random
from pairwise import pairs_of
from parity import F64, close, form, leaves, random, random_state, same, some_resets

import seqcells
from seqcells import Recurrent, Stack, trace

T, B, I, H = 6, 3, 4, 5  # noqa: E741
LENGTHS = [4, 6, 0]

KINDS = pytest.mark.parametrize("kind", CELLS)
BIAS = pytest.mark.parametrize("bias", [True, False], ids=["bias", "no_bias"])


def column(tensor):
    return tensor.detach().reshape(-1, 1).numpy()


def published(kind, cell, inputs, state, resets, reverse):
    """Run each row by the equations in NumPy; yield its number, step, states and gates."""
    P = {
        name: value.detach().numpy() if value.dim() == 2 else column(value)
        for name, value in cell.named_parameters()
    }
    fresh = [column(part) for part in leaves(make_cell(kind, I, H).initial_state(1))]
    for b, end in enumerate(LENGTHS):
        now = [column(part[b]) for part in leaves(state)]
        for t in reversed(range(end)) if reverse else range(end):
            if resets[t, b]:
                now = fresh
            now, gates = CELLS[kind].equations(P, tuple(now), column(inputs[t, b]))
            yield b, t, now, gates


def agree(found, expected):
    close(found, torch.from_numpy(expected[:, 0]))


@pairs_of(
    kind=list(CELLS),
    bias={"bias": True, "no_bias": False},
    reverse={"forward": False, "reverse": True},
    each_backend=["reference", "auto"],
)
def test_states_and_gates_equal_the_published_equations(each_backend, kind, bias, reverse):
    """With lengths and resets; `trace` returns what `Recurrent` computes."""
    cell = make_random(kind, I, H, bias=bias)
    run, resets = Recurrent(cell, reverse=reverse), some_resets(T, B)
    inputs, state = random(T, B, I), random_state(cell, B)
    traced = trace(run, inputs, state, LENGTHS, resets)
    outputs, final = run(inputs, state, LENGTHS, resets)
    last = dict(enumerate(zip(*leaves(state))))
    for b, t, now, gates in published(kind, cell, inputs, state, resets, reverse):
        assert list(traced.gates) == list(cell.gates) == list(gates)
        for name, gate in gates.items():
            agree(traced.gates[name][t, b], gate)
        for part, expected in zip(leaves(traced.states), now, strict=True):
            agree(part[t, b], expected)
        agree(outputs[t, b], now[0])
        last[b] = [torch.from_numpy(part[:, 0]) for part in now]
    for b, end in enumerate(LENGTHS):
        close([part[b] for part in leaves(final)], list(last[b]))
        for part in (outputs, *leaves(traced.states), *traced.gates.values()):
            assert not part[end:, b].any()
    close([traced.outputs, *leaves(traced.final_state)], [outputs, *leaves(final)])


@BIAS
@KINDS
def test_one_step_equals_recurrent(kind, bias):
    """With a batch, without one, and from the initial state when none is given."""
    cell = make_random(kind, I, H, bias=bias)
    inputs, state = random(B, I), random_state(cell, B)
    outputs, _ = Recurrent(cell)(inputs.unsqueeze(0), state)
    found = cell(inputs, state)
    close(cell.output(found), outputs[0])
    one = form(state, [part[1] for part in leaves(state)])
    close(leaves(cell(inputs[1], one)), [part[1] for part in leaves(found)])
    same(leaves(cell(inputs)), leaves(cell(inputs, cell.initial_state(B))))
    assert type(found) is type(cell.initial_state(B))


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
@KINDS
def test_gradients_equal_finite_differences(kind, check):
    """For inputs, initial states and every parameter, in both directions, with resets."""
    cell = make_random(kind, 2, 3 if kind.startswith("layer_norm") else 2, **small(kind))
    stack, state = Stack([(cell, cell)]), leaves(random_state(cell, 2))
    names = {name: parameter.detach() for name, parameter in cell.named_parameters()}
    resets = torch.tensor([[0, 0], [0, 1], [0, 0]], dtype=torch.bool)

    def call(inputs, *rest):
        hx, values = form(cell.initial_state(2), rest[: len(state)]), rest[len(state) :]
        parameters = {
            f"layers.0.{number}.cell.{name}": value
            for number in (0, 1)
            for name, value in zip(names, values)
        }
        arguments = (inputs, [(hx, hx)], [3, 2], resets)
        outputs, final = torch.func.functional_call(stack, parameters, arguments)
        return outputs, *leaves(final)

    points = [random(3, 2, 2), *state, *names.values()]
    points = [point.requires_grad_() for point in points]
    assert check(call, points, fast_mode=True)


def small(kind):
    return {"proj_size": 1} if kind == "lstm_proj" else {}


@BIAS
@KINDS
def test_state_dicts_carry_every_parameter(kind, bias):
    cell, other = make_random(kind, bias=bias), make_random(kind, bias=bias)
    inputs, state = random(B, I), random_state(cell, B)
    assert not torch.equal(cell.output(cell(inputs, state)), other.output(other(inputs, state)))
    other.load_state_dict(cell.state_dict(), strict=True)
    same(leaves(other(inputs, state)), leaves(cell(inputs, state)))
    assert list(cell.state_dict()) == [name for name, _ in cell.named_parameters()]
    additive = [name for name in cell.state_dict() if name.startswith(("bias", "shift"))]
    assert bool(additive) == bias


@KINDS
def test_parameters_are_drawn_from_the_seed(kind):
    torch.manual_seed(1)
    cell, again, drawn = make_cell(kind), make_cell(kind), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        again.reset_parameters()
        drawn.append([parameter.detach().clone() for parameter in again.parameters()])
    same(drawn[0], list(cell.parameters()))
    assert not torch.equal(drawn[0][0], drawn[1][0])
    assert all(parameter.isfinite().all() for parameter in cell.parameters())


@KINDS
def test_initial_values_equal_torchs(kind):
    """Except for gains, the shift of a norm, and IndRNN's recurrent weights."""
    for name, parameter in make_cell(kind, 4, 100).named_parameters():
        low, high = -0.1, 0.1
        if name.startswith("gain"):
            assert parameter.eq(1).all()
        elif name.startswith("shift"):
            assert not parameter.any()
        else:
            if kind.startswith("indrnn") and name == "weight_hh":
                low, high = 0, 1
            assert low <= parameter.min() < low + 0.1 * (high - low)
            assert high - 0.1 * (high - low) < parameter.max() <= high


@KINDS
def test_the_parameter_count_equals_the_documented_one(kind):
    cell, documented = make_cell(kind, I, H), None
    for base in type(cell).__mro__:
        documented = documented or re.search(r"Parameter count: `(.+?)`", base.__doc__ or "")
    count = CELLS[kind].count or documented.group(1)
    known = {"I": I, "H": H, "G": len(cell.gates), "depth": getattr(cell, "depth", 0)}
    assert sum(parameter.numel() for parameter in cell.parameters()) == eval(count, known)


@BIAS
@KINDS
def test_repr_makes_the_same_cell(kind, bias):
    cell = make_cell(kind, bias=bias)
    again = eval(repr(cell), {**vars(seqcells), "relu": "relu", "tanh": "tanh"})
    assert type(again) is type(cell)
    assert repr(again) == repr(cell)
    again.double().load_state_dict(cell.state_dict(), strict=True)
    inputs, state = random(B, I), random_state(cell, B)
    same(leaves(again(inputs, state)), leaves(cell(inputs, state)))


@KINDS
def test_states_and_results_have_the_dtype_and_device(kind):
    cell = make_cell(kind)
    state = cell.initial_state(3)
    zero = leaves(state)[:-1] if kind == "slstm" else leaves(state)  # all but the stabilizer
    assert not any(part.any() for part in zero)
    assert all(part.dtype == F64 for part in leaves(state))
    other = cell.initial_state(2, device="meta", dtype=torch.float16)
    assert all(part.is_meta and part.dtype == torch.float16 for part in leaves(other))
    assert all(parameter.is_meta for parameter in make_cell(kind, device="meta").parameters())
    inputs = random(T, B, I)
    expected = Recurrent(cell)(inputs, lengths=LENGTHS)
    found = Recurrent(cell.float())(inputs.float(), lengths=LENGTHS)
    for one, exact in zip(leaves(found), leaves(expected)):
        assert one.dtype == torch.float32
        close(one.double(), exact, 1e-5)


@KINDS
def test_bad_input_raises(kind):
    cell = make_cell(kind)
    for call, inputs in ((cell, random(B, I)), (Recurrent(cell), random(T, B, I))):
        with pytest.raises(ValueError, match="expected 4 features, got 3"):
            call(inputs[..., :3])
        with pytest.raises(ValueError, match=r"expected torch.float64.* got torch.float32"):
            call(inputs.float())
        state = cell.initial_state(B)
        for error, words, wrong in (
            (ValueError, r"expected shape .* got", cell.initial_state(B + 1)),
            (ValueError, r"expected torch.float64", cell.initial_state(B, dtype=torch.float32)),
            (TypeError, r"expected a .* got", [state] if torch.is_tensor(state) else state[0]),
        ):
            with pytest.raises(error, match=words):
                call(inputs, wrong)


@KINDS
def test_bad_sizes_raise(kind):
    with pytest.raises(ValueError, match=r"hidden_size: expected .* got 0"):
        make_cell(kind, 4, 0)
    with pytest.raises(ValueError, match=r"input_size: expected .* got -1"):
        make_cell(kind, -1, 5)
    with pytest.raises(TypeError, match=r"hidden_size: expected .* got float"):
        make_cell(kind, 4, 5.0)


@pytest.mark.parametrize("kind", ["rnn_tanh", "indrnn_relu"])
def test_an_unknown_nonlinearity_raises(kind):
    with pytest.raises(ValueError, match=r"nonlinearity: expected .* got 'selu'"):
        make_cell(kind, nonlinearity="selu")
