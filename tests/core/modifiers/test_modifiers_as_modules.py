"""Modified cells as modules: copies, dtypes, compilation, export and errors."""

import copy
import pickle

import pytest
import torch
from cell_table import CELLS, MODIFIED, MODIFY, H, Highway, I, Leaky, make_cell, make_modified
from parity import F64, close, leaves, random, same
from torch import nn

import seqcells
from seqcells import (
    DropConnect,
    LearnedState,
    Noise,
    Recurrent,
    RecurrentDropout,
    VariationalDropout,
    Zoneout,
)

T, B = 6, 3


@pytest.mark.parametrize(
    ("modifier", "kind"), [(m, k) for m, k in MODIFIED if k in ("lstm", "min_gru")]
)
def test_copies_compute_the_same(modifier, kind):
    run, other = Recurrent(make_modified(modifier, kind)), Recurrent(make_modified(modifier, kind))
    inputs = random(T, B, I)
    noise = run.noise(inputs)
    expected = run(inputs, noise=noise)
    for copied in (copy.deepcopy(run), pickle.loads(pickle.dumps(run))):
        same(copied(inputs, noise=noise), expected)
    assert not torch.equal(other(inputs, noise=noise)[0], expected[0])
    other.load_state_dict(run.state_dict(), strict=True)
    same(other(inputs, noise=noise), expected)


@pytest.mark.parametrize("modifier", MODIFY)
def test_dtypes_and_devices_follow_the_cell(modifier):
    cell = MODIFY[modifier](CELLS["lstm"].cell(I, H))
    for inputs in (torch.randn(T, B, I), torch.randn(T, B, I, device="meta")):
        cell.to(inputs.device)
        noise = Recurrent(cell).noise(inputs)
        parts = []
        noise.map(parts.append)
        outputs, _ = Recurrent(cell)(inputs, noise=noise)
        for part in [outputs, *parts]:
            assert part.dtype == torch.float32
            assert part.device == inputs.device


@pytest.mark.parametrize("kind", ["lstm", "min_gru", "layer_norm_gru"])
def test_autocast_keeps_the_dtype_of_the_state(kind):
    run, inputs = (
        Recurrent(Zoneout(RecurrentDropout(make_cell(kind).float(), 0.3), 0.3)),
        random(T, B, I),
    )
    inputs = inputs.float()
    noise = run.noise(inputs)
    exact, _ = run(inputs, noise=noise)
    with torch.autocast("cpu", torch.bfloat16):
        outputs, final = run(inputs, noise=noise)
        outputs.sum().backward()
    assert {part.dtype for part in leaves(final)} == {torch.float32}
    close(outputs, exact, 0.05)


@pytest.mark.parametrize(
    "modifier", ["recurrent", "composed", pytest.param("learned", marks=pytest.mark.slow)]
)
def test_modified_cells_compile_in_one_graph(modifier):
    torch.compiler.reset()
    run, inputs = Recurrent(make_modified(modifier, "lstm")), random(3, 2, I)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    noise = run.noise(inputs)
    close(compiled(inputs, noise=noise), run(inputs, noise=noise))
    torch.manual_seed(1)
    first = compiled(inputs)[0]
    assert torch.equal(compiled(inputs)[0], first) == (modifier == "learned")


@pytest.mark.parametrize("modifier", ["variational", "drop_connect", "learned"])
def test_evaluation_exports_as_one_node(modifier):
    run = Recurrent(make_modified(modifier, "lstm")).eval()
    dims = {0: torch.export.Dim("steps"), 1: torch.export.Dim("rows")}
    program = torch.export.export(run, (random(T, B, I),), dynamic_shapes=(dims,))
    inputs = random(T + 3, B + 1, I)
    close(program.module()(inputs), run(inputs))
    nodes = [str(node.target) for node in program.graph.nodes]
    assert nodes.count("seqcells.recurrence.default") == 1


# Errors.

