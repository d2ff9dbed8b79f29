"""On a GPU, layers equal torch.nn, cells equal the readable loop, and no step synchronizes.

Without a GPU, `tests/conftest.py` excludes this file.
"""

from itertools import product

import pytest
import torch
from cell_table import CELLS, LAYERS, make_cell, make_layers
from layer_parity import assert_equals_torch
from parity import leaves, relative_error

import seqcells

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
FORMS = {"padded": "padded", "lengths": "lengths", "packed": "unsorted"}
T, B, I, H = 9, 5, 24, 32  # noqa: E741
NORMED = ("layer_norm_lstm", "layer_norm_gru")  # take means over whole rows
CUDNN = ("rnn_tanh", "rnn_relu", "gru", "lstm", "lstm_proj")
CUDNN_ERROR = 2e-5  # cuDNN's own tanh and sigmoid err by 8e-6 in float32 (H100, cuDNN 9.19)
SLACK = 4.0  # times the readable loop's own error against float64, and one unit in the last place


def in_reach(kind, dtype):
    """Whether results are comparable: in a short type, rounding decides where a relu opens."""
    return dtype == "f32" or "relu" not in kind


OF_TORCH = [pair for pair in product(LAYERS, DTYPES) if in_reach(*pair)]


@pytest.fixture(autouse=True)
def _without_tf32():
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = False
    yield
    for place, allowed in zip(places, before):
        place.allow_tf32 = allowed


def skip_without(name):
    """Skip with the reason where the machine has no such backend."""
    state = seqcells.backends().get(name, "not available: no such backend")
    if name != "auto" and not state.startswith("available"):
        pytest.skip(f"{name}: {state}")


@pytest.fixture(params=["auto", "triton", "cudnn"])
def each_backend(request):
    skip_without(request.param)
    with seqcells.backend(request.param):
        yield request.param


class Refusals:
    """Run what a backend supports, and record the errors of the rest."""

    def __init__(self):
        self.ran, self.said = 0, []

    def __call__(self, run, *args, **options):
        try:
            run(*args, **options)
            self.ran += 1
        except RuntimeError as refusal:
            if "cannot run this" not in str(refusal):
                raise
            self.said.append(str(refusal))

    def settle(self):
        """Skip a test in which nothing ran, with the reason."""
        if not self.ran:
            pytest.skip(self.said[0])


# PyTorch does not put the weights of its own bfloat16 layers into one block.
@pytest.mark.filterwarnings("ignore:RNN module weights are not part of single contiguous chunk")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("kind", "dtype"), OF_TORCH)
def test_layers_equal_torch(each_backend, kind, form, dtype):
    run = Refusals()
    for layers, ways, bias, first, hx in product((1, 2), *[(True, False)] * 4):
        run(
            assert_equals_torch,
            kind,
            FORMS[form],
            hx=hx,
            dtype=DTYPES[dtype],
            device="cuda",
            batch_first=first,
            num_layers=layers,
            bidirectional=ways,
            bias=bias,
        )
    if each_backend == "auto":
        assert not run.said
    run.settle()


def everything(backend, cell, inputs, dtype, **options):
    """Return outputs, final states and all gradients by name in the given dtype."""
    recurrent = seqcells.Recurrent(cell, reverse=options.pop("reverse")).to(dtype)
    recurrent.zero_grad()
    leaf = inputs.to(dtype, copy=True).requires_grad_()
    with seqcells.backend(backend):
        outputs, final = recurrent(leaf, **options)
        results = {"outputs": outputs}
        results |= {f"final[{number}]": part for number, part in enumerate(leaves(final))}
        generator = torch.Generator().manual_seed(1)
        grads = [torch.randn(part.shape, generator=generator) for part in results.values()]
        torch.autograd.backward(list(results.values()), [grad.to("cuda", dtype) for grad in grads])
    results["grad inputs"] = leaf.grad
    results |= {f"grad {name}": value.grad for name, value in recurrent.named_parameters()}
    return {name: value.detach().clone() for name, value in results.items()}


def agree(backend, kind, dtype, **options):
    """Require errors of at most `SLACK` times those of the readable loop, as on the CPU."""
    small = {"proj_size": 20} if kind == "lstm_proj" else {}
    cell = make_cell(kind, I, H, dtype=dtype, device="cuda", **small)
    inputs = torch.randn(T, B, I).to("cuda", dtype)
    compare(backend, kind, cell, inputs, dtype, **options)


