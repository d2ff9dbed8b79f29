"""Only cells that do not override the equations have a built-in kernel."""

import copy

import pytest
from cell_table import H, I, make_cell
from parity import F64

import seqcells


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
def test_a_subclass_that_overrides_equations_has_no_kernel(kind):
    assert kind(I, H).built_in_kernel() is None


def test_an_instance_that_overrides_equations_has_no_kernel():
    cell = make_cell("gru")
    cell.step = copy.copy(cell.step)
    assert cell.built_in_kernel() is None


def test_a_class_patched_later_has_no_kernel(monkeypatch):
    monkeypatch.setattr(seqcells.GRUCell, "step", lambda *arguments: None)
    assert make_cell("gru").built_in_kernel() is None


def test_a_subclass_that_overrides_weights_or_the_initial_state_has_the_kernel():
    class Doubled(seqcells.LSTMCell):
        def weights(self):
            weights = super().weights()
            return weights._replace(weight_hh=weights.weight_hh * 2)

        def initial_state(self, batch_size, *, device=None, dtype=None):
            return super().initial_state(batch_size, device=device, dtype=dtype)

    assert Doubled(I, H, dtype=F64).built_in_kernel() == "lstm"
