"""The operators alone: PyTorch's `opcheck`, saved tensors, results and errors."""

import pytest
import torch
from cell_table import CLASSIC, make_cell
from parity import F64, close, leaves, random, random_state
from torch.autograd import forward_ad
from torch.library import opcheck

from seqcells.equations.catalogue import kernel_of
from seqcells.equations.recording import kernel_weights
from seqcells.kernels import cpu
from seqcells.recurrence import operators

T, B, I, H = 4, 3, 4, 5  # noqa: E741
FORMS = ["padded", "lengths", "packed", "resets", "lengths_resets_reverse", "packed_reverse"]
GRID = pytest.mark.parametrize(
    ("kind", "form"),
    [
        *((kind, form) for kind in CLASSIC for form in FORMS),
        *(("peephole_lstm", form) for form in ("lengths", "resets", "packed_reverse")),
    ],
)


def arguments(kind, form, grad=False, **options):
    """A call of the operator, as `unroll` makes it."""
    cell = make_cell(kind, I, H, **options)
    lengths = torch.tensor([2, 4, 0]) if "lengths" in form else None
    packed = "packed" in form
    batch_sizes = torch.tensor([3, 2, 2, 1]) if packed else None
    resets = torch.rand(T, B) < 0.4 if "resets" in form else None
    inputs = random(8, I) if packed else random(T, B, I)
    state, fresh = leaves(random_state(cell, B)), leaves(random_state(cell, B))
    for tensor in (inputs, *state, *fresh):
        tensor.requires_grad_(grad)
    weights = kernel_weights(kernel_of(cell.built_in_kernel()), cell, cell.weights())
    weights = [
        part if part is None or (part.is_leaf and grad) else part.detach().requires_grad_(grad)
        for part in weights
    ]
    if resets is None:
        fresh = []
    steps = (lengths, batch_sizes, resets, "reverse" in form)
    return cell.built_in_kernel(), inputs, state, *weights, fresh, None, None, [], *steps, False


CHECKS = ("test_schema", "test_faketensor", "test_autograd_registration")
# Tracing takes long: in the quick tests each cell has two forms and each form two cells.
TRACED = [
    pytest.param(kind, form, marks=[] if (n + m) % 3 == 0 else pytest.mark.slow)
    for n, kind in enumerate(CLASSIC)
    for m, form in enumerate(FORMS)
]


@GRID
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
def test_opcheck_accepts_the_operator(kind, form, grad):
    opcheck(operators.recurrence, arguments(kind, form, grad), test_utils=CHECKS)


@pytest.mark.parametrize(("kind", "form"), TRACED)
@pytest.mark.parametrize(
    "grad",
    [pytest.param(False, marks=pytest.mark.slow), True],
    ids=["inference", "training"],
)
def test_opcheck_traces_the_operator(kind, form, grad):
    call = arguments(kind, form, grad)
    opcheck(operators.recurrence, call, test_utils="test_aot_dispatch_dynamic")


@GRID
def test_opcheck_accepts_the_private_operators(kind, form):
    call = arguments(kind, form)
    opcheck(torch.ops.seqcells._train.default, call, test_utils=CHECKS)
    *results, saved = torch.ops.seqcells._train(*call)
    ends = [torch.randn_like(result) for result in results]
    nothing = [None] * len(results)
    for grads, needs in (
        (ends, (True, True)),
        ([ends[0], *nothing[1:]], (False, True)),
        ([None, *ends[1:]], (True, False)),
        ([*nothing[1:], ends[-1]], (False, False)),
    ):
        rest = (results[0], saved, *needs)
        opcheck(torch.ops.seqcells._backward.default, (grads, *call, *rest), test_utils=CHECKS)


def with_noise(call):
    """Return the call with factors and shares, and with every step's state."""
    rows = call.state[0].shape
    return call._replace(
        read=torch.rand(T, *rows, dtype=F64),
        drop=torch.rand(rows, dtype=F64),
        zone=[torch.rand(T, *rows, dtype=F64), torch.rand(rows, dtype=F64)],
        cells=True,
    )


@pytest.mark.parametrize("form", ["lengths_resets_reverse", "packed"])
def test_opcheck_accepts_noise_and_all_states(form):
    call = with_noise(operators.Call.of(*arguments("lstm", form, grad=True)))
    opcheck(operators.recurrence, call.arguments())
    call = with_noise(operators.Call.of(*arguments("lstm", form)))
    *results, saved = torch.ops.seqcells._train(*call.arguments())
    ends = [torch.randn_like(part) for part in results]
    rest = (ends, *call.arguments(), results[0], saved, True, True)
    opcheck(torch.ops.seqcells._backward.default, rest, test_utils=CHECKS)


