"""Stateful ONNX models against their PyTorch models: whole sequences, and chunks of them."""

import json
import random

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from recurrent_modules import (
    CELLS,
    MODIFIED,
    MODULES,
    EveryOperation,
    H,
    Highway,
    I,
    Reduced,
    first_state,
)

import seqcells
from seqcells import Zoneout
from seqcells.equations.operations import OPERATIONS
from seqcells.equations.recording import program
from seqcells.lab.export import body
from seqcells.lab.export.stateful import to_stateful_onnx
from seqcells.state import flat_state
from tests.fuzz.cells import Random


@torch.no_grad()
def randomise(module):
    """Set large random weights; small ones hide errors in gates."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.uniform_(-1, 1)
    return module.eval()


def session_of(model):
    return onnxruntime.InferenceSession(model.SerializeToString())


def run_chunks(session, first, chunks, batch_size):
    """Run a sequence in chunks; return the first output of each chunk and the final state."""
    state, results = first_state(session, batch_size), []
    for chunk in chunks:
        result, *parts = session.run(None, {first: chunk.numpy(), **state})
        assert [part.shape for part in parts] == [part.shape for part in state.values()]
        state = dict(zip(state, parts, strict=True))
        results.append(torch.from_numpy(result))
    return results, [torch.from_numpy(part) for part in state.values()]


def random_sizes(total, draw):
    """Return random sizes of chunks, the first of them 1."""
    sizes = [1]
    while sum(sizes) < total:
        sizes.append(draw.randint(1, min(4, total - sum(sizes))))
    return sizes


def tensors(state):
    """Return all tensors of a module's state, layer by layer."""
    if isinstance(state, tuple) and any(isinstance(part, tuple) for part in state):
        return [tensor for part in state for tensor in flat_state(part)]
    return flat_state(state)


def check(module):
    """Compare the exported module with the readable loop, whole and in chunks, for two batches."""
    module = randomise(module)
    batch_first = getattr(module, "batch_first", False)
    run = module if hasattr(module, "batch_first") else seqcells.Recurrent(module)
    model, time = to_stateful_onnx(module), int(batch_first)
    assert {opset.domain for opset in model.opset_import} == {""}
    session, draw = session_of(model), random.Random(0)
    for batch_size in (1, 3):
        inputs = torch.randn(9, batch_size, I)
        inputs = inputs.transpose(0, 1).contiguous() if batch_first else inputs
        with torch.no_grad(), seqcells.backend("reference"):
            expected, final = run(inputs)
        for sizes in ([9], random_sizes(9, draw)):
            results, state = run_chunks(session, "inputs", inputs.split(sizes, time), batch_size)
            torch.testing.assert_close(torch.cat(results, time), expected, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(state, tensors(final), rtol=1e-5, atol=1e-5)
    return model


@pytest.mark.parametrize("name", CELLS)
def test_cells(name):
    check(CELLS[name](I, H))


@pytest.mark.parametrize("name", MODIFIED)
def test_modified_cells(name):
    check(MODIFIED[name]())


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
    check(MODULES[name]())


def operators(model):
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("rnn_tanh", "RNN"),
        ("rnn_relu", "RNN"),
        ("gru", "GRU"),
        ("gru_reset_before", "GRU"),
        ("mgu_reset_before", "GRU"),
        ("lstm", "LSTM"),
        ("peephole_lstm", "LSTM"),
        ("lstm_proj", "Scan"),
        ("highway", "Scan"),
        ("layer_norm_gru", "Scan"),
        ("multiplicative_lstm", "Scan"),
    ],
)
def test_operators(name, operator):
    kinds = {"RNN", "GRU", "LSTM", "Scan"}
    found = operators(to_stateful_onnx(CELLS[name](I, H).eval()))
    assert [kind for kind in found if kind in kinds] == [operator]


