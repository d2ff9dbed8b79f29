"""Layers run over nested tensors with the layout `torch.jagged`."""

import pytest
import torch
from cell_table import LAYERS, make_layers
from parity import F64, random, same

I = 4  # noqa: E741
LENGTHS = [3, 0, 5, 1]
MOST = max(LENGTHS)

pytestmark = pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[] if kind == "lstm" else pytest.mark.slow) for kind in LAYERS],
)


def jagged(rows, **options):
    return torch.nested.nested_tensor(rows, layout=torch.jagged, **options)


def padded(rows, batch_first=True):
    """Return rows of different lengths as one tensor, zero beyond each length."""
    whole = torch.stack(
        [torch.cat([row, row.new_zeros(MOST - len(row), *row.shape[1:])]) for row in rows]
    )
    return whole if batch_first else whole.transpose(0, 1)


def unbound(nested):
    return list(torch.nested.nested_tensor_from_jagged(nested.values(), nested.offsets()).unbind())


@pytest.mark.parametrize("batch_first", [True, False])
def test_nested_equals_padded_forward_and_backward(kind, batch_first):
    layer, _ = make_layers(kind, num_layers=2, bidirectional=True, batch_first=batch_first)
    rows = [random(length, I) for length in LENGTHS]
    resets = [torch.rand(length) < 0.4 for length in LENGTHS]
    ragged = jagged(rows, requires_grad=True)
    dense = padded(rows, batch_first).requires_grad_()
    weights = [random(length, layer(dense)[0].shape[-1]) for length in LENGTHS]

    restarts = torch.nested.nested_tensor_from_jagged(torch.cat(resets), ragged.offsets())
    output, state = layer(ragged, resets=restarts)
    expected, final = layer(dense, lengths=LENGTHS, resets=padded(resets, batch_first))
    same(padded(unbound(output), batch_first), expected)
    same(state, final)

    found = torch.autograd.grad(
        (output.values() * torch.cat(weights)).sum(), [ragged, *layer.parameters()]
    )
    sums = (expected * padded(weights, batch_first)).sum()
    wanted = torch.autograd.grad(sums, [dense, *layer.parameters()])
    same(padded(unbound(found[0]), batch_first), wanted[0])
    same(list(found[1:]), list(wanted[1:]))


def test_output_and_input_combine_elementwise(kind):
    layer, _ = make_layers(kind)
    ragged = jagged([random(length, I) for length in LENGTHS])
    output, state = layer(ragged)
    joined = torch.cat([output, ragged], dim=-1)
    assert joined.shape[0] == len(LENGTHS)
    assert joined.layout is torch.jagged
    same(layer(ragged, state)[0].offsets(), ragged.offsets())
    assert torch.nested.to_padded_tensor(output, 0.0).shape[1] == MOST


def test_rows_with_gaps_between_them(kind):
    layer, _ = make_layers(kind)
    starts, lengths = torch.tensor([0, 1, 2]), torch.tensor([3, 2, 1])
    whole = random(3, 6, I)
    ragged = torch.nested.narrow(whole, 1, starts, lengths, layout=torch.jagged)
    assert not ragged.is_contiguous()
    rows = [
        whole[i, start : start + length] for i, (start, length) in enumerate(zip(starts, lengths))
    ]
    for found, row in zip(unbound(layer(ragged)[0]), rows):
        torch.testing.assert_close(found, layer(row)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_errors_state_what_is_expected(kind):
    layer, _ = make_layers(kind)
    rows = [random(length, I) for length in LENGTHS]
    ragged, other = jagged(rows), jagged(rows[::-1])
    with pytest.raises(ValueError, match="lengths: expected None with a nested tensor"):
        layer(ragged, lengths=LENGTHS)
    with pytest.raises(ValueError, match="whose second dimension is ragged"):
        layer(ragged.transpose(1, 2))
    with pytest.raises(ValueError, match=r"create it with layout=torch\.jagged"):
        layer(torch.nested.nested_tensor(rows[:1]))
    with pytest.raises(ValueError, match=f"expected {I} features"):
        layer(jagged([random(2, I + 1)]))
    with pytest.raises(ValueError, match=f"expected {F64}"):
        layer(jagged([random(2, I).float()]))
    with pytest.raises(TypeError, match="resets: expected a nested tensor"):
        layer(ragged, resets=torch.zeros(4, MOST, dtype=torch.bool))
    bools = torch.zeros(sum(LENGTHS), dtype=torch.bool)
    with pytest.raises(
        ValueError, match=r"resets: expected the lengths of the input, \[3, 0, 5, 1\]"
    ):
        layer(ragged, resets=torch.nested.nested_tensor_from_jagged(bools, other.offsets()))
    with pytest.raises(TypeError, match="resets: expected a bool tensor"):
        layer(ragged, resets=torch.nested.nested_tensor_from_jagged(bools.int(), ragged.offsets()))
