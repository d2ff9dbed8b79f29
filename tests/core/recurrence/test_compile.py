"""Compiled models: one graph for all shapes and any number of steps, the same results."""

import pytest
import torch
from functorch.compile import make_boxed_func
from parity import close, leaves
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import seqcells
from seqcells import Recurrent
from tests.versions import since, without

I, H = 4, 6  # noqa: E741
SHAPES = [(10, 3), (50, 3), (7, 5), (12, 2)]

MODELS = {
    "rnn": lambda: seqcells.RNN(I, H),
    "gru": lambda: seqcells.GRU(I, H, batch_first=True),
    "lstm": lambda: seqcells.LSTM(I, H),
    "deep": lambda: seqcells.LSTM(I, H, num_layers=2, bidirectional=True, proj_size=2),
    "dropout": lambda: seqcells.GRU(I, H, num_layers=2, dropout=0.5).eval(),
    "recurrent_rnn": lambda: Recurrent(seqcells.RNNCell(I, H, nonlinearity="relu")),
    "recurrent_gru": lambda: Recurrent(seqcells.GRUCell(I, H), batch_first=True),
    "recurrent_before": lambda: Recurrent(seqcells.GRUCell(I, H, reset_after=False), reverse=True),
    "recurrent_lstm": lambda: Recurrent(seqcells.LSTMCell(I, H), reverse=True),
    "stack": lambda: seqcells.Stack(
        [(seqcells.GRUCell(I, 2), seqcells.GRUCell(I, 2)), seqcells.LSTMCell(4, 4)], residual=True
    ),
}


def with_data(packed, data):
    return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)


class Reader(nn.Module):
    """A user's model around a recurrence."""

    def __init__(self, recurrence):
        super().__init__()
        self.embed, self.recurrence, self.head = nn.Linear(I, I), recurrence, nn.LazyLinear(1)

    def forward(self, inputs, lengths=None):
        if isinstance(inputs, PackedSequence):
            outputs, state = self.recurrence(with_data(inputs, self.embed(inputs.data)))
            return with_data(outputs, self.head(outputs.data)), state
        outputs, state = self.recurrence(self.embed(inputs), lengths=lengths)
        return self.head(outputs), state


class Graphs:
    """Record the graphs in place of compiling them."""

    def __init__(self):
        torch.compiler.reset()
        self.forward, self.backward = [], []
        self.backend = aot_autograd(
            fw_compiler=self._keep(self.forward), bw_compiler=self._keep(self.backward)
        )

    @staticmethod
    def _keep(graphs):
        def compiler(graph, inputs):
            graphs.append(graph)
            return make_boxed_func(graph)

        return compiler

    def sizes(self):
        return [len(graph.graph.nodes) for graph in (*self.forward, *self.backward)]

    def operators(self):
        nodes = [node for graph in (*self.forward, *self.backward) for node in graph.graph.nodes]
        return {str(node.target) for node in nodes if "seqcells" in str(node.target)}


def tensors(result):
    """Return outputs and states; of a packed sequence, its data."""
    outputs, state = result
    return [outputs.data if isinstance(outputs, PackedSequence) else outputs, *leaves(state)]


def loss(result):
    return sum(part.square().sum() for part in tensors(result))


def agree(model, arguments, compiled, tolerance=1e-5):
    """Require equal results and gradients up to rounding."""
    close(tensors(compiled(*arguments)), tensors(model(*arguments)), tolerance)
    parameters = list(model.parameters())
    found = torch.autograd.grad(loss(compiled(*arguments)), parameters)
    expected = torch.autograd.grad(loss(model(*arguments)), parameters)
    close(list(found), list(expected), 10 * tolerance)


def ready(kind):
    """Return a model whose lazy head is initialised."""
    model = Reader(MODELS[kind]())
    model(torch.randn(2, 2, I))
    return model


def some_inputs(model, steps, rows):
    inputs = torch.randn(steps, rows, I)
    return inputs.transpose(0, 1) if "batch_first=True" in repr(model) else inputs


FEW = ("lstm", "recurrent_gru")
QUICK = ("deep", "stack")  # compiling takes long


def every_model(*quick):
    return [
        *(
            pytest.param(kind, True, marks=[] if kind in quick else pytest.mark.slow)
            for kind in MODELS
        ),
        pytest.param(FEW[0], False, marks=pytest.mark.slow),
        (FEW[1], False),
    ]


@pytest.mark.parametrize(("kind", "ragged"), every_model(*QUICK))
def test_one_graph_serves_all_shapes(kind, ragged):
    model, graphs = ready(kind), Graphs()
    compiled = torch.compile(model, backend=graphs.backend, fullgraph=True, dynamic=True)
    for steps, rows in SHAPES:
        lengths = torch.randint(0, steps + 1, (rows,)) if ragged else None
        agree(model, (some_inputs(model, steps, rows), lengths), compiled)
    assert (len(graphs.forward), len(graphs.backward)) == (1, 1)
    assert graphs.operators() == {"seqcells._train.default", "seqcells._backward.default"}


