"""Exported models: dynamic time and batch, lengths as a tensor, loaded in another process."""

import subprocess
import sys

import pytest
import torch
from parity import close, leaves
from torch import nn
from torch.export import Dim, export
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import seqcells
from seqcells import Recurrent
from seqcells.kernels import cpu
from tests.versions import since, without

I, H = 4, 6  # noqa: E741
SHAPES = [(5, 3), (40, 2), (3, 7)]

MODELS = {
    "lstm": lambda: seqcells.LSTM(I, H, num_layers=2, bidirectional=True),
    "gru": lambda: seqcells.GRU(I, H, dtype=torch.float64),
    "rnn": lambda: seqcells.RNN(I, H),
    "recurrent": lambda: Recurrent(seqcells.GRUCell(I, H, reset_after=False), reverse=True),
    "recurrent_lstm": lambda: Recurrent(seqcells.LSTMCell(I, H, proj_size=3)),
}


class Reader(nn.Module):
    """Return plain tuples: a saved program does not know our NamedTuples."""

    def __init__(self, recurrence):
        super().__init__()
        self.recurrence = recurrence

    def forward(self, inputs, lengths):
        outputs, state = self.recurrence(inputs, lengths=lengths)
        return outputs, *leaves(state)


def example(model, steps, rows):
    dtype = next(model.parameters()).dtype
    return torch.randn(steps, rows, I, dtype=dtype), torch.randint(0, steps + 1, (rows,))


def exported(model, strict):
    steps, rows = Dim("steps", min=2, max=4096), Dim("rows", min=2, max=4096)
    shapes = ({0: steps, 1: rows}, {0: rows})
    return export(model, example(model, 6, 4), dynamic_shapes=shapes, strict=strict)


def targets(program):
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


STRICT = [
    pytest.param(kind, True, marks=[] if kind in ("lstm", "recurrent") else pytest.mark.slow)
    for kind in MODELS
]


@pytest.mark.parametrize(("kind", "strict"), [*STRICT, *((kind, False) for kind in MODELS)])
def test_a_program_has_one_node_per_layer_for_all_shapes(kind, strict):
    model = Reader(MODELS[kind]())
    program = exported(model, strict)
    assert targets(program).count("seqcells.recurrence.default") == (4 if kind == "lstm" else 1)
    again = program.module()
    for shape in SHAPES:
        arguments = example(model, *shape)
        found, expected = again(*arguments), model(*arguments)
        close(found, expected)
        gradients = torch.autograd.grad(found[0].square().sum(), again.parameters())
        expected = torch.autograd.grad(expected[0].square().sum(), model.parameters())
        close(list(gradients), list(expected), 1e-5)


@pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning")
def test_decompositions_keep_the_node():
    program = exported(Reader(MODELS["gru"]()), strict=True).run_decompositions()
    assert targets(program).count("seqcells.recurrence.default") == 1


LOADED = """
import sys, torch, seqcells
for program in sys.argv[2:]:
    module = torch.export.load(program).module()
    for inputs, lengths, expected, gradients in torch.load(sys.argv[1]):
        found = module(inputs, lengths)
        for one, other in zip(found, expected):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
        found = torch.autograd.grad(found[0].square().sum(), module.parameters())
        for one, other in zip(found, gradients):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
print("agreed")
"""


@pytest.mark.slow
def test_a_saved_program_computes_the_same_in_another_process(tmp_path):
    model, cases = Reader(MODELS["gru"]()), tmp_path / "cases.pt"
    programs = [tmp_path / "strict.pt2", tmp_path / "non_strict.pt2"]
    for program in programs:
        torch.export.save(exported(model, strict=program.stem == "strict"), program)
    expected = []
    for shape in SHAPES:
        arguments = example(model, *shape)
        results = model(*arguments)
        gradients = torch.autograd.grad(results[0].square().sum(), model.parameters())
        expected.append((*arguments, [part.detach() for part in results], list(gradients)))
    torch.save(expected, cases)
    allowed = ["-W", "ignore:seqcells runs a slow:UserWarning"] if cpu.unavailable() else []
    command = [sys.executable, "-W", "error", *allowed, "-c", LOADED, str(cases)]
    command += map(str, programs)
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.stdout == "agreed\n", result.stderr


class PackedReader(nn.Module):
    """Take the four tensors: torch accepts no dynamic sizes inside a PackedSequence."""

    def __init__(self):
        super().__init__()
        self.recurrence = seqcells.LSTM(I, H, bidirectional=True)

    def forward(self, *packed):
        outputs, state = self.recurrence(PackedSequence(*packed))
        return tuple(outputs), *state


@without("2.9", "an exported PackedSequence has a guard on a name that does not exist")
@pytest.mark.parametrize(
    "strict",
    [pytest.param(True, marks=since("2.8", "Dynamo cannot create a PackedSequence")), False],
    ids=["strict", "non_strict"],
)
def test_packed_input_and_output_export(strict):
    model = PackedReader()
    steps, rows, cells = (Dim(name, min=2, max=4096) for name in ("steps", "rows", "cells"))
    shapes = (({0: cells}, {0: steps}, {0: rows}, {0: rows}),)

    def packed(*lengths):
        inputs = torch.randn(max(lengths), len(lengths), I)
        return tuple(pack_padded_sequence(inputs, lengths, enforce_sorted=False))

    program = export(model, packed(3, 6, 2), dynamic_shapes=shapes, strict=strict)
    assert targets(program).count("seqcells.recurrence.default") == 2
    for lengths in ((2, 3), (5, 1, 5, 2), (9, 9, 9)):
        arguments = packed(*lengths)
        found, expected = program.module()(*arguments), model(*arguments)
        close(found[0][0], expected[0][0], 1e-6)
        close(found[1:], expected[1:], 1e-6)


def test_a_program_of_the_reference_backend_has_torchs_operators_alone():
    model = Reader(MODELS["rnn"]())
    arguments = example(model, 5, 3)
    with seqcells.backend("reference"):
        program = export(model, arguments)
    assert not any("seqcells" in target for target in targets(program))
    close(program.module()(*arguments), model(*arguments), 1e-6)
