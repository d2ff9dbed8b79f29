"""The settings of a model: which cell, with what around it, in which network."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

import seqcells
from seqcells.cells import table

CELLS = {name: entry.cell for name, entry in table.CELLS.items()}
LAYERS = ("rnn", "gru", "lstm")  # what there is a layer of, ours and torch.nn's
READOUTS = ("last", "max", "mean", "attention")
MODIFIERS = {
    "zoneout": seqcells.Zoneout,
    "variational_dropout": seqcells.VariationalDropout,
    "recurrent_dropout": seqcells.RecurrentDropout,
    "drop_connect": seqcells.DropConnect,
    "learned_state": seqcells.LearnedState,
}


def check_setting(valid: bool, key: str, expected: str, value: Any) -> None:
    """Raise, naming the setting by its dotted key, unless it is valid."""
    if not valid:
        raise ValueError(f"{key}: expected {expected}, got {value!r}")


def modified(cell: nn.Module, modifiers: dict[str, Any]) -> nn.Module:
    """The cell with these modifiers around it."""
    for name, value in modifiers.items():
        if name != "learned_state":
            cell = MODIFIERS[name](cell, value)
        elif value:
            cell = MODIFIERS[name](cell)
    return cell


@dataclass
class ModelConfig:
    """The classifier, or one of the baselines.

    Attributes:
        kind: a recurrent network; or its inputs pooled without one; or each of the words on its
            own, averaged; or a fixed window
        cell: the recurrent cell
        modifiers: what stands around the cell, each with its share: zoneout (a number, or one for
            each part of the state), variational_dropout, recurrent_dropout, drop_connect; and
            learned_state, true or false
        backend: our layers, or torch.nn's: the same weights and batches under the same seed
        embedding_size: size of the word vectors
        ngrams: also read the vectors of the word pairs (2), triples (3), ... that end at each word
        ngram_buckets: how many vectors these share, each pair by its hash
        hidden_size: size of the recurrent state (or of the window's hidden layer)
        num_layers: how many recurrent layers stand on each other
        bidirectional: read the text in both directions
        readout: what becomes of the states: one or more of last, and over time max, mean, attention
        embedding_dropout: dropout of whole words' vectors
        dropout: dropout before the head, and between the recurrent layers
        window: how many words the window model reads
        recurrent_init: torch's uniform weights, or orthogonal ones, for the recurrence
        forget_bias: start of the forget gate's bias (null: as torch)
    """

    kind: Literal["recurrent", "pooled", "words", "window"] = "recurrent"
    cell: Literal[tuple(CELLS)] = "lstm"
    modifiers: dict[str, float | bool | list[float]] = field(default_factory=dict)
    backend: Literal["seqcells", "torch"] = "seqcells"
    embedding_size: int = 100
    ngrams: int = 1
    ngram_buckets: int = 2**17
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
                0 <= value < 1, f"model.{name}", "a share of at least 0 and below 1", value
            )
        once = self.readout and len(set(self.readout)) == len(self.readout)
        check_setting(once, "model.readout", "one or more names, each once", self.readout)
        alone = self.kind != "words" or self.ngrams == 1
        check_setting(alone, "model.ngrams", "1, as model.kind looks at single words", self.ngrams)
        if self.forget_bias is not None:
            key, bias = "model.forget_bias", self.forget_bias
            check_setting(math.isfinite(bias), key, "a finite number or null", bias)
            gated = "forget" in CELLS[self.cell].gates
            check_setting(gated, key, f"null, as the {self.cell} has no forget gate", bias)
        if self.recurrent_init == "orthogonal":
            weight = CELLS[self.cell](1, 1, device="meta").weight_hh
            matrix = weight is not None and weight.dim() == 2
            key, expected = "model.recurrent_init", f"uniform, as the {self.cell} has no matrix"
            check_setting(matrix, key, expected, "orthogonal")
        self._check_modifiers()

    def _check_modifiers(self):
        key = "model.modifiers"
        for name, value in self.modifiers.items():
            check_setting(name in MODIFIERS, key, f"names out of {', '.join(MODIFIERS)}", name)
            fits = isinstance(value, bool) == (name == "learned_state")
            expected = "true or false" if name == "learned_state" else "a share"
            check_setting(fits, f"{key}.{name}", expected, value)
        try:
            modified(CELLS[self.cell](1, 1, device="meta"), self.modifiers)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{key}: {error}") from None
        if self.backend == "torch":
            plain = self.cell in LAYERS and not self.modifiers
            what = "no modifiers" if self.cell in LAYERS else f"no {self.cell}"
            check_setting(plain, "model.backend", f"seqcells, as torch.nn has {what}", "torch")
