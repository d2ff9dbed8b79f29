"""What a training run is made of: names, types, defaults and checks, all in one tree."""

import math
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from seqcells.lab.model_config import ModelConfig, check_setting

TASK_NAMES = ("sentiment", "capitals", "language", "dates", "adding", "copying", "digits")
MOST_DATES = 70_000
COUNTED = "counted"  # word vectors that no file holds


@dataclass
class DataConfig:
    """Texts and how they become tokens.

    Attributes:
        source: the embedded corpus, or the IMDB reviews
        path: IMDB as a .tar.gz or a folder (default: $SEQCELLS_IMDB, or else a download)
        vocabulary_size: keep at most that many words, the most frequent
        min_frequency: drop words that occur less often in the training texts
        max_tokens: cut longer texts to that many tokens
        truncate: what to keep of a longer text: its head, its tail, or half of each
        validation_share: the share of IMDB's training reviews to validate on
        validation_by: choose whole films, which training then never sees, or single reviews, which
            flatters: a film's other reviews tell much of it
        vectors: what to start from: a text file of word vectors (GloVe's or word2vec's format), or
            `counted`: what words and word pairs stand near in the texts gives them theirs
        unit: what a language model reads and writes
        steps: how many steps a language model's gradients flow back, an adding problem has, or
            a copying task waits
        examples: how many examples an epoch of dates, adding or copying has
        unlabelled: learn from IMDB's unlabelled reviews as well: language, counted vectors, or
            what teachers say of them (training.teachers)
    """

    source: Literal["corpus", "imdb"] = "corpus"
    path: str | None = None
    vocabulary_size: int = 30_000
    min_frequency: int = 2
    max_tokens: int = 400
    truncate: Literal["head", "tail", "head_tail"] = "head_tail"
    validation_share: float = 0.1
    validation_by: Literal["film", "review"] = "film"
    vectors: str | None = None
    unit: Literal["words", "characters"] = "words"
    steps: int = 64
    examples: int = 10_000
    unlabelled: bool = False

    def __post_init__(self):
        for name in ("vocabulary_size", "min_frequency", "max_tokens", "steps", "examples"):
            value = getattr(self, name)
            check_setting(value >= 1, f"data.{name}", "a whole number of at least 1", value)
        share = self.validation_share
        check_setting(0 < share < 1, "data.validation_share", "a share between 0 and 1", share)
        has_more = self.source == "imdb" or not self.unlabelled
        check_setting(has_more, "data.unlabelled", "false, as only IMDB has such reviews", True)
        check_setting(
            self.path is None or self.source == "imdb",
            "data.path",
            "no path where data.source is corpus, which is embedded; set data.source to imdb",
            self.path,
        )


@dataclass
class TrainingConfig:
    """Adam, its schedule, and when to stop.

    Attributes:
        epochs: at most that many passes over the training texts
        batch_size: examples in a batch, for each process
        accumulate: move the weights after so many batches, by the mean of their gradients
        device: cpu, cuda, cuda:1, mps, ...; of several processes each takes a GPU of its own
            (auto: cuda where there is a GPU, else cpu)
        precision: bfloat16 and float16 compute in mixed precision, which is fast where hardware has
            it; for float16 the loss is scaled, and a step that overflows is left out
        compile: have the model compiled (torch.compile)
        learning_rate: Adam's, at its highest
        warmup: the share of all steps in which the learning rate rises from zero
        decay: how the learning rate falls after that, towards a hundredth of its height
        weight_decay: decoupled from the gradient, as in AdamW
        clip_norm: scale the gradient down to this norm (null: do not)
        clip_value: clip every element of the gradient to plus or minus this (null: do not)
        label_smoothing: learn this much less than certainty (Szegedy et al. 2016): at 0.1 a
            positive text is to be 95% positive
        adversarial: learn from each text a second time, with its word vectors moved to where it
            is hardest, by this many times a vector's length in all (0: do not)
        average: validate, keep and test the moving average of the weights, each step's new ones
            weighing one less this number (null: the weights themselves)
        start_from: the run of a language model whose words and recurrence to start from
        teachers: runs whose mean answer is learned for each unlabelled review (data.unlabelled), as
            its label (Lee 2013; Hinton et al. 2015)
        patience: stop after that many epochs without a better validation loss
        keep: the model of the epoch with the best validation loss, or the last one; a loss grows
            with overconfidence while errors still fall
        seed: of the initial weights, the order of the texts, and dropout
        threads: how many threads torch uses (null: as many as it takes by itself)
        save_seconds: save the state of training at least that often within an epoch
    """

    epochs: int = 10
    batch_size: int = 64
    accumulate: int = 1
    device: str = "auto"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    compile: bool = False
    learning_rate: float = 2e-3
    warmup: float = 0.1
    decay: Literal["none", "linear", "cosine"] = "cosine"
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0
    clip_value: float | None = None
    label_smoothing: float = 0.0
    adversarial: float = 0.0
    average: float | None = None
    start_from: str | None = None
    teachers: list[str] = field(default_factory=list)
    patience: int = 3
    keep: Literal["best", "last"] = "best"
    seed: int = 0
    threads: int | None = None
    save_seconds: float = 60.0

    def __post_init__(self):
        for name in ("epochs", "batch_size", "accumulate", "patience"):
            value = getattr(self, name)
            check_setting(value >= 1, f"training.{name}", "a whole number of at least 1", value)
        for name in ("learning_rate", "clip_norm", "clip_value", "save_seconds"):
            value = getattr(self, name)
            if value is not None:
                check_setting(0 < value < math.inf, f"training.{name}", "a number above 0", value)
        for name in ("weight_decay", "adversarial"):
            value = getattr(self, name)
            fits = 0 <= value < math.inf
            check_setting(fits, f"training.{name}", "a number of at least 0", value)
        for name in ("warmup", "label_smoothing", "average"):
            value = getattr(self, name)
            fits = value is None or 0 <= value < 1
            check_setting(fits, f"training.{name}", "a share from 0 to below 1", value)
        check_setting(
            0 <= self.seed < 2**63, "training.seed", "a whole number from 0 on", self.seed
        )
        expected = "auto, cpu, cuda, cuda:1, mps or another of torch's devices"
        check_setting(_is_device(self.device), "training.device", expected, self.device)
        if self.threads is not None:
            check_setting(
                self.threads >= 1, "training.threads", "at least 1, or null", self.threads
            )


