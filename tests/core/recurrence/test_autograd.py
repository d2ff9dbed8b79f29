"""Autograd through a recurrence: hooks, checkpoints, retained graphs, processes, autocast."""

import copy

import pytest
import torch
from cell_table import LAYERS, make_cell, make_layers
from parity import close, leaves, random, same
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.checkpoint import checkpoint

import seqcells
from seqcells import Recurrent
from seqcells.kernels import cpu

T, B, I, H = 6, 4, 4, 5  # noqa: E741
KINDS = pytest.mark.parametrize("kind", LAYERS)


def result(model, inputs, **options):
    outputs, state = model(inputs, **options)
    return [outputs, *leaves(state)]


def loss(model, inputs, **options):
    return sum(part.square().sum() for part in result(model, inputs, **options))


def gradients(model, value):
    return list(torch.autograd.grad(value, list(model.parameters()), retain_graph=True))


def deep(kind, **options):
    return make_layers(kind, I, H, num_layers=2, bidirectional=True, **options)[0]


@KINDS
def test_eval_mode_has_the_same_gradients(kind):
    model, inputs = deep(kind), random(T, B, I)
    expected = gradients(model, loss(model, inputs))
    same(gradients(model.eval(), loss(model, inputs)), expected)


@KINDS
def test_a_retained_graph_gives_the_same_gradients_again(kind):
    model, inputs = deep(kind), random(T, B, I).requires_grad_()
    value = loss(model, inputs, lengths=[3, 6, 0, 1])
    first = gradients(model, value)
    same(gradients(model, value), first)
    value.backward()
    same([parameter.grad for parameter in model.parameters()], first)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        value.backward()


@KINDS
def test_checkpointed_gradients_are_equal(kind):
    model, inputs = deep(kind), random(T, B, I).requires_grad_()
    expected = [
        *gradients(model, loss(model, inputs)),
        *torch.autograd.grad(loss(model, inputs), inputs),
    ]
    value = checkpoint(loss, model, inputs, use_reentrant=False)
    same([*gradients(model, value), *torch.autograd.grad(value, inputs)], expected)


@KINDS
def test_saved_tensors_pass_through_hooks(kind):
    """Hooks see every saved tensor; the backward pass reads nothing else."""
    model, inputs, packed = deep(kind), random(T, B, I), []
    expected = gradients(model, loss(model, inputs))

    def pack(tensor):
        packed.append(tensor.clone())
        return len(packed) - 1

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda number: packed[number]):
        value = loss(model, inputs)
    same(gradients(model, value), expected)
    assert packed
    with torch.autograd.graph.saved_tensors_hooks(torch.zeros_like, lambda held: held):
        value = model(inputs)[0].sum()
    found = dict(zip(dict(model.named_parameters()), gradients(model, value)))
    assert not any(found[name].any() for name in found if name.startswith("weight"))
    with torch.autograd.graph.save_on_cpu():
        value = loss(model, inputs)
    same(gradients(model, value), expected)


@pytest.mark.parametrize("what", ["inputs", "outputs", "weight_hh_l0"])
@KINDS
def test_a_saved_tensor_changed_in_place_raises(kind, what):
    model, inputs = make_layers(kind, I, H)[0], random(T, B, I)
    outputs, _ = model(inputs)
    if what == "outputs" and cpu.unavailable():
        pytest.skip("the readable loop saves the outputs of each step separately")
    with torch.no_grad():
        {"inputs": inputs, "outputs": outputs, "weight_hh_l0": model.weight_hh_l0}[what].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        outputs.sum().backward()


@KINDS
def test_results_share_no_memory(kind):
    model, _ = make_layers(kind, I, H)
    for steps in (0, 1, T):
        hx = model(random(1, B, I))[1]
        held = [part.detach().clone() for part in leaves(hx)]
        results = result(model, random(steps, B, I), hx=hx)
        for number, part in enumerate(results):
            rest = [other.detach().clone() for other in results[:number] + results[number + 1 :]]
            part.detach().fill_(7)
            same([other.detach() for other in results[:number] + results[number + 1 :]], rest)
        if steps:
            same([part.detach() for part in leaves(hx)], held)


