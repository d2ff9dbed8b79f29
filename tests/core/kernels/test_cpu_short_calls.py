"""Short calls on the CPU: products that read the weights in place, or pack them panel by panel."""

import ctypes

import pytest
import torch
from cell_table import CELLS, make_cell
from parity import F64, leaves, random_state

import seqcells
from seqcells.kernels import cpu

pytestmark = pytest.mark.skipif(cpu.unavailable() is not None, reason=str(cpu.unavailable()))

# `Path` in native/problem.hpp, and the digits that stand for how a product reads its weights.
BY_SIZE, PACKED, STREAMED, DIRECT = range(4)
WAYS = {0: None, 1: "packed", 2: "streamed", 3: "direct"}
# Relative to the largest value: the paths differ in the order of their sums.
TOLERANCE = {torch.float32: 2e-6, F64: 2e-14}
SIZES = [(1, 1), (1, 17), (3, 5), (17, 1), (17, 17), (40, 17), (17, 40), (33, 70), (16, 130)]


class Library:
    """The native functions that set the path and report the one of the last call."""

    def __init__(self):
        library = cpu.library.library()
        library.seqcells_set_path.argtypes = [ctypes.c_int64]
        library.seqcells_last_reads.restype = ctypes.c_int64
        self.set_path, self.last_reads = library.seqcells_set_path, library.seqcells_last_reads

    def ways(self):
        """How the last call read the weights of inputs, state, the first stage and projection."""
        digits = f"{self.last_reads():05}"
        return [WAYS[int(digit)] for digit in digits[:4]], digits[4] == "1"


@pytest.fixture
def library():
    library = Library()
    yield library
    library.set_path(BY_SIZE)


@pytest.fixture(params=range(max(1, len(cpu.library.instruction_sets()))))
def instruction_set(request, monkeypatch):
    monkeypatch.setattr(cpu.library, "variant", request.param)


@pytest.fixture(params=[2, pytest.param(1, marks=pytest.mark.slow)])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


class Case:
    """A cell over `T` steps, its inputs and state, and upstream gradients for all results."""

    def __init__(self, kind, T, B, D, H, dtype=torch.float32):
        torch.manual_seed(T + 10 * B + 100 * D + 1000 * H)
        self.name = f"{kind}, T={T}, B={B}, D={D}, H={H}, {dtype}"
        self.recurrent = seqcells.Recurrent(make_cell(kind, D, H, dtype=dtype))
        self.inputs = torch.randn(T, B, D, dtype=dtype)
        self.state = random_state(self.recurrent.cell, B)
        self.dtype = dtype

    def compute(self, backend="cpu", dtype=None):
        """Return results and gradients by name."""
        dtype = dtype or self.dtype
        self.recurrent.to(dtype).zero_grad()
        sources = [self.inputs, *leaves(self.state)]
        sources = [part.detach().to(dtype).requires_grad_() for part in sources]
        parts = sources[1:]
        state = type(self.state)(*parts) if len(parts) > 1 else parts[0]
        with seqcells.backend(backend):
            outputs, final = self.recurrent(sources[0], state)
            results = [outputs, *leaves(final)]
            generator = torch.Generator().manual_seed(1)
            upstream = [torch.randn(part.shape, generator=generator).to(dtype) for part in results]
            torch.autograd.backward(results, upstream)
        self.recurrent.to(self.dtype)
        named = {f"result {n}": part.detach() for n, part in enumerate(results)}
        named |= {f"grad source {n}": part.grad for n, part in enumerate(sources)}
        named |= {f"grad {n}": p.grad for n, p in self.recurrent.named_parameters()}
        return {name: value.clone() for name, value in named.items() if value is not None}


def compare(found, expected, tolerance, case):
    assert found.keys() == expected.keys(), case
    for name, value in expected.items():
        scale = max(1.0, value.abs().max().item())
        difference = (found[name].double() - value.double()).abs().max().item()
        assert difference <= tolerance * scale, f"{name}: {difference:.1e}, {case}"


def check(library, case):
    """Compare every path with the packed one, and with the loop in float64."""
    tolerance = TOLERANCE[case.dtype] * (6 if "norm" in case.name else 1)
    exact = case.compute("reference", F64)
    library.set_path(PACKED)
    packed = case.compute()
    compare(packed, exact, 2 * tolerance, f"packed: {case.name}")
    for path in (BY_SIZE, STREAMED, DIRECT):
        library.set_path(path)
        found = case.compute()
        compare(found, packed, tolerance, f"path {path}: {case.name}")
        compare(found, exact, 2 * tolerance, f"path {path}: {case.name}")


