"""Dispatch: which backend runs a call, and the errors where a named backend cannot."""

import threading

import pytest
import torch
from cell_table import CELLS, CLASSIC, LAYERS, Highway, Leaky, make_cell, make_layers
from parity import close, leaves, random, same
from torch.utils._python_dispatch import TorchDispatchMode

import seqcells
from seqcells import Recurrent, backend, backends
from seqcells.equations.catalogue import kernel_of
from seqcells.kernels import cpu
from seqcells.kernels.call import Call
from seqcells.kernels.triton import availability
from seqcells.recurrence import choice
from seqcells.recurrence.choice import refusal

T, B, I, H = 5, 3, 4, 5  # noqa: E741
NATIVE = pytest.mark.skipif(cpu.unavailable() is not None, reason="no native code on this machine")


def call_of(kernel):
    """Return a call of this kernel with zeros."""
    kind = kernel_of(kernel)
    state = [torch.zeros(B, H, dtype=torch.float64) for _ in range(kind.states)]
    weights = [torch.zeros(kind.gates * H, width, dtype=torch.float64) for width in (I, H)]
    inputs, nothing = torch.zeros(T, B, I, dtype=torch.float64), [None] * 4
    rest = [], None, None, [], None, None, None, False, False
    return Call.of(kernel, inputs, state, *weights, *nothing, *rest)


