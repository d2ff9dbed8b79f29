"""The training loop: it can stop after any batch and go on as if it never had."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from tqdm import tqdm

from seqcells.state import detach_state
from seqcells.text.batches import Batch
from seqcells.training.averaging import averaged
from seqcells.training.checkpoints import (
    load_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from seqcells.training.evaluation import evaluate, never
from seqcells.training.interruption import InterruptedRunError
from seqcells.training.progress import EpochSums, Progress
from seqcells.training.runs import Run
from seqcells.training.schedule import learning_rate
from seqcells.training.tasks import Task, TrainingData
from seqcells.training.tasks.base import describe, tokens_of


class NonFiniteLossError(ArithmeticError):
    """Training has left the numbers."""


class Trainer:
    """Adam with warm-up, decay and clipping, until the validation loss stops falling.

    The loss decides, not the accuracy: a network grows overconfident before it errs more, so the
    loss turns earlier, and it has no ties on a small validation set.
    """

    def __init__(self, run: Run, task: Task, model: nn.Module, data: TrainingData):
        self.run, self.task, self.model, self.data = run, task, model, data
        self.config = run.config.training
        self.optimiser = torch.optim.AdamW(
            model.parameters(), weight_decay=self.config.weight_decay, fused=True
        )
        decay = self.config.average
        self.average = None if decay is None else averaged(model, decay)
        self.progress = Progress()
        self.state: Any = None  # what the last batch ended with

    @property
    def judged(self) -> nn.Module:
        """The model that is validated and kept: with averaged weights where these are wanted."""
        return self.model if self.average is None else self.average.module

    def fit(self, interrupted: Callable[[], bool] = never) -> Progress:
        """Train to the end, from wherever training stands, unless `interrupted()` says stop."""
        self.model.train()
        if not self.run.last.exists():
            self.save()
        while not self.progress.finished:
            try:
                self._run_epoch(interrupted)
                self._end_epoch(interrupted)
            except InterruptedRunError:
                self.save()
                raise InterruptedRunError(
                    f"interrupted in epoch {self.progress.epoch}, after "
                    f"{self.progress.sums.batches} of {len(self.data.train)} batches; "
                    f"go on with: {self.run.how_to_resume()}"
                ) from None
        return self.progress

    def save(self) -> None:
        """Write `last.pt`, with all that is needed to go on exactly."""
        content = {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "random": random_states(),
            "state": self.state,
            "progress": asdict(self.progress),
            "seconds": self.run.seconds,
        }
        save_checkpoint(self.run.last, self.run.config, content)
        self._saved = time.monotonic()

    def resume(self) -> None:
        """Go back to what `save` wrote."""
        content = load_checkpoint(self.run.last, self.run.config)
        self.model.load_state_dict(content["model"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        sums = EpochSums(**content["progress"].pop("sums"))
        self.progress = Progress(sums=sums, **content["progress"])
        self.run.earlier_seconds = content["seconds"]
        self.state = content["state"]
        restore_random_states(content["random"])
        self._saved = time.monotonic()

    def step(self, batch: Batch) -> None:
        """Learn from one batch."""
        sums, started = self.progress.sums, time.monotonic()
        rate = self._learning_rate()
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        judgement = self.task.judge(self.model, batch, self.state, self.config.label_smoothing)
        loss = (judgement.loss + judgement.penalty) / judgement.count
        self.optimiser.zero_grad()
        loss.backward()
        norm = self._clip()
        self._check_finite(loss.item(), "loss")
        self._check_finite(norm, "gradient norm")
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

        self.state = None if judgement.state is None else detach_state(judgement.state)
        sums.labels += judgement.count
        sums.tokens += tokens_of(batch)
        sums.loss += judgement.loss.item()
        sums.correct += judgement.correct
        sums.norm += norm
        sums.batches += 1
        sums.seconds += time.monotonic() - started

    def _learning_rate(self) -> float:
        batches = len(self.data.train)
        done = (self.progress.epoch - 1) * batches + self.progress.sums.batches
        return learning_rate(done, self.config.epochs * batches, self.config)

    def _clip(self) -> float:
        """Clip by norm, then by value, so that both bounds hold; return the norm before."""
        parameters = list(self.model.parameters())
        norm = clip_grad_norm_(parameters, self.config.clip_norm or math.inf).item()
        if self.config.clip_value is not None:
            clip_grad_value_(parameters, self.config.clip_value)
        return norm

    def _check_finite(self, value: float, name: str) -> None:
        if not math.isfinite(value):
            raise NonFiniteLossError(
                f"epoch {self.progress.epoch}, batch {self.progress.sums.batches + 1}: expected a "
                f"finite {name}, got {value}; the checkpoints in {self.run.folder} are the last "
                "good ones; lower training.learning_rate or training.clip_norm"
            )

    def _run_epoch(self, interrupted: Callable[[], bool]) -> None:
        epoch, sums = self.progress.epoch, self.progress.sums
        batches = self.data.train
        bar = tqdm(
            desc=f"epoch {epoch}/{self.config.epochs}",
            total=len(batches),
            initial=sums.batches,
            disable=None,
            leave=False,
        )
        with bar:
            for batch in batches.epoch(epoch, start=sums.batches):
                if interrupted():
                    raise InterruptedRunError
                self.step(batch)
                bar.set_postfix_str(self._describe(), refresh=False)
                bar.update()
                if time.monotonic() - self._saved > self.config.save_seconds:
                    self.save()

    def _end_epoch(self, interrupted: Callable[[], bool]) -> None:
        """Validate, keep the model if it is the best so far, and decide whether to go on."""
        progress = self.progress
        validation = evaluate(self.task, self.judged, self.data.validation, interrupted)
        self._check_finite(validation["loss"], "validation loss")
        sums = progress.sums
        progress.history.append(
            {
                "epoch": progress.epoch,
                **{f"train_{name}": score for name, score in self.train_scores().items()},
                **{f"validation_{name}": score for name, score in validation.items()},
                "gradient_norm": sums.norm / sums.batches,
                "learning_rate": self.optimiser.param_groups[0]["lr"],
                "tokens_per_second": sums.speed(),
                "seconds": sums.seconds,
            }
        )
        if validation["loss"] < progress.best_loss:
            progress.best_loss, progress.best_epoch = validation["loss"], progress.epoch
            content = {"model": self.judged.state_dict(), "epoch": progress.epoch}
            save_checkpoint(self.run.best, self.run.config, content)
        waited = progress.epoch - progress.best_epoch
        progress.finished = progress.epoch == self.config.epochs or waited >= self.config.patience
        best = ", the best so far" if waited == 0 else ""
        print(
            f"epoch {progress.epoch}/{self.config.epochs}: {self._describe()}; "
            f"validation {describe(validation)}{best}",
            flush=True,
        )
        if not progress.finished:
            progress.epoch, progress.sums = progress.epoch + 1, EpochSums()
        self.state = None
        self.save()
        self.run.write_epochs(progress.history)

    def train_scores(self) -> dict[str, float]:
        """The epoch's scores so far."""
        sums = self.progress.sums
        return self.task.scores(sums.loss, sums.correct, sums.labels)

    def _describe(self) -> str:
        sums = self.progress.sums
        return (
            f"{describe(self.train_scores())}, gradient norm {sums.norm / sums.batches:.2f}, "
            f"{sums.speed():,.0f} tokens/s"
        )