@since("2.8", "Dynamo cannot create a PackedSequence")
@pytest.mark.parametrize(
    "rows",
    [
        [[2, 6, 3], [1, 5], [3, 3, 4, 2]],
        pytest.param([[6, 3, 2], [5, 5, 1], [4, 3]], marks=pytest.mark.slow),
    ],
    ids=["unsorted", "sorted"],
)
@without("2.12", "Dynamo fails with an IndexError for a PackedSequence")
@pytest.mark.parametrize("kind", ["deep", pytest.param("gru", marks=pytest.mark.slow)])
def test_packed_input_and_output_compile(kind, rows):
    model, graphs = ready(kind), Graphs()
    compiled = torch.compile(model, backend=graphs.backend, fullgraph=True, dynamic=True)
    for lengths in rows:
        in_order = lengths == sorted(lengths, reverse=True)
        padded = torch.randn(6, len(lengths), I)
        packed = pack_padded_sequence(padded, lengths, enforce_sorted=in_order)
        agree(model, (packed,), compiled)
        assert isinstance(compiled(packed)[0], PackedSequence)
        assert torch.equal(compiled(packed)[0].batch_sizes, packed.batch_sizes)
    assert (len(graphs.forward), len(graphs.backward)) == (1, 1)


@pytest.mark.parametrize(("kind", "training"), every_model("lstm"))
def test_the_graph_does_not_grow_with_the_steps(kind, training):
    sizes = []
    for steps in (10, 500):
        model, graphs = ready(kind), Graphs()
        compiled = torch.compile(model, backend=graphs.backend, fullgraph=True)
        with torch.set_grad_enabled(training):
            value = loss(compiled(some_inputs(model, steps, 3)))
        if training:
            value.backward()
        sizes.append(graphs.sizes())
        assert len(sizes[-1]) == 1 + training
    assert sizes[0] == sizes[1]
    assert ("seqcells.recurrence.default" in graphs.operators()) == (not training)


def test_resets_and_a_carried_state_compile():
    model, graphs = seqcells.LSTM(I, H), Graphs()
    compiled = torch.compile(model, backend=graphs.backend, fullgraph=True, dynamic=True)
    for steps, rows in SHAPES:
        inputs, hx = torch.randn(steps, rows, I), (torch.randn(1, rows, H), torch.randn(1, rows, H))
        resets = torch.rand(steps, rows) < 0.3
        found, expected = (run(inputs, hx, resets=resets) for run in (compiled, model))
        close(tensors(found), tensors(expected), 1e-5)
    assert len(graphs.forward) == 1


def test_a_cell_without_a_kernel_compiles_step_by_step():
    class Mine(seqcells.GRUCell):
        def step(self, weights, from_input, state):
            state, gates = super().step(weights, from_input, state)
            return state * 0.5, gates

    model, graphs = Recurrent(Mine(I, H)), Graphs()
    compiled = torch.compile(model, backend=graphs.backend, fullgraph=True)
    agree(model, (torch.randn(5, 3, I),), compiled)
    assert graphs.operators() == set()


def test_graphs_are_guarded_on_the_backend():
    """A compiled model uses the chosen backend, and compiles again when it changes."""
    model, graphs = seqcells.GRU(I, H), Graphs()
    compiled = torch.compile(model, backend=graphs.backend, fullgraph=True)
    inputs = torch.randn(3, 2, I)
    with torch.no_grad():
        compiled(inputs)
        with seqcells.backend("reference"):
            close(compiled(inputs), model(inputs), 1e-6)
        compiled(inputs)
    assert len(graphs.forward) == 2
    assert "seqcells" in str(graphs.forward[0].graph)
    assert "seqcells" not in str(graphs.forward[1].graph)


def test_a_backend_chosen_inside_a_compiled_function_is_used():
    layer, graphs = seqcells.GRU(I, H), Graphs()

    def model(inputs):
        with seqcells.backend("reference"):
            first, _ = layer(inputs)
        return first + layer(inputs)[0]

    inputs = torch.randn(3, 2, I)
    compiled = torch.compile(model, backend=graphs.backend, fullgraph=True)
    close(compiled(inputs), model(inputs), 1e-6)
    assert str(graphs.forward[0].graph).count("torch.ops.seqcells") == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_compile(dtype):
    model, graphs = seqcells.LSTM(I, H, dtype=dtype), Graphs()
    compiled = torch.compile(model, backend=graphs.backend, fullgraph=True)
    inputs = torch.randn(5, 3, I, dtype=dtype)
    agree(model, (inputs,), compiled, 10 * torch.finfo(dtype).eps)
    assert compiled(inputs)[0].dtype == dtype
    assert graphs.operators() == {"seqcells._train.default", "seqcells._backward.default"}


def test_autocast_compiles():
    model, graphs = seqcells.LSTM(I, H), Graphs()
    compiled = torch.compile(model, backend=graphs.backend, fullgraph=True)
    inputs = torch.randn(5, 3, I)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = compiled(inputs), model(inputs)
    assert [part.dtype for part in tensors(found)] == [torch.bfloat16] * 3
    close(tensors(found), tensors(expected), 1e-2)


def test_a_transform_inside_a_compiled_function_compiles():
    layer, graphs = seqcells.GRU(I, H), Graphs()
    compiled = torch.compile(
        lambda inputs: torch.vmap(lambda one: layer(one)[0])(inputs), backend=graphs.backend
    )
    inputs = torch.randn(4, 3, 2, I)
    close(compiled(inputs), torch.stack([layer(one)[0] for one in inputs]), 1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*is deprecated")
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["recurrent_gru", "stack"])
def test_results_under_inductor_are_equal(kind):
    torch.compiler.reset()
    model = ready(kind) if kind == "stack" else MODELS[kind]()  # inductor runs a C++ compiler
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for steps, rows in SHAPES:
        inputs, lengths = some_inputs(model, steps, rows), torch.randint(0, steps + 1, (rows,))
        run, expected = (
            lambda inputs, n, call=call: call(inputs, lengths=n) for call in (compiled, model)
        )
        expected.parameters = model.parameters
        agree(expected, (inputs, lengths), run)
