"""Layers equal torch's: outputs, final states and every gradient."""

from itertools import product

import pytest
import torch
from cell_table import LAYERS, H, I, make_cell, make_layers
from layer_parity import FORMS, B, T, assert_equals_torch, initial_state
from pairwise import pairs_of
from parity import F64, close, leaves, random

import seqcells

pytestmark = [
    pytest.mark.usefixtures("each_backend"),
    # torch's own float32 layer warns.
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]

DTYPES = {"f64": F64, "f32": torch.float32}


@pairs_of(
    kind=list(LAYERS),
    form=FORMS,
    batch_first={"time_first": False, "batch_first": True},
    hx={"hx": True, "no_hx": False},
    each_backend=["reference", "cpu"],
)
def test_every_form_of_input_equals_torch(kind, form, batch_first, hx):
    assert_equals_torch(
        kind, form, hx=hx, batch_first=batch_first, num_layers=2, bidirectional=True
    )


@pairs_of(
    kind=list(LAYERS),
    num_layers=[1, 2, 3],
    bidirectional={"one_way": False, "both_ways": True},
    bias={"bias": True, "no_bias": False},
    each_backend=["reference", "cpu"],
)
def test_every_depth_and_direction_equals_torch(kind, num_layers, bidirectional, bias):
    options = {"num_layers": num_layers, "bidirectional": bidirectional, "bias": bias}
    assert_equals_torch(kind, "padded", **options)
    assert_equals_torch(kind, "unsorted", **options)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", LAYERS)
def test_float32_errs_no_more_than_twice_torch(kind, form):
    assert_equals_torch(kind, form, dtype=torch.float32, num_layers=2, bidirectional=True)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", LAYERS)
def test_the_whole_grid(kind, form, dtype):
    for layers, ways, bias, first, hx in product((1, 2, 3), *[(False, True)] * 4):
        assert_equals_torch(
            kind,
            form,
            hx=hx,
            dtype=DTYPES[dtype],
            batch_first=first,
            num_layers=layers,
            bidirectional=ways,
            bias=bias,
        )


@pytest.mark.parametrize("kind", LAYERS)
def test_lengths_zero_the_padding_and_may_be_zero(kind):
    ours, _ = make_layers(kind, num_layers=2, bidirectional=True)
    inputs, hx = random(T, 3, I), initial_state(ours, 3, F64)
    inputs[2:, 2] = float("nan")
    inputs[:, 1] = float("inf")
    output, final = ours(inputs, hx, lengths=torch.tensor([6, 0, 2], dtype=torch.int32))
    assert not output[:, 1].any()
    assert not output[2:, 2].any()
    for before, after in zip(leaves(hx), leaves(final)):
        close(after[:, 1], before[:, 1])
    output.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in ours.parameters())


@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
@pytest.mark.parametrize("kind", LAYERS)
def test_resets_separate_sequences(kind, batch_first):
    """Two sequences end to end, the second from step 4, in one bidirectional layer."""
    ours, _ = make_layers(kind, bidirectional=True, batch_first=batch_first)
    first, second = random(4, B, I), random(2, B, I)
    forth = torch.zeros(T, B, dtype=torch.bool)
    forth[4] = True  # before step 4, running forward
    back = torch.zeros(T, B, dtype=torch.bool)
    back[3] = True  # before step 3, running backward
    inputs = torch.cat([first, second])
    half = ours.proj_size or ours.hidden_size

    def run(part, resets=None):
        if batch_first:
            part = part.transpose(0, 1)
            resets = None if resets is None else resets.transpose(0, 1)
        output, _ = ours(part, resets=resets)
        return output.transpose(0, 1) if batch_first else output

    expected = torch.cat([run(first), run(second)])
    close(run(inputs, forth)[..., :half], expected[..., :half])
    close(run(inputs, back)[..., half:], expected[..., half:])


@pytest.mark.parametrize("kind", LAYERS)
def test_resets_separate_unbatched_sequences(kind):
    ours, _ = make_layers(kind)
    inputs, resets = random(T, I), torch.tensor([0, 0, 1, 0, 1, 0], dtype=torch.bool)
    output, _ = ours(inputs, resets=resets)
    close(output, torch.cat([ours(part)[0] for part in inputs.split(2)]))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_equals_a_stack_of_cells(kind):
    ours, _ = make_layers(kind, num_layers=2, bidirectional=True)
    width = 2 * (ours.proj_size or H)
    cells = [make_cell(kind, size) for size in (I, I, width, width)]
    for cell, weights in zip(cells, ours.all_weights):
        cell.load_state_dict(dict(zip(cell.state_dict(), weights)))
    stack = seqcells.Stack([(cells[0], cells[1]), (cells[2], cells[3])])
    inputs, hx = random(T, B, I), initial_state(ours, B, F64)
    resets = torch.rand(T, B) < 0.4
    parts = list(zip(*hx)) if ours.mode == "LSTM" else hx
    state = [(parts[0], parts[1]), (parts[2], parts[3])]
    output, final = ours(inputs, hx, lengths=[0, 6, 2, 5], resets=resets)
    expected, last = stack(inputs, state, [0, 6, 2, 5], resets)
    close(output, expected)
    parts = final if ours.mode == "LSTM" else [final]
    close([part[n] for n in range(4) for part in parts], leaves(last))


@pytest.mark.parametrize("kind", LAYERS)
def test_results_are_plain_tuples(kind):
    ours, theirs = make_layers(kind)
    inputs = random(T, B, I)
    for found, expected in zip(ours(inputs), theirs(inputs)):
        assert type(found) is type(expected)
    assert type(ours(inputs)) is tuple


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_gradients_equal_finite_differences(kind, check):
    """In both directions, with lengths and resets, for inputs and every weight."""
    small = {"proj_size": 1} if kind == "lstm_proj" else {}
    ours, _ = make_layers(kind, 2, 2, bidirectional=True, **small)
    if kind == "rnn_relu":  # away from the kink, where differences are not derivatives
        torch.nn.init.constant_(ours.bias_ih_l0, 4.0)
        torch.nn.init.constant_(ours.bias_ih_l0_reverse, 4.0)
    names = [name for name, _ in ours.named_parameters()]
    resets = torch.tensor([[0, 0], [1, 0], [0, 0]], dtype=torch.bool)

    def call(inputs, *parameters):
        options = {"lengths": [3, 2], "resets": resets}
        result = torch.func.functional_call(ours, dict(zip(names, parameters)), inputs, options)
        return result[0], *(result[1] if isinstance(result[1], tuple) else result[1:])

    points = [random(3, 2, 2), *(parameter.detach() for parameter in ours.parameters())]
    points = [point.requires_grad_() for point in points]
    assert check(call, points, fast_mode=True)


@pytest.mark.parametrize("kind", LAYERS)
def test_no_rows_and_no_steps(kind):
    ours, _ = make_layers(kind, num_layers=2, bidirectional=True)
    output, final = ours(random(T, 0, I))
    assert output.shape == (T, 0, 2 * (ours.proj_size or H))
    hx = initial_state(ours, B, F64)
    output, final = ours(random(0, B, I), hx)
    assert output.shape == (0, B, 2 * (ours.proj_size or H))
    close(final, hx)