@pytest.mark.filterwarnings("ignore::seqcells.MissingKernelWarning")
@pytest.mark.parametrize(("kind", "form"), [*zip(CLASSIC, FORMS), ("lstm", FORMS[0])])
def test_opcheck_accepts_the_operators_without_native_code(kind, form, monkeypatch):
    monkeypatch.setattr(cpu, "unavailable", lambda: "not built")
    test_opcheck_accepts_the_operator(kind, form, True)
    test_opcheck_traces_the_operator(kind, form, True)
    test_opcheck_accepts_the_private_operators(kind, form)


@pytest.mark.filterwarnings("ignore::seqcells.MissingKernelWarning")
def test_an_unused_weight_has_a_gradient_of_zero(monkeypatch):
    """The operators of the readable loop return zeros even where a weight is infinite."""
    monkeypatch.setattr(cpu, "unavailable", lambda: "not built")
    call = operators.Call.of(*arguments("lstm", "padded", grad=True))
    weight = torch.full_like(call.weight_ih, float("inf")).requires_grad_()
    call = call._replace(inputs=call.inputs.detach()[:0].requires_grad_(), weight_ih=weight)
    operators.recurrence(*call.arguments())[1].sum().backward()
    assert not weight.grad.any()


def test_noise_has_gradients():
    call = with_noise(operators.Call.of(*arguments("lstm", "padded", grad=True)))
    call = call._replace(
        read=call.read.requires_grad_(),
        drop=call.drop.requires_grad_(),
        zone=[part.requires_grad_() for part in call.zone],
    )
    sources = [part for part in (*call.tensors, *call.noise) if part is not None]
    for run in (operators.recurrence, lambda *given: operators.run(cpu, call, False)):
        grads = []
        for results in (run(*call.arguments()), operators.readable(call)):
            grads.append(torch.autograd.grad(sum(part.sin().sum() for part in results), sources))
        close(*grads)


@GRID
def test_results_and_gradients_equal_the_readable_loop(kind, form):
    call = operators.Call.of(*arguments(kind, form, grad=True))
    sources = [part for part in call.tensors if part is not None]
    found, expected = operators.recurrence(*call.arguments()), operators.readable(call)
    close(found, expected)
    upstream = [torch.randn_like(part) for part in found]
    close(
        list(torch.autograd.grad(found, sources, upstream)),
        list(torch.autograd.grad(expected, sources, upstream)),
    )


@pytest.mark.parametrize("form", ["padded", "lengths_resets_reverse"])
@pytest.mark.parametrize("kind", CLASSIC)
def test_each_gradient_alone_equals_the_readable_loop(kind, form):
    """One source at a time requires a gradient; the others are frozen."""
    call = operators.Call.of(*arguments(kind, form))
    for number in range(len(call.tensors)):
        tensors = [None if part is None else part.detach() for part in call.tensors]
        if tensors[number] is None:
            continue
        tensors[number].requires_grad_()
        layout, given = call.split()
        one = operators.Call.join(layout, [*tensors, *given[len(tensors) :]])
        found, expected = operators.recurrence(*one.arguments()), operators.readable(one)
        for result, other in zip(found, expected):
            (gradient,) = torch.autograd.grad(
                result.square().sum(), tensors[number], allow_unused=True, retain_graph=True
            )
            (wanted,) = torch.autograd.grad(
                other.square().sum(), tensors[number], materialize_grads=True, retain_graph=True
            )
            close(torch.zeros_like(wanted) if gradient is None else gradient, wanted)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*is deprecated")
@pytest.mark.parametrize("form", ["lengths_resets_reverse", "packed"])
@pytest.mark.parametrize("kind", CLASSIC)
def test_transforms_equal_those_of_the_readable_loop(kind, form):
    """Transform the bare operator, as in an exported program."""
    call = operators.Call.of(*arguments(kind, form))
    along = torch.randn_like(call.inputs)

    def value(run, inputs):
        return sum(part.square().sum() for part in run(*call._replace(inputs=inputs).arguments()))

    def transformed(run):
        def of_inputs(inputs):
            return value(run, inputs)

        yield torch.func.jvp(of_inputs, (call.inputs,), (along,))
        yield torch.func.grad(of_inputs)(call.inputs)
        yield torch.vmap(torch.func.grad(of_inputs))(torch.stack([call.inputs, along]))
        with forward_ad.dual_level():
            yield forward_ad.unpack_dual(of_inputs(forward_ad.make_dual(call.inputs, along)))
        leaf = call.inputs.clone().requires_grad_()
        first = torch.autograd.grad(of_inputs(leaf), leaf, create_graph=True)[0]
        yield torch.autograd.grad(first, leaf, torch.stack([first, along]), is_grads_batched=True)
        leaf = call.inputs.clone().requires_grad_()
        outputs = run(*call._replace(inputs=leaf).arguments())[0]
        upstream, moving = torch.stack([outputs.detach().cos(), outputs.detach().sin()])

        def backward(upstream):
            return torch.autograd.grad(outputs, leaf, upstream, retain_graph=True)

        yield torch.autograd.grad(
            outputs, leaf, torch.stack([upstream, moving]), True, is_grads_batched=True
        )
        yield torch.vmap(backward)(torch.stack([upstream, moving]))
        with forward_ad.dual_level():
            yield forward_ad.unpack_dual(backward(forward_ad.make_dual(upstream, moving))[0])

    answers = [
        list(transformed(run))
        for run in (
            operators.recurrence,
            lambda *given: operators.readable(operators.Call.of(*given)),
        )
    ]
    for found, expected in zip(*answers):
        close(found, expected)
        assert all(part.any() for part in leaves(found))


