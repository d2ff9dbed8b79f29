"""The operators on their own: PyTorch's own checks, and what they keep, return and refuse."""

import copy

import pytest
import torch
from core_helpers import F64, OUR_CELLS, close, leaves, make_cell, random, random_state
from torch.autograd import forward_ad
from torch.library import opcheck

import seqcells
from seqcells.cells.base import EQUATIONS
from seqcells.kernels import operators
from seqcells.unroll import kernel_of

T, B, I, H = 4, 3, 4, 5  # noqa: E741
FORMS = ["padded", "lengths", "packed", "resets", "lengths_resets_reverse", "packed_reverse"]
GRID = pytest.mark.parametrize(
    ("kind", "form"), [(kind, form) for kind in OUR_CELLS for form in FORMS], ids="-".join
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
    weights = [part if part is None or grad else part.detach() for part in cell.weights()]
    if resets is None:
        fresh = []
    steps = (lengths, batch_sizes, resets, "reverse" in form)
    return kernel_of(cell), inputs, state, *weights, fresh, *steps


@GRID
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
def test_the_operator_is_sound(kind, form, grad):
    opcheck(operators.recurrence, arguments(kind, form, grad))


@GRID
def test_the_private_operators_are_sound(kind, form):
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    call = arguments(kind, form)
    opcheck(torch.ops.seqcells._train.default, call, test_utils=checks)
    *results, kept = torch.ops.seqcells._train(*call)
    ends = [torch.randn_like(result) for result in results]
    nothing = [None] * len(results)
    for grads, needs in (
        (ends, (True, True)),
        ([ends[0], *nothing[1:]], (False, True)),
        ([None, *ends[1:]], (True, False)),
        ([*nothing[1:], ends[-1]], (False, False)),
    ):
        rest = (results[0], kept, *needs)
        opcheck(torch.ops.seqcells._backward.default, (grads, *call, *rest), test_utils=checks)


@GRID
def test_it_is_the_readable_loop(kind, form):
    """Results and gradients, through the operator and through the loop that specifies it."""
    call = operators.Call(*arguments(kind, form, grad=True))
    sources = [part for part in call.tensors if part is not None]
    found, expected = operators.recurrence(*call), operators._readable(*call)
    close(found, expected)
    upstream = [torch.randn_like(part) for part in found]
    close(
        list(torch.autograd.grad(found, sources, upstream)),
        list(torch.autograd.grad(expected, sources, upstream)),
    )


@pytest.mark.parametrize("form", ["padded", "lengths_resets_reverse"])
@pytest.mark.parametrize("kind", OUR_CELLS)
def test_only_what_is_wanted_is_computed(kind, form):
    """One source at a time: the others are frozen."""
    call = operators.Call(*arguments(kind, form))
    for number in range(len(call.tensors)):
        tensors = [None if part is None else part.detach() for part in call.tensors]
        if tensors[number] is None:
            continue
        tensors[number].requires_grad_()
        one = operators.Call.join(*call.steps, *tensors)
        found, expected = operators.recurrence(*one), operators._readable(*one)
        for result, other in zip(found, expected):
            (gradient,) = torch.autograd.grad(
                result.square().sum(), tensors[number], allow_unused=True, retain_graph=True
            )
            (wanted,) = torch.autograd.grad(
                other.square().sum(), tensors[number], materialize_grads=True, retain_graph=True
            )
            close(torch.zeros_like(wanted) if gradient is None else gradient, wanted)


def test_inference_keeps_nothing():
    saved = []
    call = arguments("lstm", "padded", grad=True)
    with torch.autograd.graph.saved_tensors_hooks(saved.append, lambda held: held), torch.no_grad():
        results = operators.recurrence(*call)
    assert not saved
    assert not any(result.requires_grad for result in results)
    assert not any(part.requires_grad for part in operators.recurrence(*arguments("gru", "padded")))


def test_what_is_private_in_torch_is_still_there():
    """These have no public name; a torch without one of them would change silently."""
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


def test_every_kernel_has_its_equations_and_no_other_has():
    assert {kernel_of(make_cell(kind)) for kind in OUR_CELLS} == set(EQUATIONS)
    for name, cell in EQUATIONS.items():
        assert kernel_of(cell) == name


def variants():
    class Stepping(seqcells.GRUCell):
        def step(self, weights, from_input, state):
            return super().step(weights, from_input, state)

    class Activating(seqcells.LSTMCell):
        @staticmethod
        def activate(from_input, from_hidden, state):
            return seqcells.LSTMCell.activate(from_input, from_hidden, state)

    class Putting(seqcells.RNNCell):
        def output(self, state):
            return state

    class Mixin:
        def step(self, weights, from_input, state):
            return super().step(weights, from_input, state)

    class Mixed(Mixin, seqcells.LSTMCell):
        pass

    class Below(Stepping):
        pass

    yield from (Stepping, Activating, Putting, Mixed, Below)


@pytest.mark.parametrize("kind", [*variants()])
def test_a_subclass_with_equations_of_its_own_has_no_kernel(kind):
    assert kernel_of(kind(I, H)) is None


def test_an_instance_with_equations_of_its_own_has_no_kernel():
    cell = make_cell("gru")
    cell.step = copy.copy(cell.step)
    assert kernel_of(cell) is None


def test_a_class_changed_afterwards_has_no_kernel(monkeypatch):
    monkeypatch.setattr(seqcells.GRUCell, "step", lambda *arguments: None)
    assert kernel_of(make_cell("gru")) is None


def test_a_subclass_with_other_weights_or_another_start_keeps_it():
    class Doubled(seqcells.LSTMCell):
        def weights(self):
            weights = super().weights()
            return weights._replace(weight_hh=weights.weight_hh * 2)

        def initial_state(self, batch_size, *, device=None, dtype=None):
            return super().initial_state(batch_size, device=device, dtype=dtype)

    assert kernel_of(Doubled(I, H, dtype=F64)) == "lstm"
