"""The training loop, which can stop after any batch and resume with identical results."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict

from torch import nn
from tqdm import tqdm

from seqcells.lab.text.batches import Batch
from seqcells.lab.training import processes
from seqcells.lab.training.checkpoints import (
    load_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from seqcells.lab.training.devices import Transfer
from seqcells.lab.training.metrics import EpochSums, PendingMetrics, Progress, evaluate
from seqcells.lab.training.optimisation import Learner, learning_rate
from seqcells.lab.training.runs import Run
from seqcells.lab.training.tasks import Task, TrainingData
from seqcells.lab.training.tasks.base import count_tokens, describe, format_values
from seqcells.lab.training.termination import (
    InterruptedRunError,
    NonFiniteLossError,
    never_interrupted,
)
from seqcells.state import State, map_state


class Trainer:
    """Train epoch by epoch until the validation loss stops falling.

    Early stopping uses the loss, not the accuracy: overconfidence raises the loss before it costs
    accuracy, and losses do not tie on a small validation set.
    """

    def __init__(self, run: Run, task: Task, model: nn.Module, data: TrainingData):
        self.run, self.task, self.data = run, task, data
        self.config = run.config.training
        self.learner = Learner(task, model, self.config)
        self.transfer = Transfer(self.learner.device)
        self.progress = Progress()
        self._pending = PendingMetrics()
        self._saved = time.monotonic()
        # Reading does not synchronise on the CPU, so every batch is read at once.
        self.max_pending = 1 if self.learner.device.type == "cpu" else 50

    @property
    def model(self) -> nn.Module:
        return self.learner.model

    def fit(self, interrupted: Callable[[], bool] = never_interrupted) -> Progress:
        """Train from the current position to the end, or until `interrupted()` is true."""
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
                    f"continue with: {self.run.resume_command()}"
                ) from None
        return self.progress

    def save(self) -> None:
        """Write `last.pt`, from which `resume` continues exactly.

        Raises:
            NonFiniteLossError: a loss or a gradient is not finite; the previous file is unchanged.
        """
        self._settle()
        device, state = self.learner.device, self.learner.state
        local = {"random": random_states(device), "state": to_plain_tuples(state)}
        content = {
            **self.learner.state_dict(),
            "processes": processes.all_gather(local),
            "progress": asdict(self.progress),
            "seconds": self.run.seconds,
        }
        if processes.is_main():
            save_checkpoint(self.run.last, self.run.config, content)
        self._saved = time.monotonic()
        processes.barrier()

    def resume(self) -> None:
        """Restore the state that `save` wrote."""
        content = load_checkpoint(self.run.last, self.run.config)
        states = content["processes"]
        if len(states) != processes.world_size():
            raise ValueError(
                f"expected {len(states)} processes, as {self.run.folder} was trained with, got "
                f"{processes.world_size()}; resume with: torchrun --nproc-per-node {len(states)}"
            )
        self.learner.load_state_dict(content)
        sums = EpochSums(**content["progress"].pop("sums"))
        self.progress = Progress(sums=sums, **content["progress"])
        self.run.earlier_seconds = content["seconds"]
        local = states[processes.rank()]
        device, state = self.learner.device, local["state"]
        self.learner.state = (
            None if state is None else map_state(lambda part: part.to(device), state)
        )
        restore_random_states(local["random"], device)
        self._saved = time.monotonic()

    def step(self, batch: Batch) -> None:
        """Learn from one batch; update the weights after every `accumulate`-th."""
        sums, started = self.progress.sums, time.monotonic()
        position = sums.batches % self.config.accumulate
        batches = min(self.config.accumulate, len(self.data.train) - (sums.batches - position))
        last = position == batches - 1
        shard, weight = processes.shard(batch)
        labels = self.task.count(batch)
        # DistributedDataParallel averages over processes; the step needs the mean over all labels.
        scale = weight * processes.world_size() / (labels * batches)
        judgement = self.learner.accumulate(
            self.transfer(shard), scale, first=position == 0, last=last
        )
        norm = self.learner.clip() if last else None
        self._pending.add(judgement, weight, labels, norm)
        sums.tokens += count_tokens(batch)
        sums.batches += 1
        if len(self._pending) >= self.max_pending:
            self._read()
        if last:
            self.learner.step(self._learning_rate())
            sums.steps += 1
        sums.seconds += time.monotonic() - started

    def _settle(self) -> None:
        """Read all pending metrics, which waits for the device to finish."""
        started = time.monotonic()
        self._read()
        self.progress.sums.seconds += time.monotonic() - started

    def _read(self) -> None:
        """Add the pending metrics to the epoch's sums; raise if a loss or a gradient is not finite.

        The weights may already be non-finite by then, but nothing is validated or saved before
        the metrics are read.
        """
        sums, pending = self.progress.sums, self._pending.read()
        if not pending:
            return
        losses, corrects = (processes.all_reduce_sum(column) for column in list(zip(*pending))[:2])
        for index, (loss, correct, metrics) in enumerate(zip(losses, corrects, pending)):
            number = sums.batches - len(pending) + index + 1
            self._check_finite(loss, "loss", number)
            sums.loss += loss
            sums.correct += int(correct)
            sums.labels += metrics.labels
            if metrics.norm is None:
                continue
            if math.isfinite(metrics.norm) or not self.learner.can_skip():
                self._check_finite(metrics.norm, "gradient norm", number)
                sums.norm += metrics.norm
            else:
                sums.skipped += 1

    def _learning_rate(self) -> float:
        steps = -(-len(self.data.train) // self.config.accumulate)
        done = (self.progress.epoch - 1) * steps + self.progress.sums.steps
        return learning_rate(done, self.config.epochs * steps, self.config)

    def _check_finite(self, value: float, name: str, batch: int) -> None:
        if not math.isfinite(value):
            rate = f"{self.config.learning_rate / 4:g}"
            raise NonFiniteLossError(
                f"epoch {self.progress.epoch}, batch {batch}: expected a finite {name}, "
                f"got {value}; the checkpoints in {self.run.folder} are the last good ones; "
                "train a new run with a lower learning_rate or clip_norm: "
                f"{self.run.repeat_command(learning_rate=rate)}"
            )

    def _run_epoch(self, interrupted: Callable[[], bool]) -> None:
        epoch, sums = self.progress.epoch, self.progress.sums
        batches = self.data.train
        bar = tqdm(
            desc=f"epoch {epoch}/{self.config.epochs}",
            bar_format="{desc} |{bar}| {remaining} left{postfix}",  # fits 80 columns
            total=len(batches),
            initial=sums.batches,
            disable=None if processes.is_main() else True,
            leave=False,
        )
        with bar:
            for batch in batches.epoch(epoch, start=sums.batches):
                if processes.any_process(interrupted()) and self._between_steps():
                    raise InterruptedRunError
                self.step(batch)
                if not len(self._pending):
                    bar.set_postfix_str(self._describe(), refresh=False)
                bar.update()
                due = time.monotonic() - self._saved > self.config.save_seconds
                if processes.any_process(due) and self._between_steps():
                    self.save()

    def _between_steps(self) -> bool:
        """Return whether no gradients are being accumulated, as checkpoints do not hold them."""
        return self.progress.sums.batches % self.config.accumulate == 0

    def _end_epoch(self, interrupted: Callable[[], bool]) -> None:
        """Validate, save the model if it is the best so far, and decide whether to stop."""
        self._settle()
        progress = self.progress
        model = self.learner.evaluated_model
        validation = evaluate(self.task, model, self.data.validation, interrupted)
        self._check_finite(validation["loss"], "validation loss", progress.sums.batches)
        sums = progress.sums
        progress.history.append(
            {
                "epoch": progress.epoch,
                **{f"train_{name}": score for name, score in self.train_scores().items()},
                **{f"validation_{name}": score for name, score in validation.items()},
                "gradient_norm": sums.mean_norm(),
                "learning_rate": self.learner.optimiser.param_groups[0]["lr"],
                "tokens_per_second": sums.speed(),
                "seconds": sums.seconds,
            }
        )
        better = validation["loss"] < progress.best_loss
        if better or self.config.keep == "last":
            progress.best_loss, progress.best_epoch = validation["loss"], progress.epoch
            content = {"model": model.state_dict(), "epoch": progress.epoch}
            if processes.is_main():
                save_checkpoint(self.run.best, self.run.config, content)
        stale = progress.epoch - progress.best_epoch
        progress.finished = progress.epoch == self.config.epochs or stale >= self.config.patience
        if processes.is_main():
            print(self._describe_epoch(validation, better), flush=True)
        if not progress.finished:
            progress.epoch, progress.sums = progress.epoch + 1, EpochSums()
        self.learner.state = None
        self.save()
        if processes.is_main():
            self.run.write_epochs(progress.history)

    def train_scores(self) -> dict[str, float]:
        """Return the scores of the epoch so far."""
        sums = self.progress.sums
        return self.task.scores(sums.loss, sums.correct, sums.labels)

    def _describe(self) -> str:
        """Describe the epoch so far, for the progress bar."""
        speed = self.progress.sums.speed()
        tokens = f"{speed / 1000:,.0f}k" if speed >= 10_000 else f"{speed:,.0f}"
        return f"{describe(self.train_scores())}, {tokens} tokens/s"

    def _describe_epoch(self, validation: dict[str, float], better: bool) -> str:
        """Describe a finished epoch in one line of at most 80 columns."""
        validated = ", ".join(format_values(validation))
        best = "; best" if better else ""
        place = f"epoch {self.progress.epoch}/{self.config.epochs}"
        return f"{place}: {describe(self.train_scores())}; validation {validated}{best}"


def to_plain_tuples(state: State) -> State:
    """Convert a state to tensors on the CPU and tuples, which a checkpoint can hold."""
    if isinstance(state, (tuple, list)):
        return tuple(map(to_plain_tuples, state))
    return None if state is None else state.cpu()
