"""Policies for `RecurrentPPO` of sb3-contrib.

::

    from sb3_contrib import RecurrentPPO
    from seqcells.adapters.sb3 import MlpLstmPolicy

    RecurrentPPO(MlpLstmPolicy, "CartPole-v1").learn(100_000)

The policies of sb3-contrib run the LSTM in a Python loop if an episode starts within a sequence.
These run it in one call, with `resets`. Arguments, initial weights, parameter names and results are
those of sb3-contrib.
"""

from __future__ import annotations

from typing import Any

from sb3_contrib.common.recurrent.policies import (
    RecurrentActorCriticCnnPolicy,
    RecurrentActorCriticPolicy,
    RecurrentMultiInputActorCriticPolicy,
)
from torch import Tensor, nn

from seqcells.layers import LSTM


class _Policy:
    """Base class of the policies: replaces the LSTMs of sb3-contrib's policy."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for name in ("lstm_actor", "lstm_critic"):
            layers = getattr(self, name)
            if layers is not None:
                setattr(self, name, with_weights_of(layers))

    @staticmethod
    def _process_sequence(
        features: Tensor,
        lstm_states: tuple[Tensor, Tensor],
        episode_starts: Tensor,
        lstm: LSTM,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run the LSTM over rows `(B*T, I)` in order of the batch; return outputs in that order."""
        rows = lstm_states[0].shape[1]
        sequence = features.reshape(rows, -1, lstm.input_size).transpose(0, 1)
        starts = episode_starts.reshape(rows, -1).transpose(0, 1)
        if len(sequence) == 1:  # a step of the environments: the shortest path of a call
            remains = (1.0 - starts).unsqueeze(-1)
            hidden, cell = (part * remains for part in lstm_states)
            outputs, state = lstm(sequence, (hidden, cell))
        else:
            outputs, state = lstm(sequence, lstm_states, resets=starts != 0)
        return outputs.transpose(0, 1).flatten(0, 1), state


class MlpLstmPolicy(_Policy, RecurrentActorCriticPolicy):
    """`sb3_contrib.ppo_recurrent.MlpLstmPolicy` with layers of seqcells."""


class CnnLstmPolicy(_Policy, RecurrentActorCriticCnnPolicy):
    """`sb3_contrib.ppo_recurrent.CnnLstmPolicy` with layers of seqcells."""


class MultiInputLstmPolicy(_Policy, RecurrentMultiInputActorCriticPolicy):
    """`sb3_contrib.ppo_recurrent.MultiInputLstmPolicy` with layers of seqcells."""


def with_weights_of(layers: nn.LSTM) -> LSTM:
    """Return layers that share the parameters of `layers`, so that an optimizer stays valid."""
    ours = LSTM(
        layers.input_size,
        layers.hidden_size,
        layers.num_layers,
        bias=layers.bias,
        batch_first=layers.batch_first,
        dropout=layers.dropout,
        bidirectional=layers.bidirectional,
        proj_size=layers.proj_size,
        device="meta",
    )
    for name, parameter in layers.named_parameters():
        setattr(ours, name, parameter)
    return ours.train(layers.training)