def spoilt(call):
    """Yield calls whose sizes do not fit; native code would overrun memory."""
    wide, long = torch.zeros(B, H + 1, dtype=F64), torch.zeros(B + 1, H, dtype=F64)
    yield call._replace(state=[wide, *call.state[1:]])
    yield call._replace(state=[long, *call.state[1:]])
    yield call._replace(state=[])
    yield call._replace(state=[*call.state, call.state[0]])
    yield call._replace(fresh=[wide, *call.fresh[1:]])
    yield call._replace(fresh=[])
    yield call._replace(inputs=call.inputs[..., 1:])
    yield call._replace(inputs=call.inputs[0, 0])
    yield call._replace(weight_hh=call.weight_hh[1:])
    yield call._replace(weight_ih=call.weight_ih[1:])
    yield call._replace(bias_hh=call.bias_hh[1:])
    yield call._replace(lengths=torch.tensor([1, 2]))
    yield call._replace(resets=call.resets[1:])
    yield call._replace(resets=call.resets.double())


@pytest.mark.skipif(cpu.unavailable() is not None, reason="no native code here")
@pytest.mark.parametrize("kind", CLASSIC)
def test_sizes_that_do_not_fit_raise(kind):
    call = operators.Call.of(*arguments(kind, "lengths_resets"))
    operators.recurrence(*call.arguments())
    for spoiled in spoilt(call):
        with pytest.raises(ValueError, match=r"expected .*got"):
            operators.recurrence(*spoiled.arguments())
    packed = operators.Call.of(*arguments(kind, "packed"))
    for sizes in ([3, 2, 2], [3, 2, 3], [4, 2, 1, 1], [2, 3, 2, 1], [], [3, 3, 3, -1]):
        with pytest.raises(ValueError, match=r"batch_sizes: expected .*got"):
            operators.recurrence(*packed._replace(batch_sizes=torch.tensor(sizes)).arguments())


@pytest.mark.skipif(cpu.unavailable() is not None, reason="no native code here")
def test_results_without_a_gradient_reach_the_kernel_as_none(monkeypatch):
    seen, backward = [], cpu.backward
    monkeypatch.setattr(cpu, "backward", lambda *call: seen.append(call[1]) or backward(*call))
    operators.recurrence(*arguments("lstm", "padded", grad=True))[2].sum().backward()
    ((outputs, hidden, cell),) = seen
    assert outputs is None
    assert hidden is None
    assert cell.shape == (B, H)


def test_inference_saves_no_tensors():
    saved = []
    call = arguments("lstm", "padded", grad=True)
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda held: held), torch.no_grad():
        results = operators.recurrence(*call)
    assert not saved
    assert not any(result.requires_grad for result in results)
    assert not any(part.requires_grad for part in operators.recurrence(*arguments("gru", "padded")))


def test_private_names_of_torch_exist():
    """Without one of these, which have no public name, behaviour would change silently."""
    assert torch._C._are_functorch_transforms_active() is False
    assert (
        torch.vmap(lambda x: x + torch._C._are_functorch_transforms_active())(torch.zeros(1)) == 1
    )
    assert forward_ad._current_level == -1
    with forward_ad.dual_level():
        assert forward_ad._current_level == 0
    below = torch._C._after_autograd_keyset
    assert not below.has(torch._C.DispatchKey.AutogradCPU)
    assert below.has(torch._C.DispatchKey.CPU)
    assert callable(operators.recurrence.redispatch)
    for key in ("Autograd", "FuncTorchDynamicLayerFrontMode", "CompositeExplicitAutograd"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key("seqcells::recurrence", key) or (
            key == "Autograd"
            and torch._C._dispatch_has_kernel_for_dispatch_key(
                "seqcells::recurrence", "AutogradCPU"
            )
        )
