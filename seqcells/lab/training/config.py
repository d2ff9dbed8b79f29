"""Run configuration: names, types, defaults and validation of all settings."""

import math
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from seqcells.lab.model_config import ModelConfig, check_setting

TASK_NAMES = ("sentiment", "capitals", "language", "dates", "adding", "copying", "digits")
MAX_DATES = 70_000
COUNTED = "counted"  # a value of data.vectors that is not a file


@dataclass
class DataConfig:
    """Data set and tokenisation.

    Attributes:
        source: the embedded corpus, or the IMDB reviews
        path: IMDB as a .tar.gz or a folder (default: $SEQCELLS_IMDB, or a download)
        vocabulary_size: maximum number of words; the most frequent are kept
        min_frequency: drop words with fewer occurrences in the training texts
        max_tokens: truncate longer texts to this number of tokens
        truncate: the part of a longer text to keep: head, tail, or half of each
        validation_share: fraction of IMDB's training reviews for validation
        validation_by: hold out whole films, or single reviews; single reviews overestimate the
            accuracy, as other reviews of the same film are in the training data
        vectors: initial word vectors: a text file (GloVe or word2vec format), or `counted`:
            computed from co-occurrence counts in the training texts
        unit: tokens of a language model
        steps: length of backpropagation through time in a language model, of an adding problem, or
            of the delay in a copying task
        examples: number of examples per epoch of dates, adding or copying
        unlabelled: use IMDB's unlabelled reviews too, for a language model, for counted vectors, or
            with labels predicted by training.teachers
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
        valid = self.source == "imdb" or not self.unlabelled
        check_setting(valid, "data.unlabelled", "false unless data.source is imdb", True)
        check_setting(
            self.path is None or self.source == "imdb",
            "data.path",
            "no path when data.source is corpus; set data.source to imdb",
            self.path,
        )


@dataclass
class TrainingConfig:
    """Optimiser, schedule and stopping criteria.

    Attributes:
        epochs: maximum number of passes over the training data
        batch_size: examples per batch and process
        accumulate: number of batches per step; their gradients are averaged
        device: cpu, cuda, cuda:1, mps, ...; with several processes, each uses its own GPU
            (auto: cuda if there is a GPU, else cpu)
        precision: bfloat16 and float16 use mixed precision; float16 scales the loss and skips steps
            that overflow
        compile: compile the model (torch.compile)
        learning_rate: peak learning rate of AdamW
        warmup: fraction of all steps in which the learning rate rises linearly from zero
        decay: shape of the decay after the warm-up, to a hundredth of the peak
        weight_decay: decoupled weight decay, as in AdamW
        clip_norm: clip the norm of the gradient to this value (null: no clipping)
        clip_value: clip every element of the gradient to plus or minus this value (null: no
            clipping)
        label_smoothing: label smoothing (Szegedy et al. 2016); at 0.1 the target of a positive text
            is 0.95
        adversarial: size of an adversarial perturbation of each text's word vectors, relative to
            the mean norm of a vector; its loss is added (0: none)
        average: decay of an exponential moving average of the weights, which is validated, saved
            and tested (null: no averaging)
        start_from: run of a language model from which to copy word vectors and recurrence
        teachers: runs whose mean prediction is the label of each unlabelled review
            (data.unlabelled; Lee 2013; Hinton et al. 2015); for a YAML file, runs of this
            configuration in runs/teachers, which are trained first
        teacher_seeds: number of runs, with seeds from 0, for each YAML file in teachers
        patience: number of epochs without a better validation loss before training stops
        keep: the model of the epoch with the best validation loss, or of the last epoch;
            overconfidence can raise the loss while the accuracy still improves
        seed: seed of the initial weights, the order of the data, and dropout
        threads: number of torch threads (null: torch's default)
        save_seconds: maximum time between checkpoints within an epoch
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
    teacher_seeds: int = 1
    patience: int = 3
    keep: Literal["best", "last"] = "best"
    seed: int = 0
    threads: int | None = None
    save_seconds: float = 60.0

    def __post_init__(self):
        for name in ("epochs", "batch_size", "accumulate", "patience", "teacher_seeds"):
            value = getattr(self, name)
            check_setting(value >= 1, f"training.{name}", "a whole number of at least 1", value)
        for name in ("learning_rate", "clip_norm", "clip_value", "save_seconds"):
            value = getattr(self, name)
            if value is not None:
                check_setting(0 < value < math.inf, f"training.{name}", "a number above 0", value)
        for name in ("weight_decay", "adversarial"):
            value = getattr(self, name)
            valid = 0 <= value < math.inf
            check_setting(valid, f"training.{name}", "a number of at least 0", value)
        for name in ("warmup", "label_smoothing", "average"):
            value = getattr(self, name)
            valid = value is None or 0 <= value < 1
            check_setting(valid, f"training.{name}", "a number of at least 0 and below 1", value)
        expected = "a whole number from 0 to 2**63 - 1"
        check_setting(0 <= self.seed < 2**63, "training.seed", expected, self.seed)
        expected = "auto, cpu, cuda, cuda:1, mps or another device of torch"
        check_setting(_is_device(self.device), "training.device", expected, self.device)
        if self.threads is not None:
            check_setting(
                self.threads >= 1, "training.threads", "at least 1, or null", self.threads
            )


def _is_device(name: str) -> bool:
    """Return whether torch has a device of this name, available on this machine or not."""
    try:
        return name == "auto" or torch.device(name) is not None
    except RuntimeError:
        return False


@dataclass
class Config:
    """Configuration of a run.

    Attributes:
        task: the task (see `seqcells.lab.training.tasks`)
        data: data set and tokenisation
        model: the model
        training: optimiser, schedule and stopping criteria
        run: folder of the run, new or empty (default: runs/NAME-DATE-TIME)
    """

    task: Literal[TASK_NAMES] = "sentiment"
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    run: str | None = None

    def __post_init__(self):
        self._check_training()
        self._check_model()
        valid = self.task != "dates" or self.data.examples <= MAX_DATES
        expected = f"at most {MAX_DATES:,} dates"
        check_setting(valid, "data.examples", expected, self.data.examples)

    def _check_training(self):
        """Validate training settings against task, model and data."""
        training, recurrent = self.training, self.model.kind == "recurrent"
        sentiment = self.task == "sentiment"
        pooled = self.model.kind == "pooled"
        valid = not training.adversarial or (sentiment and (recurrent or pooled))
        expected = "0 unless task is sentiment and model.kind is recurrent or pooled"
        check_setting(valid, "training.adversarial", expected, training.adversarial)
        valid = not training.label_smoothing or self.task not in ("language", "adding")
        expected = f"0, as the task {self.task} does not support it"
        check_setting(valid, "training.label_smoothing", expected, training.label_smoothing)
        key, start = "training.start_from", training.start_from
        valid = start is None or (sentiment and recurrent)
        expected = "null unless task is sentiment and model.kind is recurrent"
        check_setting(valid, key, expected, start)
        vectors, unlabelled = self.data.vectors, self.data.unlabelled
        valid = start is None or vectors is None
        check_setting(valid, key, "null when data.vectors is set", start)
        expected = f"null, as the task {self.task} does not support it"
        check_setting(sentiment or vectors is None, "data.vectors", expected, vectors)
        language = self.task == "language"
        valid = not unlabelled or language or vectors == COUNTED or training.teachers
        expected = (
            "false, as unlabelled reviews are unused: "
            "set task to language, data.vectors to counted, or training.teachers"
        )
        check_setting(valid, "data.unlabelled", expected, unlabelled)
        valid = not training.teachers or (sentiment and unlabelled)
        expected = "an empty list unless task is sentiment and data.unlabelled is true"
        check_setting(valid, "training.teachers", expected, training.teachers)

    def _check_model(self):
        """Validate model settings against the task."""
        model, task = self.model, self.task
        valid = task == "sentiment" or model.kind == "recurrent"
        check_setting(valid, "model.kind", f"recurrent, for the task {task}", model.kind)
        valid, longest = task == "sentiment" or not model.ngram_regression, model.ngram_regression
        expected = f"0, as the task {task} does not support it"
        check_setting(valid, "model.ngram_regression", expected, longest)
        if task not in ("language", "dates"):
            return
        # These models continue from a state and decode token by token.
        expected = f"seqcells for the task {task}, which torch.nn's layers do not support"
        check_setting(model.backend == "seqcells", "model.backend", expected, model.backend)
        expected = f"1 for the task {task}, which decodes single tokens"
        check_setting(model.ngrams == 1, "model.ngrams", expected, model.ngrams)
        valid = task == "language" or not model.bidirectional
        expected = "false for the task dates, which decodes in one direction"
        check_setting(valid, "model.bidirectional", expected, model.bidirectional)
        valid = not model.bidirectional or model.num_layers == 1
        expected = "1 when model.bidirectional is true, or each direction sees its own labels"
        check_setting(valid, "model.num_layers", expected, model.num_layers)


# Paths do not affect the results of a run, and machines have different devices.
MAY_DIFFER = ("data.path", "run", "training.device")


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """Convert a configuration to `{dotted key: value}`."""
    flat = {}
    for item in fields(config):
        value = getattr(config, item.name)
        key = prefix + item.name
        flat |= flatten(value, key + ".") if is_dataclass(value) else {key: value}
    return flat


def check_same(config: Config, saved: dict[str, Any], path: str | Path) -> None:
    """Raise a ValueError unless `config` equals the flattened configuration `saved` in `path`.

    Settings that are not in `saved` were introduced later and are ignored.
    """
    for key, value in flatten(config).items():
        if key not in MAY_DIFFER and key in saved and saved[key] != value:
            raise ValueError(
                f"{key}: expected {saved[key]!r}, as in {path}, got {value!r}; "
                "the configuration of a run is fixed: train a new run instead"
            )
