"""Late products: cells of a user and options of built-in cells, against plain loops."""

import copy
import pickle

import pytest
import torch
from parity import F64, agree, backends_agree, call_options, close, compute, leaves, random
from torch.nn.functional import linear

import seqcells
from seqcells import GatedCell, LEMCell, Recurrent, RHNCell, Stepper

T, B, I, H = 6, 3, 4, 5  # noqa: E741
LENGTHS = [4, 6, 0]


class ResetBefore(GatedCell):
    """The GRU as published, with a constant."""

    gates = ("reset", "update", "candidate")
    late_gates = ("candidate",)
    scale = 1.0

    def activate(self, from_input, from_hidden, state, *, multiply):
        from_reset, from_update, from_candidate = from_input.chunk(3, dim=-1)
        early = torch.cat([from_reset, from_update], dim=-1) + from_hidden
        reset, update = early.sigmoid().chunk(2, dim=-1)
        late = multiply(self.scale * reset * state, "candidate")
        candidate = torch.tanh(from_candidate + late)
        return (1 - update) * candidate + update * state, (reset, update, candidate)


class Chain(GatedCell):
    """Two stages. `a` to `c` have input products, `c` to `e` late ones, `c` has both."""

    gates = ("a", "b", "c", "d", "e")
    input_gates = gates[:3]
    late_gates = gates[2:]

    @staticmethod
    def activate(from_input, from_hidden, state, drop=None, *, multiply):
        a, b = (from_input[:, : 2 * from_input.shape[-1] // 3] + from_hidden).chunk(2, dim=-1)
        a, b = a.tanh(), b.sigmoid()
        e, c = multiply(a * state, "e", "c").chunk(2, dim=-1)
        c = torch.tanh(c * from_input[:, 2 * from_input.shape[-1] // 3 :])
        d = multiply(e + c, "d").sigmoid()
        new = c if drop is None else c * drop
        return b * state + d * new, (a, b, c, d, e)


class Mixed(GatedCell):
    """Sums and products in one stage, and a stage that could precede the one before it."""

    gates = ("a", "b", "c", "d", "e")
    late_gates = gates[2:]

    @staticmethod
    def activate(from_input, from_hidden, state, drop=None, *, multiply):
        x_a, x_b, x_c, x_d, x_e = from_input.chunk(5, dim=-1)
        h_a, h_b = from_hidden.chunk(2, dim=-1)
        a, b = torch.sigmoid(x_a + h_a), torch.tanh(x_b * h_b)
        c, d = multiply(b - b.mean(-1, keepdim=True), "c", "d").chunk(2, dim=-1)
        c, d = torch.tanh(x_c + c), x_d * d
        e = torch.sigmoid(x_e + multiply(a * state, "e"))
        new = c + d * e
        return a * state + (1 - a) * (new if drop is None else new * drop), (a, b, c, d, e)


CELLS = {"reset_before": ResetBefore, "chain": Chain, "mixed": Mixed}
KINDS = pytest.mark.parametrize("kind", CELLS)


def make(kind, **options):
    return CELLS[kind](I, H, dtype=F64, **options)


def blocks(cell, value):
    """Return `W value + b` of each gate, for any value."""
    return linear(value, cell.weight_hh, cell.bias_hh).chunk(len(cell.gates), dim=-1)


def reset_before_step(cell, x, h):
    x_reset, x_update, x_candidate = linear(x, cell.weight_ih, cell.bias_ih).chunk(3, dim=-1)
    reset, update, _ = blocks(cell, h)
    reset, update = (x_reset + reset).sigmoid(), (x_update + update).sigmoid()
    candidate = torch.tanh(x_candidate + blocks(cell, cell.scale * reset * h)[2])
    return update * h + (1 - update) * candidate


def chain_step(cell, x, h):
    x_a, x_b, x_c = linear(x, cell.weight_ih, cell.bias_ih).chunk(3, dim=-1)
    a, b = torch.tanh(x_a + blocks(cell, h)[0]), torch.sigmoid(x_b + blocks(cell, h)[1])
    operand = a * h
    c, e = torch.tanh(x_c * blocks(cell, operand)[2]), blocks(cell, operand)[4]
    d = torch.sigmoid(blocks(cell, e + c)[3])
    return b * h + d * c


def mixed_step(cell, x, h):
    x_a, x_b, x_c, x_d, x_e = linear(x, cell.weight_ih, cell.bias_ih).chunk(5, dim=-1)
    a, b = torch.sigmoid(x_a + blocks(cell, h)[0]), torch.tanh(x_b * blocks(cell, h)[1])
    operand = b - b.mean(-1, keepdim=True)
    c, d = torch.tanh(x_c + blocks(cell, operand)[2]), x_d * blocks(cell, operand)[3]
    e = torch.sigmoid(x_e + blocks(cell, a * h)[4])
    return a * h + (1 - a) * (c + d * e)


def rhn_step(cell, x, s):
    x_candidate, x_transform = linear(x, cell.weight_ih, cell.bias_ih).chunk(2, dim=-1)
    for layer in range(cell.depth):
        candidate, transform = blocks(cell, s)[2 * layer : 2 * layer + 2]
        if layer == 0:
            candidate, transform = candidate + x_candidate, transform + x_transform
        transform = transform.sigmoid()
        s = transform * candidate.tanh() + (1 - transform) * s
    return s


STEPS = {
    ResetBefore: reset_before_step,
    Chain: chain_step,
    Mixed: mixed_step,
    RHNCell: rhn_step,
}


def lem_loop(cell, inputs):
    y, z, outputs = inputs.new_zeros(B, H), inputs.new_zeros(B, H), []
    for x in inputs:
        x1, x2, xz, xy = linear(x, cell.weight_ih, cell.bias_ih).chunk(4, dim=-1)
        h1, h2, hz, _ = blocks(cell, y)
        p, q = cell.time_step * (x1 + h1).sigmoid(), cell.time_step * (x2 + h2).sigmoid()
        z = z + p * (torch.tanh(xz + hz) - z)
        y = y + q * (torch.tanh(xy + blocks(cell, z)[3]) - y)
        outputs.append(y)
    return torch.stack(outputs)


def loop(cell, inputs):
    """Return the outputs of the published equations."""
    if isinstance(cell, LEMCell):
        return lem_loop(cell, inputs)
    state, outputs = inputs.new_zeros(B, H), []
    for x in inputs:
        state = STEPS[type(cell)](cell, x, state)
        outputs.append(state)
    return torch.stack(outputs)


def equals_the_loop(cell):
    """Require equal outputs and gradients."""
    inputs, upstream = random(T, B, I).requires_grad_(), random(T, B, H)
    sources = [inputs, *cell.parameters()]
    outputs, expected = Recurrent(cell)(inputs)[0], loop(cell, inputs)
    close(outputs, expected)
    found, exact = (torch.autograd.grad(o, sources, upstream) for o in (outputs, expected))
    close(list(found), list(exact))


@KINDS
def test_a_users_cell_equals_a_plain_loop(each_backend, kind):
    equals_the_loop(make(kind))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (RHNCell, {"depth": 1}),
        (RHNCell, {"depth": 2}),
        (RHNCell, {"depth": 10}),
        (LEMCell, {"time_step": 0.3}),
    ],
    ids=str,
)
def test_options_without_a_built_in_kernel_equal_a_plain_loop(each_backend, kind, options):
    cell = kind(I, H, dtype=F64, **options)
    assert cell.kernel is None
    equals_the_loop(cell)


@KINDS
def test_backends_agree_with_lengths_resets_and_modifiers(kind):
    inputs, state = random(T, B, I), random(B, H)
    for reverse in (False, True):
        for options in call_options(T, LENGTHS).values():
            run = Recurrent(make(kind), reverse=reverse)
            backends_agree(run, inputs, state=state, **options)
    cell = seqcells.VariationalDropout(seqcells.DropConnect(make(kind), 0.4), 0.4)
    cell = seqcells.RecurrentDropout(cell, 0.4) if kind == "chain" else cell
    found = []
    for backend in ("cpu", "reference"):
        torch.manual_seed(1)
        found.append(compute(Recurrent(seqcells.Zoneout(cell, 0.4)), inputs, backend))
    agree(*found)


@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
@KINDS
def test_gradients_equal_finite_differences(kind, check):
    cell = CELLS[kind](2, 2, dtype=F64)
    names = dict(cell.named_parameters())

    def call(inputs, state, *values):
        values = {f"cell.{name}": value for name, value in zip(names, values)}
        return torch.func.functional_call(Recurrent(cell), values, (inputs, state))

    points = [random(3, 2, 2), random(2, 2), *names.values()]
    points = [point.detach().requires_grad_() for point in points]
    with seqcells.backend("auto" if check is torch.autograd.gradgradcheck else "cpu"):
        assert check(call, points, fast_mode=True)


def own(activate=None, **attributes):
    """Return a cell with the gates `a` and `b`; by default `b` is late."""

    def usual(from_input, from_hidden, state, *, multiply):
        late = multiply(state, "b")
        return torch.tanh(from_hidden + late), (from_hidden, late)

    activate = staticmethod(usual if activate is None else activate)
    known = {"gates": ("a", "b"), "late_gates": ("b",), "activate": activate}
    return type("Own", (GatedCell,), known | attributes)(I, H, dtype=F64)


@pytest.mark.parametrize("names", [("a",), ("other",), (), ("b", "a"), (1,)], ids=str)
def test_other_names_than_of_late_gates_raise(names):
    def activate(from_input, from_hidden, state, *, multiply):
        return multiply(state, *names)[:, :H], (state, state)

    message = r"multiply: expected names of late gates, of \('b',\), got .*multiply\(value, 'b'\)"
    with pytest.raises(ValueError, match=message):
        Recurrent(own(activate))(random(T, B, I))


def plain(from_input, from_hidden, state):
    return state, (state, state)


def without_self(from_hidden, state, *, multiply):
    return state, (state, state)


def with_multiply(from_input, from_hidden, state, *, multiply):
    return state, (state, state)


@pytest.mark.parametrize(
    ("activate", "attributes", "error", "message"),
    [
        (None, {"late_gates": ("a",)}, ValueError, r"Own.late_gates: expected the last of \('a', "),
        (None, {"late_gates": ("a", "b")}, ValueError, r"last of .* but not all, got \('a', 'b'\)"),
        (None, {"late_gates": ("c",)}, ValueError, r"last of .* but not all, got \('c',\)"),
        (None, {"late_gates": "b"}, TypeError, r"Own.late_gates: .* got 'b'; .*= \('b',\)"),
        (None, {"late_gates": None}, TypeError, r"late_gates: expected a tuple of names, got None"),
        (None, {"input_gates": ("b",)}, ValueError, r"Own.input_gates: expected the first of"),
        (None, {"input_gates": ()}, ValueError, r"input_gates: expected the first of .* got \(\)"),
        (None, {"input_gates": "a"}, TypeError, r"Own.input_gates: expected a tuple of names, got"),
        (plain, {}, TypeError, r"and multiply by name, .*; add the parameters \*, multiply"),
        (without_self, {}, TypeError, r"and multiply by name, .*; add self as the first parameter"),
        (with_multiply, {"late_gates": ()}, TypeError, r"; list the gates .* in late_gates"),
    ],
)
def test_a_wrong_definition_raises(activate, attributes, error, message):
    with pytest.raises(error, match=message):
        own(activate, **attributes)


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        (RHNCell, {"depth": 0}, ValueError, "depth: expected at least 1, got 0"),
        (RHNCell, {"depth": "3"}, TypeError, "depth: expected an integer, got str"),
        (LEMCell, {"time_step": 2}, ValueError, r"time_step: expected .* in \(0, 1\], got 2"),
        (LEMCell, {"time_step": 0}, ValueError, r"time_step: expected .* in \(0, 1\], got 0"),
        (LEMCell, {"time_step": "1"}, TypeError, "time_step: expected a number, got str"),
    ],
)
def test_a_wrong_option_raises(kind, options, error, message):
    with pytest.raises(error, match=message):
        kind(I, H, **options)