LSTM = make_cell("lstm")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Zoneout(LSTM, 1.2), ValueError, r"share: expected a number from 0 to 1, got 1\.2"),
        (lambda: Zoneout(LSTM, "0.1"), TypeError, "share: expected a number, got str"),
        (lambda: Zoneout(LSTM, (0.1, -1)), ValueError, r"share\[1\]: expected a number"),
        (lambda: Zoneout(LSTM, (0.1,)), ValueError, "share: expected one for each of 2 parts"),
        (lambda: Zoneout(make_cell("gru"), (0.1, 0.2)), TypeError, "share: expected a number for"),
        (lambda: DropConnect(LSTM, True), TypeError, "share: expected a number, got bool"),
        (lambda: DropConnect(seqcells.LSTM(I, H), 0.1), TypeError, "expected a cell.*got LSTM"),
        (lambda: Zoneout(seqcells.LSTMCell, 0.1), TypeError, "pass an instance"),
        (lambda: RecurrentDropout(Highway(I, H), 0.1), TypeError, "fourth argument.*got Highway"),
        (lambda: RecurrentDropout(nn.LSTMCell(I, H), 0.1), TypeError, "GatedCell.*got LSTMCell"),
        (lambda: VariationalDropout(nn.GRUCell(I, H), 0.1), TypeError, "GatedCell.*got GRUCell"),
        (lambda: VariationalDropout(Leaky(), 0.1), TypeError, "expected a GatedCell.*got Leaky"),
        (lambda: LearnedState(Leaky()), TypeError, "expected a cell with an initial_state.*Leaky"),
    ],
)
def test_bad_modifiers_raise(make, error, words):
    with pytest.raises(error, match=words):
        make()


class OwnStep(seqcells.GRUCell):
    def step(self, weights, from_input, state):
        return super().step(weights, from_input, state)


def test_a_step_that_takes_no_noise_raises():
    cell, inputs = OwnStep(I, H, dtype=F64), random(T, B, I)
    with pytest.raises(TypeError, match="fourth argument, noise; got OwnStep"):
        VariationalDropout(cell, 0.1)
    for modify in (Zoneout, DropConnect):
        Recurrent(modify(cell, 0.1))(inputs)


ZONE = torch.zeros(T, B, H, dtype=F64)


@pytest.mark.parametrize(
    ("cell", "noise", "error", "words"),
    [
        (LSTM, 3, TypeError, "noise: expected a seqcells.Noise, got int"),
        (LSTM, Noise(hidden=ZONE[:, 1:]), ValueError, r"hidden: expected shape \(3, 5\) or \(6"),
        (LSTM, Noise(candidate=ZONE.float()), ValueError, "candidate: expected torch.float64"),
        (LSTM, Noise(hidden=0.5), TypeError, "hidden: expected a tensor, got float"),
        (LSTM, Noise(zone=ZONE), TypeError, "zone: expected a tuple of 2, got Tensor"),
        (LSTM, Noise(zone=(ZONE,)), ValueError, "zone: expected 2 parts, got 1"),
        (LSTM, Noise(zone=(ZONE, ZONE[0, 0])), ValueError, "zone.cell: expected shape"),
        (LSTM, Noise(weight_hh=ZONE), ValueError, r"weight_hh: expected shape \(20, 5\)"),
        (make_cell("rnn_tanh"), Noise(candidate=ZONE), TypeError, "candidate: expected a cell"),
        (
            make_cell("min_gru"),
            Noise(hidden=ZONE),
            TypeError,
            "hidden: expected a cell with recurrent",
        ),
        (Leaky(), Noise(zone=ZONE), TypeError, "Leaky has no initial_state"),
        (Leaky(), Noise(weight_hh=ZONE), TypeError, "Leaky"),
    ],
)
def test_noise_that_does_not_fit_raises(cell, noise, error, words):
    with pytest.raises(error, match=words):
        Recurrent(cell)(random(T, B, I), noise=noise)


def test_a_plain_cell_has_no_noise():
    run, inputs = Recurrent(LSTM), random(T, B, I)
    assert run.noise(inputs) == Noise()
    same(run(inputs, noise=Noise()), run(inputs))
    hidden = torch.rand(B, H, dtype=F64)
    assert not torch.equal(run(inputs, noise=Noise(hidden=hidden))[0], run(inputs)[0])


def test_bad_input_raises():
    cell = Zoneout(LSTM, 0.1)
    for call, inputs in ((cell, random(B, I + 1)), (Recurrent(cell), random(T, B, I + 1))):
        with pytest.raises(ValueError, match="expected 4 features, got 5"):
            call(inputs)
    with pytest.raises(TypeError, match="expected a tuple of 2"):
        cell(random(B, I), random(B, H))


def test_old_names_of_noise_methods_still_work():
    noise, other = Noise(hidden=torch.full((2, 3), 2.0)), Noise(hidden=torch.full((2, 3), 3.0))
    with pytest.warns(DeprecationWarning, match=r"use Noise\.combine"):
        assert torch.equal(noise.beside(other).hidden, noise.combine(other).hidden)
    with pytest.warns(DeprecationWarning, match=r"use Noise\.carry_over"):
        carried = noise.carried(other, torch.zeros(2, 3))
    assert torch.equal(carried.hidden, noise.hidden)
