"""Every number of every result is written, even without steps or without rows."""

import pytest
import torch
from cell_table import CELLS, make_cell
from pairwise import pairs_of
from parity import F64, backends_agree, leaves, random, random_state

import seqcells
from seqcells.kernels import cpu

pytestmark = pytest.mark.skipif(
    cpu.unavailable() is not None, reason=f"no native code here: {cpu.unavailable()}"
)

I, H = 3, 5  # noqa: E741
SHAPES = {"no steps": (0, 4), "no rows": (3, 0), "neither": (0, 0), "no lengths": (3, 4)}


@pytest.fixture(autouse=True)
def _filled_with_nan():
    """Fill `torch.empty` with nan, which shows a number that nothing writes."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pairs_of(kind=list(CELLS), shape=SHAPES, restarts={"no_resets": False, "resets": True})
def test_results_and_gradients_equal_the_loop(kind, shape, restarts):
    T, B = shape
    cell = seqcells.LearnedState(make_cell(kind, I, H))
    state = random_state(cell, B)
    options = {"lengths": torch.zeros(B, dtype=torch.int64)} if shape == (3, 4) else {}
    options |= {"resets": torch.ones(T, B, dtype=torch.bool)} if restarts else {}
    backends_agree(seqcells.Recurrent(cell), random(T, B, I), state=state, **options)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_learned_state_gets_its_gradient_without_steps(kind):
    recurrent = seqcells.Recurrent(seqcells.LearnedState(make_cell(kind, I, H, dtype=F64)))
    resets = torch.zeros(0, 4, dtype=torch.bool)
    _, final = recurrent(random(0, 4, I), resets=resets)
    sum(part.sum() for part in leaves(final)).backward()
    starts = [value for name, value in recurrent.named_parameters() if "start" in name]
    assert starts
    for start in starts:
        assert torch.equal(start.grad, torch.full_like(start, 4.0))
