"""The model and what changes it: one step of the optimiser, by one process or several."""

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from seqcells.state import detach_state
from seqcells.text.batches import Batch
from seqcells.training import processes
from seqcells.training.averaging import averaged
from seqcells.training.config import TrainingConfig
from seqcells.training.tasks import Judgement, Task


class Judge(nn.Module):
    """A task's judgement of its model as one module, all of which other processes can share."""

    def __init__(self, task: Task, model: nn.Module, config: TrainingConfig):
        super().__init__()
        self.task, self.model, self.config = task, model, config

    def forward(self, batch: Batch, state: Any) -> Judgement:
        reduced = self.config.precision == "bfloat16"
        with torch.autocast(batch.inputs.device.type, torch.bfloat16, enabled=reduced):
            return self.task.judge(self.model, batch, state, self.config.label_smoothing)


class Learner:
    """Adam with clipping, on the gradients of one batch or of several added up.

    Among several processes each judges its own part of a batch, and the gradients are those of the
    whole batch: the same as one process would find, to rounding.
    """

    def __init__(self, task: Task, model: nn.Module, config: TrainingConfig):
        self.task, self.model, self.config = task, model, config
        self.optimiser = torch.optim.AdamW(
            model.parameters(), weight_decay=config.weight_decay, fused=True
        )
        self.average = None if config.average is None else averaged(model, config.average)
        self.state: Any = None  # what the last batch ended with
        if config.compile:
            model.compile(dynamic=True)
        self.judge = Judge(task, model, config)
        if processes.several():
            self.judge = DistributedDataParallel(
                self.judge, find_unused_parameters=not task.uses_all_parameters
            )

    @property
    def judged(self) -> nn.Module:
        """The model that is validated and kept: with averaged weights where these are wanted."""
        return self.model if self.average is None else self.average.module

    def add(self, batch: Batch, *, first: bool, last: bool, batches: int) -> tuple[float, int, int]:
        """Add a batch's gradients to those of the `batches` of a step; from the `first` on.

        Returns the sum of the batch's losses, over all processes, how many labels are right, and
        how many there are.
        """
        if first:
            self.optimiser.zero_grad()
        own, weight = processes.own_part(batch)
        count = self.task.count(batch)
        alone = processes.several() and not last
        with self.judge.no_sync() if alone else nullcontext():
            judgement = self.judge(own, self.state)
            # Gradients come as the mean over processes, and are to be that over all labels.
            share = weight * processes.count() / (count * batches)
            ((judgement.loss + judgement.penalty) * share).backward()
        self.state = None if judgement.state is None else detach_state(judgement.state)
        loss, correct = judgement.loss.item() * weight, judgement.correct * weight
        loss, correct = processes.total([loss, correct])
        return loss, int(correct), count

    def clip(self) -> float:
        """Clip by norm, then by value, so that both bounds hold; return the norm before."""
        parameters = list(self.model.parameters())
        norm = clip_grad_norm_(parameters, self.config.clip_norm or math.inf).item()
        if self.config.clip_value is not None:
            clip_grad_value_(parameters, self.config.clip_value)
        return norm

    def step(self, rate: float) -> None:
        """Move the weights."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state_dict(self, content: dict[str, Any]) -> None:
        self.model.load_state_dict(content["model"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
