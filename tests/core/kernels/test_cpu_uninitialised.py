"""Every number of every result is written, also where there are no steps or no rows."""

import pytest
import torch
from cell_table import CELLS, make_cell
from parity import F64, leaves, random

import seqcells
from seqcells.kernels import cpu
from seqcells.state import map_state

pytestmark = pytest.mark.skipif(
    cpu.unavailable() is not None, reason=f"no native code here: {cpu.unavailable()}"
)

I, H = 3, 5  # noqa: E741
SHAPES = {"no steps": (0, 4), "no rows": (3, 0), "neither": (0, 0), "no lengths": (3, 4)}


@pytest.fixture(autouse=True)
def _filled_with_nan():
    """`torch.empty` gives nan, so that a number that nothing writes shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("restarts", [False, True], ids=["", "resets"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", CELLS)
def test_results_and_gradients(kind, shape, restarts):
    T, B = SHAPES[shape]
    cell = seqcells.LearnedState(make_cell(kind, I, H))
    recurrent = seqcells.Recurrent(cell)
    state = map_state(lambda part: torch.randn_like(part), cell.initial_state(B))
    options = {"lengths": torch.zeros(B, dtype=torch.int64)} if shape == "no lengths" else {}
    options |= {"resets": torch.ones(T, B, dtype=torch.bool)} if restarts else {}
    found = {}
    for name in ("cpu", "reference"):
        recurrent.zero_grad()
        torch.manual_seed(1)
        inputs = random(T, B, I).requires_grad_()
        start = [part.detach().clone().requires_grad_() for part in leaves(state)]
        parts = iter(start)
        with seqcells.backend(name):
            outputs, final = recurrent(
                inputs, map_state(lambda _, parts=parts: next(parts), state), **options
            )
            total = outputs.square().sum() + sum(part.square().sum() for part in leaves(final))
            total.backward()
        grads = [source.grad for source in (inputs, *start, *recurrent.parameters())]
        found[name] = [outputs, *leaves(final), *grads]
    for ours, expected in zip(*found.values()):
        if expected is None:
            assert ours is None or not ours.any()
        else:
            torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_learned_state_that_nothing_restarts_from(kind):
    recurrent = seqcells.Recurrent(seqcells.LearnedState(make_cell(kind, I, H, dtype=F64)))
    resets = torch.zeros(0, 4, dtype=torch.bool)
    _, final = recurrent(random(0, 4, I), resets=resets)
    sum(part.sum() for part in leaves(final)).backward()
    starts = [value for name, value in recurrent.named_parameters() if "start" in name]
    assert starts
    for start in starts:
        assert torch.equal(start.grad, torch.full_like(start, 4.0))
