"""The masks that modifiers draw: shapes, shares, and shares of zero and one."""

import pytest
import torch
from cell_table import MODIFIED, H, I, make_modified, make_random
from parity import F64, close, leaves, random, random_state, same

from seqcells import (
    DropConnect,
    LSTMState,
    Noise,
    Recurrent,
    RecurrentDropout,
    VariationalDropout,
    Zoneout,
    trace,
)

T, B = 6, 3
ROWS = 400


def masks(cell):
    return Recurrent(cell.double()).noise(random(T, ROWS, I))


@pytest.mark.parametrize(
    ("modify", "field", "shape"),
    [
        (VariationalDropout, "hidden", (ROWS, H)),
        (RecurrentDropout, "candidate", (T, ROWS, H)),
        (DropConnect, "weight_hh", (3 * H, H)),
    ],
)
def test_dropout_masks_have_the_shape_and_the_share(modify, field, shape):
    """One mask per sequence or per step; what remains is scaled up."""
    cell = modify(make_random("gru", I, H), 0.25)
    mask = getattr(masks(cell), field)
    assert mask.shape == shape
    assert mask.dtype == F64
    assert set(mask.unique().tolist()) == {0.0, 1 / 0.75}
    assert abs(mask.mean() - 1) < 0.2
    assert len(mask.unique(dim=0)) > 1
    assert [part is None for part in masks(cell)] == [name != field for name in Noise._fields]


def test_zoneout_masks_have_the_shape_and_the_share():
    """One mask per step and part with the part's share; the expectation in eval."""
    cell = Zoneout(make_random("lstm", I, H), LSTMState(hidden=0.2, cell=0.6))
    zone = masks(cell).zone
    assert isinstance(zone, LSTMState)
    for mask, share in zip(zone, (0.2, 0.6)):
        assert mask.shape == (T, ROWS, H)
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        assert abs(mask.mean() - share) < 0.05
        assert len(mask.unique(dim=0)) > 1
    for mask, share in zip(masks(cell.eval()).zone, (0.2, 0.6)):
        assert mask.shape == (ROWS, H)
        assert (mask == share).all()


def test_zoneout_in_eval_equals_the_mean_of_training():
    rows = 20_000
    cell = Zoneout(make_random("lstm", I, H), (0.3, 0.6))
    inputs = random(1, I).expand(rows, I)
    state = LSTMState(*(random(1, H).expand(rows, H) for _ in range(2)))
    drawn, expected = cell(inputs, state), cell.eval()(inputs, state)
    for part, mean in zip(drawn, expected):
        close(mean[0], mean[1])
        close(part.mean(0), mean[0], 0.03)


@pytest.mark.parametrize(
    ("modifier", "kind"), [pair for pair in MODIFIED if pair[0] not in ("learned", "composed")]
)
def test_a_share_of_zero_equals_the_plain_cell(modifier, kind):
    cell = make_random(kind, I, H)
    modified = type(make_modified(modifier, kind))(cell, 0)
    inputs, before = random(T, B, I), torch.get_rng_state()
    same(Recurrent(modified)(inputs), Recurrent(cell)(inputs))
    same(Recurrent(modified.eval())(inputs), Recurrent(cell)(inputs))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["lstm", "gru", "min_gru"])
def test_a_share_of_one_drops_everything(kind):
    cell, inputs = make_random(kind, I, H), random(T, B, I)
    state = random_state(cell, B)
    for zoned in (Zoneout(cell, 1), Zoneout(cell, 1.0).eval()):
        outputs, final = Recurrent(zoned)(inputs, state)
        same(final, state)
        same(outputs, cell.output(state).expand_as(outputs))
    _, final = Recurrent(RecurrentDropout(cell, 1))(inputs, state)
    shown = trace(Recurrent(RecurrentDropout(cell, 1)), inputs, state).gates
    keep = shown["forget" if kind == "lstm" else "update"].prod(0)
    close(leaves(final)[-1], keep * leaves(state)[-1])
    if kind != "min_gru":
        blind = make_random(kind, I, H)
        blind.load_state_dict({**cell.state_dict(), "weight_hh": torch.zeros_like(cell.weight_hh)})
        for modify in (VariationalDropout, DropConnect):
            close(Recurrent(modify(cell, 1))(inputs, state)[0], Recurrent(blind)(inputs, state)[0])
