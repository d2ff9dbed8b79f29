"""Messages of common mistakes: what was expected, what was given, what to do."""

import re
import traceback

import pytest
import torch
from torch import nn

import seqcells
from seqcells import GatedCell, Recurrent, Stack, Zoneout, backend, trace

T, B, I, H = 5, 4, 8, 16  # noqa: E741
X = torch.ones(T, B, I)

# Places where a cell runs, as functions of the cell and inputs (T, B, I).
PLACES = {
    "cell": lambda cell, x: cell(x[0]),
    "one_step": lambda cell, x: Recurrent(cell)(x[:1]),
    "steps": lambda cell, x: Recurrent(cell)(x),
    "lengths": lambda cell, x: Recurrent(cell)(x, lengths=[1, 2, 3, 4]),
    "reverse": lambda cell, x: Recurrent(cell, reverse=True)(x),
    "stack": lambda cell, x: Stack([nn.GRUCell(I, I), cell])(x),
    "modifier": lambda cell, x: Recurrent(Zoneout(cell, 0.1))(x),
    "trace": lambda cell, x: trace(Recurrent(cell), x),
}
BACKENDS = ["auto", "cpu", "reference"]


def refuses(kind, words, call, *arguments, **options):
    """Check the type of the error, its text, and that it says what was expected and given."""
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        call(*arguments, **options)
    text = str(caught.value)
    assert type(caught.value) is kind, text
    assert re.search("expected .*got", text), text
    assert ";" in text, f"no advice: {text}"


def own_cell(results, gates=("carry", "candidate"), softmax=False):
    """Return a cell whose `activate` returns `results(state, carry, candidate)`."""

    class Own(GatedCell):
        def activate(self, from_input, from_hidden, state):
            carry, candidate = (from_input + from_hidden).chunk(2, dim=-1)
            if softmax:  # no kernel supports it
                carry = carry.softmax(-1)
            return results(state, carry, candidate)

    Own.gates = gates
    return Own(I, H)


WRONG_RESULTS = {
    "no_gates": (
        lambda s, c, n: s,
        TypeError,
        r"Own.activate: expected \(next state, gates\), got a tensor of shape \(4, 16\); "
        r"write: return state, \(carry, candidate\)",
    ),
    "nothing": (lambda s, c, n: None, TypeError, r"\(next state, gates\), got None"),
    "not_nested": (lambda s, c, n: (s, c, n), TypeError, "got a tuple of 3"),
    "half_state": (
        lambda s, c, n: (s[:, :8], (c, n)),
        ValueError,
        r"next state of shape \(4, 16\), got \(4, 8\)",
    ),
    "one_row": (lambda s, c, n: (s[:1], (c, n)), ValueError, r"got \(1, 16\)"),
    "one_column": (lambda s, c, n: (s[:, :1], (c, n)), ValueError, r"got \(4, 1\)"),
    "mean": (lambda s, c, n: (s.mean(-1, True), (c, n)), ValueError, r"got \(4, 1\)"),
    "two_parts": (
        lambda s, c, n: ((s, s), (c, n)),
        TypeError,
        r"as a tensor of shape \(4, 16\), got a tuple of 2",
    ),
    "no_state": (lambda s, c, n: (None, (c, n)), TypeError, "got None"),
    "number": (lambda s, c, n: (0.5, (c, n)), TypeError, "got a value of type float"),
    "float64": (lambda s, c, n: (s.double(), (c, n)), ValueError, "float32.* got torch.float64"),
    "wide_gate": (
        lambda s, c, n: (s, (torch.cat((c, n), -1), n)),
        ValueError,
        r"gate 'carry' of shape \(4, 16\), got \(4, 32\); .*chunk\(2, dim=-1\)",
    ),
    "three_gates": (lambda s, c, n: (s, (c, n, n)), ValueError, "expected 2 gates.* got 3"),
    "one_gate": (lambda s, c, n: (s, (c,)), ValueError, "expected 2 gates.* got 1"),
    "gates_in_one": (lambda s, c, n: (s, c), TypeError, "tuple of tensors as gates, got a tensor"),
    "gates_none": (lambda s, c, n: (s, None), TypeError, "tuple of tensors as gates, got None"),
    "gate_numbers": (lambda s, c, n: (s, (0.1, 0.2)), TypeError, "as gates, got a tuple of 2"),
}