def twice(from_input, from_hidden, state, *, multiply):
    late = multiply(multiply(state, "b").tanh(), "b")
    return torch.tanh(from_input[:, :H] + from_hidden + late), (from_hidden, late)


def never(from_input, from_hidden, state, *, multiply):
    return torch.tanh(from_input[:, :H] + from_hidden), (from_hidden, from_input[:, H:])


def two_values(from_input, from_hidden, state, *, multiply):
    late = multiply(torch.cat([state, state], dim=-1)[:, 1 : H + 1], "b")
    return torch.tanh(from_input[:, :H] + from_hidden + late), (from_hidden, late)


def steps_of(activate, cell, x, h):
    x = linear(x, cell.weight_ih, cell.bias_ih)[:, :H] + blocks(cell, h)[0]
    if activate is twice:
        return torch.tanh(x + blocks(cell, blocks(cell, h)[1].tanh())[1])
    if activate is two_values:
        return torch.tanh(x + blocks(cell, h.roll(-1, dims=-1))[1])
    return torch.tanh(x)


@pytest.mark.parametrize(
    ("activate", "reason"),
    [
        (twice, r"multiply: expected each gate once, got \('b',\) again"),
        (never, r"to use a product of each late gate, of \('b',\), got 0"),
        (two_values, r"slices of whole gates"),
    ],
)
def test_unsupported_late_products_run_as_a_loop(activate, reason):
    cell, inputs = own(activate), random(T, B, I)
    outputs, state = Recurrent(cell)(inputs)
    expected = random(B, H) * 0
    for found, x in zip(outputs, inputs):
        expected = steps_of(activate, cell, x, expected)
        close(found, expected)
    close(state, expected)
    with pytest.raises(RuntimeError, match=reason), seqcells.backend("cpu"):
        Recurrent(cell)(inputs)


