"""The cell protocol."""

from __future__ import annotations

from torch import Tensor, nn

from seqcells.state import State, first_tensor


class Cell(nn.Module):
    """One time step: `cell(input, state=None) -> state`, like `torch.nn.LSTMCell`.

    This call is the whole protocol. `Recurrent` runs any callable that implements it, whether or
    not it derives from this class::

        class Leaky(nn.Module):
            def __init__(self, input_size, hidden_size):
                super().__init__()
                self.inward = nn.Linear(input_size, hidden_size)

            def forward(self, input, state=None):
                new = torch.tanh(self.inward(input))
                return new if state is None else 0.9 * state + 0.1 * new

        outputs, final_state = Recurrent(Leaky(8, 16))(inputs)

    Two methods are optional. `output(state)` returns the output of a step, by default the state's
    first tensor. `initial_state(batch_size, *, device, dtype)` creates the state at the start of a
    sequence. A cell without it is called with a state of None at the first step.
    """

    def output(self, state: State) -> Tensor:
        return first_tensor(state)