@pytest.mark.parametrize(
    ("make", "products"),
    [
        (lambda: CELLS["lem"](I, H), 2),
        (lambda: CELLS["rhn"](I, H), 3),
        (lambda: CELLS["staged"](I, H), 3),
        (lambda: CELLS["light_lstm"](I, H), 1),
        (MODIFIED["zoneout_gru_reset_before"], 2),
    ],
    ids=["lem", "rhn", "staged", "light_lstm", "gru_reset_before"],
)
def test_a_step_has_one_product_per_stage(make, products):
    nodes = to_stateful_onnx(make().eval()).graph.node
    (scan,) = [node for node in nodes if node.op_type == "Scan"]
    (graph,) = [attribute.g for attribute in scan.attribute if attribute.name == "body"]
    assert [node.op_type for node in graph.node].count("Gemm") == products


def test_every_operation_of_programs_is_mapped():
    assert sorted([*body.OPERATORS, *body.COMPOSITE, "product"]) == sorted(OPERATIONS)
    used = {value[0] for value in program(EveryOperation(I, H)).values}
    assert used == set(OPERATIONS)


def sizes(values):
    shapes = {value.name: value.type.tensor_type.shape.dim for value in values}
    return {
        name: [size.dim_param or size.dim_value for size in shape] for name, shape in shapes.items()
    }


@pytest.mark.parametrize(
    ("module", "state"),
    [
        (seqcells.GRUCell(I, H), {"h": ["batch", H]}),
        (seqcells.LSTMCell(I, H, proj_size=3), {"h": ["batch", 3], "c": ["batch", H]}),
        (
            seqcells.SLSTMCell(I, H),
            {name: ["batch", H] for name in ("h", "c", "state2", "state3")},
        ),
        (seqcells.LSTM(I, H), {"h": [1, "batch", H], "c": [1, "batch", H]}),
        (seqcells.GRU(I, H, 3), {"h": [3, "batch", H]}),
        (seqcells.LSTM(I, H, 2, proj_size=3), {"h": [2, "batch", 3], "c": [2, "batch", H]}),
        (seqcells.Stack([seqcells.GRUCell(I, H)]), {"h": ["batch", H]}),
        (
            seqcells.Stack([seqcells.LSTMCell(I, H), seqcells.GRUCell(H, 3)]),
            {
                "h_layer0": ["batch", H],
                "c_layer0": ["batch", H],
                "h_layer1": ["batch", 3],
            },
        ),
        (
            seqcells.Stack([seqcells.SLSTMCell(I, H), seqcells.GRUCell(H, 3)]),
            {
                **{f"{name}_layer0": ["batch", H] for name in ("h", "c", "state2", "state3")},
                "h_layer1": ["batch", 3],
            },
        ),
    ],
    ids=str,
)
def test_names_and_shapes(module, state):
    graph = to_stateful_onnx(module.eval()).graph
    inputs, outputs = sizes(graph.input), sizes(graph.output)
    assert inputs.pop("inputs") == ["time", "batch", I]
    assert outputs.pop("outputs")[:2] == ["time", "batch"]

    def numbered(step):
        split = {name: name.partition("_") for name in state}
        return {part + step + "".join(rest): state[name] for name, (part, *rest) in split.items()}

    assert list(inputs.items()) == list(numbered("_0").items())
    assert list(outputs.items()) == list(numbered("_n").items())


def test_an_initial_state_that_is_not_zero_is_in_the_metadata():
    model = to_stateful_onnx(seqcells.SLSTMCell(I, 2).eval())
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["initial_state"]) == {"state3_0": [[-1e4, -1e4]]}


def test_batch_first_sizes():
    graph = to_stateful_onnx(seqcells.GRU(I, H, batch_first=True).eval()).graph
    assert sizes(graph.input)["inputs"] == ["batch", "time", I]
    assert sizes(graph.output)["outputs"] == ["batch", "time", H]