@pytest.mark.parametrize("kind", sorted(CELLS))
def test_all_paths_agree(library, instruction_set, kind):
    number = sorted(CELLS).index(kind)
    for n in range(4):
        D, H = SIZES[(number + 2 * n) % len(SIZES)]
        H = max(H, 5) if kind == "lstm_proj" else H  # larger than the projection
        dtype = torch.float32 if (number + n) % 2 else F64
        check(library, Case(kind, 1 + n % 2, 1 + (3 * n + number) % 7, D, H, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("B", range(1, 8))
def test_every_number_of_rows(library, instruction_set, B, dtype):
    """The number of rows decides the heights of tiles; the sizes leave tails in every product."""
    for kind in ("lstm", "gru_reset_before"):
        check(library, Case(kind, 1, B, 37, 35, dtype))


@pytest.mark.parametrize("kind", ["gru_reset_before", "lstm_proj", "lstm", "rnn_tanh"])
def test_threads_that_share_units(library, threads, kind):
    for T, B in ((2, 1), (3, 3), (2, 12)):
        check(library, Case(kind, T, B, 131, 265))


def test_threads_that_share_time(library, threads):
    check(library, Case("lstm", 20, 1, 65, 65))


def test_weights_end_where_memory_ends(library, instruction_set):
    """Reading past the last weight would read nan."""
    for kind, D, H in (("lstm", 37, 21), ("rnn_tanh", 19, 33)):
        case = Case(kind, 1, 3, D, H)
        library.set_path(DIRECT)
        expected = case.compute()
        for parameter in case.recurrent.parameters():
            around = torch.full((parameter.numel() + 64,), torch.nan)
            around[32:-32] = parameter.detach().flatten()
            parameter.data = around[32:-32].view(parameter.shape)
        compare(case.compute(), expected, 0.0, kind)


def test_infinite_inputs_stay_in_their_row(library, instruction_set):
    case = Case("rnn_relu", 1, 4, 37, 21)
    library.set_path(DIRECT)
    expected = case.compute()["result 0"]
    case.inputs[0, 1, 36] = torch.inf
    found = case.compute()["result 0"]
    for row in (0, 2, 3):
        assert torch.equal(found[0, row], expected[0, row])
    loop = case.compute("reference")["result 0"]
    assert torch.equal(found.isinf(), loop.isinf())
    assert torch.equal(found.isnan(), loop.isnan())


def ways(library, T, B, D, H, kind="lstm", dtype=torch.float32):
    """Return how a call on one thread and its backward pass read the weights."""
    case, before = Case(kind, T, B, D, H, dtype), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad(), seqcells.backend("cpu"):
            case.recurrent(case.inputs, case.state)
        forward, _ = library.ways()
        case.compute()
    finally:
        torch.set_num_threads(before)
    return forward, *library.ways()


def test_few_rows_read_the_weights_in_place(library):
    none = [None, None]
    assert ways(library, 1, 1, 64, 64) == (["direct"] * 2 + none, ["direct"] * 2 + none, True)
    assert ways(library, 4, 1, 64, 64)[0] == ["direct"] * 2 + none
    assert ways(library, 10, 1, 256, 256)[0][1] == "direct"  # large: packing costs more
    assert ways(library, 1, 16, 256, 256)[0] == ["direct"] * 2 + none
    assert ways(library, 1, 1, 64, 64, "gru_reset_before")[0] == ["direct"] * 3 + [None]
    assert ways(library, 1, 1, 64, 64, "lstm_proj")[0] == ["direct", "streamed", None, "direct"]


def test_narrow_weights_are_packed(library):
    """A row shorter than a vector cannot be loaded in place."""
    for dtype in TOLERANCE:
        forward, backward, _ = ways(library, 1, 1, 1, 64, "rnn_tanh", dtype)
        assert forward[:2] == ["streamed", "direct"]
        assert backward[:2] == ["packed", "direct"]


def test_a_single_pass_packs_panel_by_panel(library):
    assert ways(library, 1, 32, 64, 64)[0][:2] == ["streamed"] * 2
    assert ways(library, 6, 8, 64, 64)[0][:2] == ["streamed", "packed"]  # one chunk of inputs
    assert ways(library, 2, 64, 256, 256)[0][1] == "streamed"  # large: packing costs more
    assert ways(library, 2, 64, 64, 64)[0][1] == "packed"


def test_long_calls_pack(library):
    forward, backward, once = ways(library, 200, 8, 64, 64)
    assert forward[:2] == backward[:2] == ["packed"] * 2
    assert not once


def test_short_backward_passes_write_gradients_once(library):
    assert ways(library, 1, 128, 64, 64)[1:] == (["direct"] * 2 + [None] * 2, True)
    assert ways(library, 1, 129, 64, 64)[1:] == (["packed"] * 2 + [None] * 2, False)