class Operators(TorchDispatchMode):
    """Record our operators that are called inside the context."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "seqcells":
            self.seen.append(function._opname)
        return function(*args, **(kwargs or {}))


@pytest.fixture
def native(monkeypatch):
    """Return the list of calls of the native code."""
    calls = []
    for name in ("forward", "backward"):
        run = getattr(cpu, name)

        def counted(*arguments, name=name, run=run, **options):
            calls.append(name)
            return run(*arguments, **options)

        monkeypatch.setattr(cpu, name, counted)
    return calls


def calls(model, inputs, native, **options):
    native.clear()
    with Operators() as operators:
        outputs, _ = model(inputs, **options)
        outputs.data.new_zeros(())
        if outputs.requires_grad:
            outputs.sum().backward()
    return operators.seen, list(native)


@NATIVE
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_runs_the_kernel(kind, dtype, native):
    model, _ = make_layers(kind, I, H, dtype=dtype)
    inputs = random(T, B, I, dtype=torch.float32).to(dtype)
    trained = (["_train", "_backward"], ["forward", "backward"])
    assert calls(model, inputs, native) == trained
    assert calls(model, inputs, native, lengths=[1, 0, 5]) == trained
    with torch.no_grad():
        assert calls(model, inputs, native) == (["recurrence"], ["forward"])
    with backend("reference"):
        assert calls(model, inputs, native) == ([], [])


@NATIVE
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", CLASSIC)
def test_a_cell_over_time_runs_the_kernel(kind, reverse, native):
    run = Recurrent(make_cell(kind, I, H), reverse=reverse)
    trained = (["_train", "_backward"], ["forward", "backward"])
    assert calls(run, random(T, B, I), native) == trained
    resets = torch.rand(T, B) < 0.3
    assert calls(run, random(T, B, I), native, lengths=[1, 0, 5], resets=resets) == trained


@NATIVE
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_of_a_short_type_runs_the_kernel(kind, dtype, native):
    run, inputs = Recurrent(make_cell(kind, I, H)).to(dtype), random(T, B, I).to(dtype)
    assert calls(run, inputs, native)[1] == ["forward", "backward"]
    outputs, _ = run(inputs)
    exact, _ = run.float()(inputs.float())
    if dtype is torch.float16:  # computed in float32
        assert torch.equal(outputs, exact.to(dtype))
    else:
        torch.testing.assert_close(outputs.float(), exact, atol=0.03, rtol=0)


class Stepping(seqcells.GRUCell):
    def step(self, weights, from_input, state):
        state, gates = super().step(weights, from_input, state)
        return state.round(decimals=1), gates


class Hooked(seqcells.GRUCell):
    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.register_forward_hook(lambda *_: None)


class Softened(Highway):
    @staticmethod
    def activate(from_input, from_hidden, state):
        state, gates = Highway.activate(from_input, from_hidden, state)
        return state.softmax(-1), gates


OTHERS = {
    "leaky": Leaky,
    "softmax": lambda: Softened(I, H, dtype=torch.float64),
    "torch": lambda: torch.nn.GRUCell(I, H, dtype=torch.float64),
    "step": lambda: Stepping(I, H, dtype=torch.float64),
}


@NATIVE
def test_a_cell_with_a_hook_runs_the_kernel_per_step(native):
    run = Recurrent(Hooked(I, H, dtype=torch.float64))
    assert calls(run, random(T, B, I), native) == (
        ["_train"] * T + ["_backward"] * T,
        ["forward"] * T + ["backward"] * T,
    )


@pytest.mark.parametrize("name", OTHERS)
def test_another_cell_never_runs_the_kernel(name, native):
    run, inputs = Recurrent(OTHERS[name]()), random(T, B, I)
    assert calls(run, inputs, native) == ([], [])
    with backend("reference"):
        same(run(inputs), run(inputs))
    with (
        backend("cpu"),
        pytest.raises(RuntimeError, match=r"backend\('cpu'\) cannot run this: .*backend\('auto'\)"),
    ):
        run(inputs)


class Subclass(torch.Tensor):
    pass


@NATIVE
@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        (random(T, B, I, dtype=torch.float32).to("meta"), r"on the CPU, got meta; move"),
        (random(T, B, I, dtype=torch.float32).as_subclass(Subclass), "plain tensors, got a Sub"),
    ],
    ids=["device", "subclass"],
)
def test_unsupported_tensors_run_as_the_loop(inputs, words, native):
    model, _ = make_layers("gru", I, H, dtype=torch.float32)
    model.to(inputs.device)
    assert calls(model, inputs, native) == ([], [])
    with backend("cpu"), pytest.raises(RuntimeError, match=words):
        model(inputs)


def test_errors_name_the_obstacle():
    recurrent, inputs = Recurrent(make_cell("lstm", I, H)), random(T, B, I)
    with backend("cpu"):
        with pytest.raises(RuntimeError, match="float32, float64"):
            Recurrent(make_cell("gru", I, H, dtype=torch.complex64))(inputs.to(torch.complex64))
        with pytest.raises(RuntimeError, match="transforms of single steps"):
            torch.vmap(recurrent.cell)(inputs)
    mixed = call_of("lstm")._replace(weight_hh=torch.zeros(4 * H, H))
    assert "one dtype, got torch.float64 and torch.float32" in refusal("cpu", mixed)


@pytest.mark.filterwarnings("ignore::seqcells.MissingKernelWarning")
def test_without_native_code_the_loop_runs(monkeypatch):
    """Everything works; only a backend chosen by name raises."""
    reason = "it was not built; install a C++ compiler and install seqcells anew"
    monkeypatch.setattr(cpu, "unavailable", lambda: reason)
    monkeypatch.setattr(cpu, "forward", None)
    monkeypatch.setattr(cpu, "backward", None)
    assert backends()["cpu"] == f"not available: {reason}"
    model, _ = make_layers("lstm", I, H)
    inputs = random(T, B, I)
    outputs, _ = model(inputs)
    outputs.sum().backward()
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    found = torch.autograd.grad(compiled(inputs)[0].sum(), model.parameters())
    close(list(found), [parameter.grad for parameter in model.parameters()])
    with backend("cpu"), pytest.raises(RuntimeError, match="install a C"):
        model(inputs)
    words = "install a C" if torch.__version__ >= "2.8" else "RuntimeError"  # without the message
    with backend("cpu"), pytest.raises(Exception, match=words):
        compiled(inputs)


@pytest.mark.parametrize(("version", "old"), [("3.3.1", True), ("3.6.0", False), ("4.0", False)])
def test_an_old_triton_is_refused_with_its_version(version, old, monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    monkeypatch.setattr(availability, "installed", lambda: True)
    availability.outdated.cache_clear()
    found = availability.unavailable() or ""
    availability.outdated.cache_clear()
    assert (found == f"expected Triton 3.6 or later, got {version}; upgrade PyTorch") == old


@NATIVE
def test_backends_reports_this_machine():
    assert set(backends()) == {"reference", "cpu", "triton", "cudnn"}
    assert backends()["reference"].startswith("available: ")
    assert cpu.instruction_set() in backends()["cpu"]
    assert f"{torch.get_num_threads()} thread" in backends()["cpu"]


def test_contexts_nest_and_end_after_an_error():
    def chosen():
        return choice._requested

    assert chosen() == "auto"
    with backend("reference"):
        with pytest.raises(KeyError), backend("cpu"):
            raise KeyError(chosen())
        assert chosen() == "reference"
        with backend("auto"):
            assert chosen() == "auto"
    assert chosen() == "auto"


def test_an_unknown_backend_raises():
    words = "backend: expected one of auto, reference, cpu, triton, cudnn, got 'cuda'"
    with pytest.raises(ValueError, match=words), backend("cuda"):
        pass


def test_the_choice_holds_in_every_thread():
    seen = []
    with backend("reference"):
        model, _ = make_layers("gru", I, H)

        def work():
            with Operators() as operators:
                model(random(T, B, I))
            seen.append(operators.seen)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == [[]]


def test_an_initial_state_of_one_row_is_expanded():
    class Started(seqcells.GRUCell):
        def initial_state(self, batch_size, *, device=None, dtype=None):
            return torch.ones(1, H, dtype=dtype)

    cell, inputs = Started(I, H, dtype=torch.float64), random(T, B, I)
    with backend("reference"):
        expected = Recurrent(cell)(inputs)
    close(Recurrent(cell)(inputs), expected)
    assert leaves(expected)[0].shape == (T, B, H)