def compare(backend, kind, cell, inputs, dtype, **options):
    found = everything(backend, cell, inputs, dtype, **options)
    loop = everything("reference", cell, inputs, dtype, **options)
    exact = everything("reference", cell, inputs, torch.float64, **options)
    for name, value in found.items():
        assert value.dtype == dtype, name
        slack = 3 * SLACK if "norm" in kind else SLACK
        allowed = slack * (relative_error(loop[name], exact[name]) + torch.finfo(dtype).eps)
        if backend != "triton" and kind in CUDNN:
            allowed = max(allowed, CUDNN_ERROR)
        assert relative_error(value, exact[name]) <= allowed, (name, options)


@pytest.mark.parametrize(
    ("kind", "dtype"), [pair for pair in product(CELLS, DTYPES) if in_reach(*pair)]
)
def test_cells_equal_the_loop(each_backend, kind, dtype):
    run = Refusals()
    lengths = torch.tensor([9, 0, 3, 7, 1], device="cuda")
    resets = torch.rand(T, B, device="cuda") < 0.2
    for ragged, restarts, reverse in product((False, True), repeat=3):
        options = {
            "lengths": lengths if ragged else None,
            "resets": resets if restarts else None,
            "reverse": reverse,
        }
        run(agree, each_backend, kind, DTYPES[dtype], **options)
    if each_backend == "auto":
        assert not run.said
    run.settle()


@pytest.mark.parametrize("product", ["resident", "memory", "split", "streamed", "external"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "peephole_lstm", *NORMED])
def test_each_kind_of_product_equals_the_loop(kind, dtype, product, prefer_plan):
    """Several slices and groups of rows, with lengths and resets, in both directions."""
    skip_without("triton")
    prefer_plan(product)
    rows, units = 40, 72
    cell = make_cell(kind, I, units, dtype=DTYPES[dtype], device="cuda")
    inputs = torch.randn(T, rows, I).to("cuda", DTYPES[dtype])
    lengths = torch.arange(rows, device="cuda") % (T + 1)
    resets = torch.rand(T, rows, device="cuda") < 0.2
    for reverse in (False, True):
        compare("triton", kind, cell, inputs, DTYPES[dtype], reverse=reverse)
        options = {"lengths": lengths, "resets": resets}
        compare("triton", kind, cell, inputs, DTYPES[dtype], reverse=reverse, **options)


@pytest.mark.parametrize("kind", ["rnn_tanh", "rnn_relu", "gru", "lstm"])
@pytest.mark.parametrize("bias", [True, False])
def test_cudnn_equals_torch_nn(kind, bias):
    """To the last bit, for the weights of a layer and of a cell."""
    skip_without("cudnn")
    ours, theirs = make_layers(kind, I, H, dtype=torch.float32, bias=bias, device="cuda")
    theirs.load_state_dict(ours.state_dict())
    cell = make_cell(kind, I, H, dtype=torch.float32, bias=bias, device="cuda")
    with torch.no_grad():
        for own, parameter in zip(cell.parameters(), ours.parameters()):
            own.copy_(parameter)
    inputs = torch.randn(T, B, I, device="cuda")
    expected = theirs(inputs)[0]
    with seqcells.backend("cudnn"):
        assert torch.equal(ours(inputs)[0], expected)
        assert torch.equal(seqcells.Recurrent(cell)(inputs)[0], expected)


@pytest.mark.parametrize("bias", [True, False])
def test_weights_go_to_cudnn_in_one_block(bias):
    """Otherwise PyTorch copies them in each call, and warns."""
    skip_without("cudnn")
    layer = seqcells.LSTM(I, H, 2, bias=bias, bidirectional=True, dtype=torch.bfloat16)
    inputs = torch.randn(T, B, I, device="cuda", dtype=torch.bfloat16)
    with seqcells.backend("cudnn"):
        layer.to("cuda")(inputs)[0].sum().backward()


@pytest.mark.parametrize("name", ["triton", "cudnn"])
@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "lstm"])
def test_the_kernels_run_layers(name, kind):
    skip_without(name)
    with seqcells.backend(name):
        assert_equals_torch(kind, "padded", dtype=torch.float32, device="cuda")


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
@pytest.mark.parametrize("name", ["auto", "triton"])
def test_a_training_step_never_synchronizes(name):
    skip_without(name)
    layer = seqcells.LSTM(I, H).to("cuda")
    optimiser = torch.optim.Adam(layer.parameters())
    inputs = torch.randn(T, B, I, device="cuda")
    lengths = torch.tensor([9, 2, 3, 7, 1], device="cuda")

    def step():
        optimiser.zero_grad()
        with seqcells.backend(name):
            outputs, _ = layer(inputs, lengths=lengths)
            outputs.square().mean().backward()
        optimiser.step()

    step()  # the first step may synchronize
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
        with pytest.raises(RuntimeError, match="synchroniz"):
            lengths[0].item()
    finally:
        torch.cuda.set_sync_debug_mode("default")
