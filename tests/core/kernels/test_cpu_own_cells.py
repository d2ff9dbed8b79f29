"""Kernels for a user's cell from its `activate`: interpreted, or compiled on request."""

import os
import subprocess
import sys

import pytest
import torch
from parity import F64, close, leaves, random
from torch.autograd import gradcheck, gradgradcheck

import seqcells
from seqcells.kernels import cpu
from seqcells.kernels.cpu.compiler import cache_folder
from seqcells.recurrence import operators
from tests.versions import since

T, B, I, H = 9, 4, 3, 21  # noqa: E741
LENGTHS = [9, 0, 3, 7]

pytestmark = pytest.mark.skipif(
    cpu.unavailable() is not None, reason=f"no native code here: {cpu.unavailable()}"
)


class Blend(seqcells.GatedCell, compile=True):
    """A state of two parts, a gate that separates its products, parameters and a number."""

    gates = ("carry", "reset", "candidate")

    def __init__(self, *sizes, slope=0.3, **options):
        super().__init__(*sizes, **options)
        self.slope = slope
        shape = (2 * self.hidden_size,)
        self.scale = torch.nn.Parameter(torch.rand(shape, dtype=self.weight_ih.dtype))

    def initial_state(self, batch_size, **options):
        return (super().initial_state(batch_size, **options),) * 2

    def activate(self, from_input, from_hidden, state):
        _, slow = state
        inward, inner = self.scale.chunk(2)
        input_carry, input_reset, input_candidate = from_input.chunk(3, dim=-1)
        hidden_carry, hidden_reset, hidden_candidate = from_hidden.chunk(3, dim=-1)
        carry = torch.sigmoid(input_carry + hidden_carry + inward * slow)
        reset = torch.sigmoid(input_reset + hidden_reset)
        candidate = torch.tanh(input_candidate + reset * hidden_candidate)
        slow = carry * slow + (1 - carry) * torch.clamp(candidate, -0.9, self.slope)
        return (inner * slow + candidate, slow), (carry, reset, candidate)


class Interpreted(Blend, compile=False):
    """The same cell without a compiler."""