def test_more_than_16_stages_run_as_a_loop():
    cell = RHNCell(I, H, dtype=F64, depth=18)
    equals_the_loop(cell)
    with pytest.raises(RuntimeError, match=r"at most 16 .*, got 17"), seqcells.backend("cpu"):
        Recurrent(cell)(random(T, B, I))


def test_a_changed_number_is_recorded_again(each_backend):
    cell, lem = make("reset_before"), LEMCell(I, H, dtype=F64)
    for cell.scale, lem.time_step in ((1.0, 1.0), (0.5, 0.25), (1.0, 1.0)):
        equals_the_loop(cell)
        equals_the_loop(lem)


@KINDS
def test_a_copy_runs_on_its_own_weights(each_backend, kind):
    cell = make(kind)
    equals_the_loop(cell)
    copied = copy.deepcopy(cell)
    with torch.no_grad():
        copied.weight_hh.mul_(2)
    equals_the_loop(copied)
    equals_the_loop(cell)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (ResetBefore, {}),
        (Chain, {}),
        (RHNCell, {"depth": 2}),
        (LEMCell, {"time_step": 0.3}),
    ],
    ids=str,
)
def test_a_pickled_cell_runs_on_its_own_weights(each_backend, kind, options):
    cell = kind(I, H, dtype=F64, **options)
    equals_the_loop(cell)
    loaded = pickle.loads(pickle.dumps(cell))
    with torch.no_grad():
        loaded.weight_hh.mul_(2)
    equals_the_loop(loaded)
    equals_the_loop(cell)