@pytest.mark.parametrize("softmax", [False, True], ids=["kernel", "no_kernel"])
@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("wrong", WRONG_RESULTS)
def test_wrong_results_of_activate_are_explained_everywhere(wrong, name, softmax):
    results, error, words = WRONG_RESULTS[wrong]
    with backend(name):
        for place in PLACES.values():
            cell = own_cell(results, softmax=softmax)
            if place is PLACES["stack"]:  # a cell of torch.nn has no kernel
                with backend("reference"):
                    refuses(error, words, place, cell, X)
            else:
                refuses(error, words, place, cell, X)


WRONG_COEFFICIENTS = {
    "no_gates": (lambda a, b: (a, b), TypeError, r"expected \(\(a, b\), gates\), got a tuple of 2"),
    "tensor": (
        lambda a, b: a,
        TypeError,
        r"got a tensor.*; write: return \(a, b\), \(keep, new",
    ),
    "half": (
        lambda a, b: ((a, b[..., :3]), (a, b)),
        ValueError,
        r"expected a and b of shape \(.*4, 16\), got .*, 3\)",
    ),
    "numbers": (lambda a, b: ((a, 0.1), (a, b)), ValueError, "a value of type float"),
}


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("wrong", WRONG_COEFFICIENTS)
def test_wrong_coefficients_of_a_linear_cell_are_explained(wrong, name):
    results, error, words = WRONG_COEFFICIENTS[wrong]

    class Own(seqcells.LinearCell):
        gates = ("keep", "new")

        def coefficients(self, from_input):
            return results(*from_input.chunk(2, dim=-1))

    with backend(name):
        for place, run in PLACES.items():
            if place != "stack":
                refuses(error, f"Own.coefficients: .*{words}", run, Own(I, H), X)


def test_a_wrong_part_of_a_state_is_named():
    class Own(seqcells.LSTMCell):
        def activate(self, from_input, from_hidden, state):
            new, gates = super().activate(from_input, from_hidden, state)
            return (new.hidden, new.cell[:, :3]), gates

    words = r"Own.activate: expected the next state.cell of shape \(4, 16\), got \(4, 3\)"
    for place in PLACES.values():
        refuses(ValueError, words, place, Own(I, H), X)


class Pair(seqcells.LSTMCell):
    def activate(self, from_input, from_hidden, state):
        new, gates = super().activate(from_input, from_hidden, state)
        return self.kind(new), gates


@pytest.mark.parametrize("kind", [tuple, list])
@pytest.mark.parametrize("name", BACKENDS)
def test_a_tuple_or_list_is_returned_as_the_state_of_the_cell(name, kind):
    cell = Pair(I, H)
    cell.kind = kind
    twin = seqcells.LSTMCell(I, H)
    twin.load_state_dict(cell.state_dict())
    with backend(name) if name != "cpu" else backend("auto"):
        outputs, final = Recurrent(cell)(X)
        expected, last = Recurrent(twin)(X)
    torch.testing.assert_close(outputs, expected)
    assert type(final) is seqcells.LSTMState
    torch.testing.assert_close(final, last)


def mistaken(self, from_input, from_hidden, state):
    reset, update, candidate = (from_input + from_hidden).chunk(2, dim=-1)
    return candidate * state, (reset, update)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("place", [place for place in PLACES if place != "stack"])
def test_an_error_of_the_users_code_passes_through(place, name):
    own = type("Own", (GatedCell,), {"gates": ("reset", "update"), "activate": mistaken})
    with backend(name), pytest.raises(ValueError, match="not enough values to unpack") as caught:
        PLACES[place](own(I, H), X)
    last = traceback.extract_tb(caught.value.__traceback__)[-1]
    assert (last.filename, last.name) == (__file__, "mistaken")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ is False


WRONG_GATES = {
    "none": ((), ValueError, "Own.gates: expected at least one name, got none"),
    "string": ("gate", TypeError, "expected a tuple of names, got 'gate'"),
    "missing": (None, TypeError, "expected a tuple of names, got NoneType"),
    "number": (3, TypeError, "expected a tuple of names, got int"),
    "twice": (("a", "a"), ValueError, r"expected distinct names, got \('a', 'a'\)"),
    "no_name": (("a", 3), TypeError, "expected strings, got 3"),
}