@KINDS
def test_frozen_parameters_get_no_gradient(kind):
    model, inputs = make_layers(kind, I, H)[0], random(T, B, I)
    model.requires_grad_(False)
    assert not model(inputs)[0].requires_grad
    model.weight_hh_l0.requires_grad_()
    model(inputs)[0].sum().backward()
    assert [name for name, part in model.named_parameters() if part.grad is not None] == [
        "weight_hh_l0"
    ]
    assert model.weight_hh_l0.grad.any()
    with torch.inference_mode():
        close(model(inputs)[0].clone(), model(inputs)[0])


def work(model, inputs, queue):
    torch.set_num_threads(2)
    loss(model, inputs).backward()
    queue.put([parameter.grad.tolist() for parameter in model.parameters()])


@pytest.mark.parametrize("kind", ["lstm"])
@pytest.mark.slow
def test_a_spawned_process_computes_the_same_gradients(kind):
    model, inputs = deep(kind), random(T, B, I)
    expected = gradients(model, loss(model, inputs))
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=work, args=(model, inputs, queue))
    worker.start()
    found = queue.get(timeout=120)
    worker.join()
    assert worker.exitcode == 0
    close([torch.tensor(value, dtype=torch.float64) for value in found], expected)


def dtypes(model, inputs, hx):
    with torch.autocast("cpu", torch.bfloat16):
        outputs, state = model(inputs, hx)
        outputs = outputs.data if isinstance(outputs, PackedSequence) else outputs
        (outputs.float().sum() + sum(part.float().sum() for part in leaves(state))).backward()
    return [part.dtype for part in (outputs, *leaves(state), *(p.grad for p in model.parameters()))]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("given", [False, True], ids=["no_hx", "hx"])
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "lstm"])
def test_dtypes_under_autocast_equal_torchs(kind, dtype, packed, given, backend):
    own = torch.float64 if dtype == torch.float64 else torch.float32
    ours, theirs = make_layers(kind, I, H, num_layers=2, dtype=own)
    inputs, hx = random(T, B, I, dtype=dtype), None
    if given:
        hx = torch.zeros(2, B, H, dtype=own)
        hx = (hx, hx) if kind == "lstm" else hx
    if packed:
        inputs = pack_padded_sequence(inputs, [6, 4, 4, 1])
    with seqcells.backend(backend):
        assert dtypes(ours, inputs, hx) == dtypes(theirs, inputs, hx)


@pytest.mark.parametrize(
    ("backend", "dtype"),
    [("auto", torch.float16), ("reference", torch.float16), ("reference", torch.bfloat16)],
)
@KINDS
def test_float16_autocast_and_the_loop_compute_in_float32(kind, backend, dtype):
    model = deep(kind, dtype=torch.float32)
    inputs = random(T, B, I, dtype=torch.float32)
    with seqcells.backend(backend):
        expected = result(model, inputs)
        with torch.autocast("cpu", dtype):
            found = result(model, inputs)
    for one, other in zip(found, expected):
        assert torch.equal(one, other.to(one.dtype))


@KINDS
def test_bfloat16_autocast_multiplies_in_bfloat16(kind):
    model = deep(kind, dtype=torch.float32)
    inputs = random(T, B, I, dtype=torch.float32)
    expected = result(model, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = result(model, inputs)
    for one, other in zip(found, expected):
        assert 0 < (one - other).abs().max() < 0.02


@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "lstm"])
def test_recurrent_under_autocast_keeps_the_dtype_of_the_state(kind):
    run = Recurrent(make_cell(kind, I, H, dtype=torch.float32))
    inputs, resets = random(T, B, I, dtype=torch.float32), torch.rand(T, B) < 0.3
    expected = result(run, inputs, resets=resets)
    with torch.autocast("cpu", torch.bfloat16):
        found = result(run, inputs, resets=resets)
        half = result(run, inputs.bfloat16(), resets=resets)
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, atol=0.02, rtol=0)  # products in bfloat16
    assert {part.dtype for part in half} == {torch.bfloat16}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["rnn_tanh", "gru", "lstm"])
def test_short_types_err_no_more_than_the_readable_loop(kind, dtype):
    model = make_layers(kind, 16, 32, dtype=torch.float32)[0].to(dtype)
    inputs = random(40, B, 16, dtype=torch.float32).to(dtype)
    with seqcells.backend("reference"):
        readable = result(model, inputs)
        exact = result(copy.deepcopy(model).double(), inputs.double())
    found = result(model, inputs)
    for one, other, truth in zip(found, readable, exact):
        assert one.dtype == dtype
        assert (one - truth).norm() <= (other - truth).norm()
    loss(model, inputs).backward()
    assert all(part.grad.dtype == dtype for part in model.parameters())