def _is_device(name: str) -> bool:
    """Whether torch knows such a device, whichever machine may have it."""
    try:
        return name == "auto" or torch.device(name) is not None
    except RuntimeError:
        return False


@dataclass
class Config:
    """Everything that a run depends on.

    Attributes:
        task: what to learn (see `seqcells.lab.training.tasks`)
        data: what to read
        model: what to train
        training: how to train it
        run: the run's folder, new or empty (default: runs/NAME-DATE-TIME)
    """

    task: Literal[TASK_NAMES] = "sentiment"
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    run: str | None = None

    def __post_init__(self):
        self._check_training()
        self._check_model()
        room = self.task != "dates" or self.data.examples <= MOST_DATES
        expected = f"at most {MOST_DATES:,} dates"
        check_setting(room, "data.examples", expected, self.data.examples)

    def _check_training(self):
        """Whether the task's models can learn so."""
        training, recurrent = self.training, self.model.kind == "recurrent"
        texts = self.task == "sentiment"
        fits = not training.adversarial or (texts and (recurrent or self.model.kind == "pooled"))
        expected = "0, as only a classifier of whole texts learns so"
        check_setting(fits, "training.adversarial", expected, training.adversarial)
        fits = not training.label_smoothing or self.task not in ("language", "adding")
        expected = f"0, as the task {self.task} has no classes"
        check_setting(fits, "training.label_smoothing", expected, training.label_smoothing)
        key, start = "training.start_from", training.start_from
        fits = start is None or (texts and recurrent)
        check_setting(fits, key, "none, which recurrent classifiers alone can do", start)
        vectors, unlabelled = self.data.vectors, self.data.unlabelled
        alone = start is None or vectors is None
        check_setting(alone, key, "none beside data.vectors, another start", start)
        expected = f"none, as the task {self.task} does not start from any"
        check_setting(texts or vectors is None, "data.vectors", expected, vectors)
        fits = not unlabelled or self.task == "language" or vectors == COUNTED or training.teachers
        expected = "false, as nothing is to be learned from them: no language, vectors or answers"
        check_setting(fits, "data.unlabelled", expected, unlabelled)
        fits = not training.teachers or (texts and unlabelled)
        expected = "none but of the task sentiment with data.unlabelled, which they answer"
        check_setting(fits, "training.teachers", expected, training.teachers)

    def _check_model(self):
        """Whether the task can be done with the model."""
        model, task = self.model, self.task
        fits = task == "sentiment" or model.kind == "recurrent"
        check_setting(fits, "model.kind", f"recurrent, for the task {task}", model.kind)
        if task not in ("language", "dates"):
            return
        # What goes on from a state, and reads and writes token after token.
        expected = f"seqcells, for the task {task}, of which torch.nn's layers cannot do all"
        check_setting(model.backend == "seqcells", "model.backend", expected, model.backend)
        expected = f"1 for the task {task}, which goes on from single tokens"
        check_setting(model.ngrams == 1, "model.ngrams", expected, model.ngrams)
        fits = task == "language" or not model.bidirectional
        expected = "false, as a date is written in one direction"
        check_setting(fits, "model.bidirectional", expected, model.bidirectional)
        fits = not model.bidirectional or model.num_layers == 1
        expected = "1 in both directions, or the language model sees what it is to tell"
        check_setting(fits, "model.num_layers", expected, model.num_layers)


# Where files lie says nothing about the run itself, and machines do not have the same devices.
MAY_DIFFER = ("data.path", "run", "training.device")


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """A configuration as `{dotted key: value}`."""
    flat = {}
    for item in fields(config):
        value = getattr(config, item.name)
        key = prefix + item.name
        flat |= flatten(value, key + ".") if is_dataclass(value) else {key: value}
    return flat


def check_same(config: Config, saved: dict[str, Any], place: str | Path) -> None:
    """Raise unless `config` is the (flattened) one that `place` was made with.

    A setting that is younger than `place` is not among the saved ones.
    """
    for key, value in flatten(config).items():
        if key not in MAY_DIFFER and key in saved and saved[key] != value:
            raise ValueError(
                f"{key}: expected {saved[key]!r}, as in {place}, got {value!r}; "
                "a run keeps its configuration: train another one instead"
            )