@pytest.mark.parametrize("wrong", WRONG_GATES)
def test_wrong_gate_names_are_refused_at_construction(wrong):
    gates, error, words = WRONG_GATES[wrong]
    refuses(error, words, own_cell, lambda s, c, n: (s, (c, n)), gates)


def test_a_forgotten_self_or_activate_is_explained():
    def activate(from_input, from_hidden, state):
        return state, (from_input,)

    forgotten = type("Own", (GatedCell,), {"gates": ("only",), "activate": activate})
    refuses(TypeError, r"Own.activate: expected .* got \(.*\); add self.*@static", forgotten, I, H)
    right = type("Own", (GatedCell,), {"gates": ("only",), "activate": staticmethod(activate)})
    assert right(I, H)(X[0]).shape == (B, H)
    empty = type("Own", (GatedCell,), {"gates": ("only",)})(I, H)
    with pytest.raises(TypeError, match=r"Own has no activate method: .*define it"):
        empty(X[0])


class Called(nn.Module):
    """A callable cell whose first and later steps return `first` and `later` of the input."""

    def __init__(self, first, later=None):
        super().__init__()
        self.first, self.later = first, later or first

    def forward(self, input, state=None):
        return (self.first if state is None else self.later)(input)


CALLED = {
    "three_rows": (
        Called(lambda x: x[:3]),
        ValueError,
        r"Called: expected an output with 4 rows.* got shape \(3, 8\)",
    ),
    "later_rows": (Called(lambda x: x, lambda x: x[:3]), ValueError, r"got shape \(3, 8\)"),
    "no_rows": (Called(torch.sum), ValueError, r"got shape \(\)"),
    "none": (Called(lambda x: None), TypeError, "Called: expected the next state.* got None"),
    "later_none": (Called(lambda x: x, lambda x: None), TypeError, "got None; return"),
    "later_pair": (
        Called(lambda x: x, lambda x: (x, x)),
        TypeError,
        r"structure of the previous one, a tensor of shape \(4, 8\), got a tuple of 2",
    ),
    "later_tensor": (Called(lambda x: (x, x), lambda x: x), TypeError, "got a tensor of shape"),
    "later_parts": (Called(lambda x: (x, x), lambda x: (x,)), TypeError, "got a tuple of 1"),
    "growing": (
        Called(lambda x: x, lambda x: torch.cat((x, x), -1)),
        ValueError,
        r"outputs of shape \(4, 8\), as at the first step, got \(4, 16\)",
    ),
    "number": (Called(lambda x: 3.0), TypeError, "got float; return a tensor"),
}
RUNS = {
    "plain": {},
    "lengths": {"lengths": [2, 3, 4, 5]},
    "all_states": {"all_states": True},
    "unsorted": {"lengths": [5, 1, 0, 5]},
}


@pytest.mark.parametrize("options", RUNS)
@pytest.mark.parametrize("wrong", CALLED)
def test_wrong_results_of_a_called_cell_are_explained(wrong, options):
    cell, error, words = CALLED[wrong]
    refuses(error, words, Recurrent(cell), X, **RUNS[options])
    if options != "all_states":
        refuses(error, words, Stack([nn.GRUCell(I, I), cell]), X, **RUNS[options])


def test_a_forward_of_a_subclass_may_accept_further_dimensions():
    class Summed(seqcells.GRUCell):
        def forward(self, input, hx=None):
            return super().forward(input.sum(1), hx)

    cell = Summed(I, H)
    for run in (Recurrent(cell), Recurrent(Zoneout(cell, 0.1).eval())):
        outputs, _ = run(torch.ones(T, B, 3, I))
        assert outputs.shape == (T, B, H)
    refuses(ValueError, "expected 8 features, got 7", Recurrent(cell), torch.ones(T, B, 3, 7))


def test_states_that_resets_cannot_select_from_are_explained():
    cell = Called(lambda x: x, lambda x: torch.cat((x, x), -1))
    resets = torch.ones(T, B, dtype=torch.bool)
    refuses(ValueError, "states of one shape with 4 rows", Recurrent(cell), X, resets=resets)
