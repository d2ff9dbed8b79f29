"""Model configuration: cell, modifiers and network."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

import seqcells
from seqcells.cells import table

CELLS = {name: entry.cell for name, entry in table.CELLS.items()}
LAYERS = ("rnn", "gru", "lstm")  # cells with a layer, both in seqcells and in torch.nn
READOUTS = ("last", "max", "mean", "attention")
MODIFIERS = {
    "zoneout": seqcells.Zoneout,
    "variational_dropout": seqcells.VariationalDropout,
    "recurrent_dropout": seqcells.RecurrentDropout,
    "drop_connect": seqcells.DropConnect,
    "learned_state": seqcells.LearnedState,
}


def check_setting(valid: bool, key: str, expected: str, value: Any) -> None:
    """Raise a ValueError that names the setting by its dotted key unless it is valid."""
    if not valid:
        raise ValueError(f"{key}: expected {expected}, got {value!r}")


def apply_modifiers(cell: nn.Module, modifiers: dict[str, Any]) -> nn.Module:
    """Wrap the cell in the modifiers."""
    for name, value in modifiers.items():
        if name != "learned_state":
            cell = MODIFIERS[name](cell, value)
        elif value:
            cell = MODIFIERS[name](cell)
    return cell


@dataclass
class ModelConfig:
    """Settings of the recurrent network or of a baseline.

    Attributes:
        kind: recurrent network; pooled: the same inputs and readout without a recurrence; words:
            mean of one probability per word; window: the first words at fixed positions
        cell: the recurrent cell
        modifiers: modifiers of the cell and their rates: zoneout (one rate, or one for each part of
            the state), variational_dropout, recurrent_dropout, drop_connect; and learned_state,
            true or false
        backend: layers of seqcells or of torch.nn, with equal weights and batches under one seed
        embedding_size: size of the word vectors
        ngrams: also add the vectors of the word pairs (2), triples (3), ... that end at each word
        ngram_buckets: number of hash buckets, each with one vector, for word pairs, triples, ...
        ngram_regression: longest n-gram of a logistic regression on the words, pairs, triples, ...
            of a text, which is fitted before training; the logit is then the mean of the network's
            and the regression's (0: none)
        hidden_size: size of the recurrent state, or of the window model's hidden layer
        num_layers: number of recurrent layers
        bidirectional: read the text in both directions
        readout: pooling of the states: one or more of last, max, mean and attention
        embedding_dropout: dropout rate of whole word vectors
        dropout: dropout rate before the head and between recurrent layers
        window: number of words that the window model reads
        recurrent_init: initialisation of recurrent weights: torch's uniform, or orthogonal
        forget_bias: initial bias of the forget gate (null: as torch)
    """

    kind: Literal["recurrent", "pooled", "words", "window"] = "recurrent"
    cell: Literal[tuple(CELLS)] = "lstm"
    modifiers: dict[str, float | bool | list[float]] = field(default_factory=dict)
    backend: Literal["seqcells", "torch"] = "seqcells"
    embedding_size: int = 100
    ngrams: int = 1
    ngram_buckets: int = 2**17
    ngram_regression: int = 0
    hidden_size: int = 128
    num_layers: int = 1
    bidirectional: bool = False
    readout: list[Literal[READOUTS]] = field(default_factory=lambda: ["max", "mean"])
    embedding_dropout: float = 0.0
    dropout: float = 0.0
    window: int = 20
    recurrent_init: Literal["uniform", "orthogonal"] = "uniform"
    forget_bias: float | None = None

    def __post_init__(self):
        sizes = ("embedding_size", "ngrams", "ngram_buckets", "hidden_size", "num_layers", "window")
        for name in sizes:
            value = getattr(self, name)
            check_setting(value >= 1, f"model.{name}", "a whole number of at least 1", value)
        for name in ("embedding_dropout", "dropout"):
            value = getattr(self, name)
            check_setting(
                0 <= value < 1, f"model.{name}", "a rate of at least 0 and below 1", value
            )
        unique = self.readout and len(set(self.readout)) == len(self.readout)
        check_setting(unique, "model.readout", "one or more distinct names", self.readout)
        valid = self.kind != "words" or self.ngrams == 1
        check_setting(
            valid, "model.ngrams", "1, as model.kind words reads single words", self.ngrams
        )
        longest = self.ngram_regression
        valid = longest == 0 or (longest > 0 and self.kind == "recurrent")
        expected = "0, or a number of words when model.kind is recurrent"
        check_setting(valid, "model.ngram_regression", expected, longest)
        cell = CELLS[self.cell](1, 1, device="meta")
        if self.forget_bias is not None:
            key, bias = "model.forget_bias", self.forget_bias
            check_setting(math.isfinite(bias), key, "a finite number or null", bias)
            gated = "forget" in cell.gates
            check_setting(gated, key, f"null, as the {self.cell} has no forget gate", bias)
        if self.recurrent_init == "orthogonal":
            weight = cell.weight_hh
            valid = weight is not None and weight.dim() == 2
            key = "model.recurrent_init"
            expected = f"uniform, as the {self.cell} has no recurrent weight matrix"
            check_setting(valid, key, expected, "orthogonal")
        self._check_modifiers()

    def _check_modifiers(self):
        key = "model.modifiers"
        for name, value in self.modifiers.items():
            check_setting(name in MODIFIERS, key, f"names among {', '.join(MODIFIERS)}", name)
            valid = isinstance(value, bool) == (name == "learned_state")
            expected = "true or false" if name == "learned_state" else "a rate"
            check_setting(valid, f"{key}.{name}", expected, value)
        try:
            apply_modifiers(CELLS[self.cell](1, 1, device="meta"), self.modifiers)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{key}: {error}") from None
        if self.backend == "torch":
            supported = self.cell in LAYERS and not self.modifiers
            missing = "no modifiers" if self.cell in LAYERS else f"no {self.cell}"
            expected = f"seqcells, as torch.nn has {missing}"
            check_setting(supported, "model.backend", expected, "torch")