def test_a_row_can_restart_alone():
    """States are ordinary inputs, so one stream of a batch can start again."""
    module = randomise(seqcells.LSTM(I, H))
    session = session_of(to_stateful_onnx(module))
    first, second = torch.randn(2, 6, 3, I)
    _, *parts = session.run(None, {"inputs": first.numpy(), **first_state(session, 3)})
    for part in parts:
        part[:, 1] = 0
    outputs = session.run(None, {"inputs": second.numpy(), "h_0": parts[0], "c_0": parts[1]})[0]
    with torch.no_grad():
        expected = module(second[:, 1:2])[0]
    torch.testing.assert_close(torch.from_numpy(outputs[:, 1:2]), expected, rtol=1e-5, atol=1e-5)


def test_file_runs_without_torch_and_seqcells(tmp_path, run_python):
    module = randomise(seqcells.Stack([Highway(I, H), Zoneout(seqcells.LSTMCell(H, 3), 0.2)]))
    onnx.save(to_stateful_onnx(module), tmp_path / "model.onnx")
    inputs = torch.randn(4, 1, I)
    np.save(tmp_path / "inputs.npy", inputs.numpy())
    code = """
import json, sys
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
state = {t.name: np.zeros((1, t.shape[1]), np.float32) for t in session.get_inputs()[1:]}
rows = []
for step in np.load("inputs.npy"):
    output, *parts = session.run(None, {"inputs": step[None], **state})
    state = dict(zip(state, parts))
    rows.append(output[0].tolist())
print(bool({"torch", "seqcells"} & set(sys.modules)))
print(json.dumps(rows))
"""
    imported, rows = run_python(code).splitlines()
    assert imported == "False"
    with torch.no_grad():
        expected = module(inputs)[0]
    torch.testing.assert_close(torch.tensor(json.loads(rows)), expected, rtol=1e-5, atol=1e-5)


def test_runtimes_do_not_warn(capfd):
    """Operands that a program does not read leave no unused constants."""
    recipe = (("gain", 0, 0), ("tanh", 0, 0))  # the result reads neither `gain` nor a hidden gate
    check(Random(I, H, gates=2, parts=1, recipe=recipe, results=(6,)))
    assert capfd.readouterr() == ("", "")


class Noisy(seqcells.modifiers.Modifier):
    """A modifier that draws `noise(hidden)` in evaluation mode as well."""

    def __init__(self, cell, noise):
        super().__init__(cell)
        self.fixed = noise

    def draw(self, state, steps):
        return self.fixed(self.output(state))


@pytest.mark.parametrize(
    "noise",
    [
        lambda hidden: seqcells.Noise(candidate=torch.ones(1, *hidden.shape)),
        lambda hidden: seqcells.Noise(hidden=torch.ones_like(hidden)),
        lambda hidden: seqcells.Noise(zone=(hidden, hidden[None])),
    ],
    ids=["candidate_per_step", "hidden", "zone_per_step"],
)
def test_noise_in_evaluation_raises(noise):
    cell = Noisy(seqcells.LSTMCell(I, H), noise).eval()
    with pytest.raises(ValueError, match=r"without noise in evaluation mode, got Noisy.*remove"):
        to_stateful_onnx(cell)


@pytest.mark.parametrize(
    "cell",
    [
        seqcells.LSTMCell(I, H),
        seqcells.GRUCell(I, H, reset_after=False),
        seqcells.MultiplicativeLSTMCell(I, H),
        seqcells.IndRNNCell(I, H),
    ],
    ids=str,
)
def test_constant_factors(cell):
    def noise(hidden):
        factor = torch.linspace(-1, 1, cell.weight_hh.numel()).reshape(cell.weight_hh.shape)
        takes_candidate = not isinstance(cell, seqcells.IndRNNCell)
        candidate = torch.full_like(hidden, 0.5) if takes_candidate else None
        return seqcells.Noise(candidate=candidate, weight_hh=factor)

    check(Noisy(cell, noise))


def test_equations_are_recorded_again_after_a_change():
    cell = Reduced(I, H)
    check(cell)
    cell.scale = 0.2
    check(cell)