BOTH = pytest.mark.parametrize("kind", [Blend, Interpreted])


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    """Compile in every run of the tests, without optimisation for speed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQCELLS_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("CXXFLAGS", "-O1")
        yield


def compute(recurrent, backend, dtype=F64, **options):
    recurrent.zero_grad()
    torch.manual_seed(1)
    inputs = random(T, B, I, dtype=dtype).requires_grad_()
    start = tuple(random(B, H, dtype=dtype).requires_grad_() for _ in range(2))
    with seqcells.backend(backend):
        outputs, final = recurrent(inputs, start, **options)
        results = [outputs, *leaves(final)]
        torch.autograd.backward(results, [random(*part.shape, dtype=dtype) for part in results])
    grads = [source.grad for source in (inputs, *start, *recurrent.parameters())]
    return [part.detach() for part in results], grads


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("form", ["padded", "lengths", "resets"])
@BOTH
def test_results_and_gradients_equal_the_loop(kind, form, reverse):
    recurrent = seqcells.Recurrent(kind(I, H, dtype=F64), reverse=reverse)
    options = {
        "padded": {},
        "lengths": {"lengths": LENGTHS},
        "resets": {"resets": torch.rand(T, B) < 0.3, "lengths": LENGTHS},
    }[form]
    close(compute(recurrent, "cpu", **options), compute(recurrent, "reference", **options))


@BOTH
def test_float32_equals_the_loop(kind):
    recurrent = seqcells.Recurrent(kind(I, H))
    ours, loop = (compute(recurrent, backend, torch.float32) for backend in ("cpu", "reference"))
    close(ours, loop, 1e-5)


@BOTH
def test_the_kernel_ran(kind, monkeypatch):
    ran = []
    forward = cpu.forward
    monkeypatch.setattr(
        cpu, "forward", lambda *a, **o: ran.append(a[0].kernel.name) or forward(*a, **o)
    )
    seqcells.Recurrent(kind(I, H))(torch.randn(T, B, I))
    (kernel,) = ran
    prefix = "compiled " if kind is Blend else ""
    assert kernel.startswith(f"{prefix}gates 3 hidden 1 states 2 parameters 2\n")


@BOTH
def test_gradients_of_gradients(kind):
    recurrent = seqcells.Recurrent(kind(2, 3, dtype=F64))
    inputs, scale = random(6, 2, 2).requires_grad_(), recurrent.cell.scale

    def run(inputs, scale):
        return torch.func.functional_call(recurrent, {"cell.scale": scale}, (inputs,))[0]

    assert gradcheck(run, (inputs, scale))
    assert gradgradcheck(run, (inputs, scale))


@BOTH
def test_a_number_that_changes_changes_the_results(kind):
    cell = kind(I, H, dtype=F64)
    inputs = 3 * random(T, B, I)
    recurrent = seqcells.Recurrent(cell)
    before = recurrent(inputs)[0]
    cell.slope = -0.2
    after = recurrent(inputs)[0]
    assert not torch.equal(before, after)
    with seqcells.backend("reference"):
        close(after, recurrent(inputs)[0])


def test_a_parameter_that_no_step_reads_gets_its_gradient():
    class Started(Blend):
        def __init__(self, *sizes, **options):
            super().__init__(*sizes, **options)
            self.start = torch.nn.Parameter(torch.rand(2, self.hidden_size, dtype=F64))

        def initial_state(self, batch_size, **options):
            return tuple(part.expand(batch_size, -1) for part in self.start)

    class StartedGRU(seqcells.MinGRUCell):
        def __init__(self, *sizes, **options):
            super().__init__(*sizes, **options)
            self.start = torch.nn.Parameter(torch.rand(self.hidden_size, dtype=F64))

        def initial_state(self, batch_size, **options):
            return self.start.expand(batch_size, -1)

    for cell in (Started(I, H, dtype=F64), StartedGRU(I, H, dtype=F64)):
        found = []
        for backend in ("cpu", "reference"):
            torch.manual_seed(0)
            with seqcells.backend(backend):
                outputs = seqcells.Recurrent(cell)(random(T, B, I))[0]
                found.append([outputs, *torch.autograd.grad(outputs.sum(), cell.start)])
        close(*found)


def test_both_directions_and_layers_in_a_stack():
    stack = seqcells.Stack(
        [(Blend(I, 5, dtype=F64), Blend(I, 5, dtype=F64)), Blend(10, 4, dtype=F64)]
    )
    inputs = random(T, B, I)
    with seqcells.backend("cpu"):
        ours = stack(inputs, lengths=LENGTHS)
    with seqcells.backend("reference"):
        close(ours, stack(inputs, lengths=LENGTHS))


@BOTH
def test_weights_may_be_parametrized(kind):
    cell = torch.nn.utils.parametrizations.weight_norm(kind(I, H, dtype=F64), "scale", dim=0)
    recurrent = seqcells.Recurrent(cell)
    close(compute(recurrent, "cpu"), compute(recurrent, "reference"))


@since("2.13", "torch.compile finds no kernels of user-defined cells")
@BOTH
def test_the_kernel_is_one_node_under_torch_compile(kind):
    graphs = []

    def look(graph, _):
        graphs.append(graph)
        return graph

    recurrent, inputs = seqcells.Recurrent(kind(I, H)), torch.randn(T, B, I)
    expected = recurrent(inputs)
    torch._dynamo.reset()
    close(torch.compile(recurrent, backend=look, fullgraph=True)(inputs), expected)
    (graph,) = graphs
    assert [node.target for node in graph.graph.nodes].count(operators.recurrence) == 1


@BOTH
def test_a_graph_is_guarded_on_what_activate_reads(kind):
    cell = kind(I, H, dtype=F64)
    recurrent, inputs = seqcells.Recurrent(cell), 3 * random(T, B, I)
    torch._dynamo.reset()
    compiled = torch.compile(recurrent, backend="aot_eager", fullgraph=True)
    for slope in (0.3, -0.2, 0.6):  # before it was ever run, and after
        cell.slope = slope
        found = compiled(inputs)
        close(found, recurrent(inputs))
    assert not torch.equal(found[0], compiled(0.5 * inputs)[0])


@BOTH
@pytest.mark.parametrize(
    "strict", [pytest.param(True, marks=since("2.13", "a strict export finds no kernels")), False]
)
def test_a_cell_exports_before_its_first_call(kind, strict):
    recurrent, inputs = seqcells.Recurrent(kind(I, H)), torch.randn(T, B, I)
    program = torch.export.export(recurrent, (inputs,), strict=strict)
    targets = [node.target for node in program.graph.nodes]
    assert targets.count(operators.recurrence) == 1
    close(program.module()(inputs), recurrent(inputs), 1e-6)


def test_other_processes_reuse_the_compiled_kernel(monkeypatch):
    """And tracing a cell imports no compiler of PyTorch."""
    seqcells.Recurrent(Blend(I, H))(torch.randn(T, B, I))
    assert cache_folder().stat().st_mode & 0o077 == 0
    stamps = {path: path.stat().st_mtime_ns for path in cache_folder().iterdir()}
    assert stamps
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    code = (
        "import sys, torch, seqcells\n"
        "from test_cpu_own_cells import Blend, Interpreted\n"
        "seqcells.Recurrent(Interpreted(3, 21))(torch.randn(9, 4, 3))\n"
        "assert 'torch._dynamo' not in sys.modules\n"
        "with seqcells.backend('cpu'): seqcells.Recurrent(Blend(3, 21))(torch.randn(9, 4, 3))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {path: path.stat().st_mtime_ns for path in cache_folder().iterdir()} == stamps


@pytest.mark.slow
def test_an_exported_program_runs_in_another_process(tmp_path, monkeypatch):
    for kind in (Blend, Interpreted):
        recurrent, inputs = seqcells.Recurrent(kind(I, H)), torch.randn(T, B, I)
        expected = recurrent(inputs)[0]
        program = torch.export.export(recurrent, (inputs,))
        torch.export.save(program, tmp_path / f"{kind.__name__}.pt2")
        torch.save((inputs, expected), tmp_path / f"{kind.__name__}.pt")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    code = (
        "import sys, torch, seqcells\n"
        "for kind in ('Blend', 'Interpreted'):\n"
        "    program = torch.export.load(f'{sys.argv[1]}/{kind}.pt2').module()\n"
        "    inputs, expected = torch.load(f'{sys.argv[1]}/{kind}.pt')\n"
        "    torch.testing.assert_close(program(inputs)[0], expected)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path)], check=True)


def test_without_a_compiler_the_kernel_is_interpreted_and_a_named_backend_raises(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    recurrent = seqcells.Recurrent(Blend(I, H, slope=0.125))
    ran, forward = [], cpu.forward
    with monkeypatch.context() as patch:
        patch.setattr(
            cpu, "forward", lambda *a, **o: ran.append(a[0].kernel.name) or forward(*a, **o)
        )
        recurrent(torch.randn(T, B, I))
    assert ran[0].startswith("gates")
    with (
        seqcells.backend("cpu"),
        pytest.raises(RuntimeError, match=r"cannot be compiled .*no-such-compiler.*g\+\+ or clang"),
    ):
        recurrent(torch.randn(T, B, I))