@KINDS
def test_single_steps_equal_the_sequence(kind):
    recurrent, inputs = Recurrent(make(kind)), random(T, 1, I)
    expected, _ = recurrent(inputs)
    cell, stepper, state = recurrent.cell, Stepper(recurrent), None
    for x, outputs in zip(inputs, expected):
        state = cell(x, state)
        close(state, outputs)
        close(stepper(x), outputs)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("kind", "options"), [(Chain, {}), (RHNCell, {"depth": 2}), (LEMCell, {"time_step": 0.3})]
)
def test_quantized_weights_of_late_products_are_rounded(kind, options, dtype):
    """With the other weights zero, only late products differ, by the rounding of their weights."""
    run, inputs = Recurrent(kind(I, H, **options)), random(T, B, I, dtype=torch.float32)
    early = len(run.cell.gates) - len(run.cell.late_gates)
    with torch.no_grad():
        run.cell.weight_ih.zero_()
        run.cell.weight_hh[: early * H].zero_()
        rounded = seqcells.quantize(run, dtype)
        error = (rounded(inputs)[0] - run(inputs)[0]).abs().max()
    assert 1e-7 < error < 0.02


@pytest.mark.slow
@KINDS
def test_a_users_cell_compiles(kind):
    recurrent = Recurrent(make(kind))
    compiled = torch.compile(recurrent, fullgraph=True, backend="aot_eager")
    inputs = random(T, B, I).requires_grad_()
    sources, found = [inputs, *recurrent.parameters()], []
    for run in (recurrent, compiled):
        outputs, final = run(inputs, lengths=LENGTHS)
        grads = torch.autograd.grad((outputs.cos().sum() + final.sum()), sources)
        found.append([outputs, *leaves(final), *grads])
    close(*found)
