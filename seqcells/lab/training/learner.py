"""The model and what changes it: one step of the optimiser, by one process or several."""

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from seqcells.lab.text.batches import Batch
from seqcells.lab.training import processes
from seqcells.lab.training.averaging import AverageModel
from seqcells.lab.training.config import TrainingConfig
from seqcells.lab.training.tasks import Judgement, Task
from seqcells.state import detach_state

SMALLEST_SCALE = 2.0**-24  # of the loss in float16: below it no gradient would be left


class Judge(nn.Module):
    """A task's judgement of its model as one module, all of which other processes can share."""

    def __init__(self, task: Task, model: nn.Module, config: TrainingConfig):
        super().__init__()
        self.task, self.model, self.config = task, model, config

    def forward(self, batch: Batch, state: Any) -> Judgement:
        kind = getattr(torch, self.config.precision)
        mixed = kind != torch.float32
        with torch.autocast(batch.inputs.device.type, kind) if mixed else nullcontext():
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
        self.device = next(model.parameters()).device
        # Small gradients vanish in float16, but not those of a loss that is scaled up.
        scaled = config.precision == "float16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        self.average = None if config.average is None else AverageModel(model, config.average)
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
        return self.model if self.average is None else self.average.model

    def add(self, batch: Batch, share: float, *, first: bool, last: bool) -> Judgement:
        """Add the gradients of `share` times a batch's losses, from the `first` to the `last` batch
        of a step; return how the model did on it.
        """
        if first:
            self.optimiser.zero_grad()
        alone = processes.several() and not last
        with self.judge.no_sync() if alone else nullcontext():
            judgement = self.judge(batch, self.state)
            self.scaler.scale((judgement.loss + judgement.penalty) * share).backward()
        self.state = None if judgement.state is None else detach_state(judgement.state)
        return judgement

    def clip(self) -> Tensor:
        """Clip by norm, then by value, so that both bounds hold; return the norm before."""
        self.scaler.unscale_(self.optimiser)
        parameters = list(self.model.parameters())
        norm = clip_grad_norm_(parameters, self.config.clip_norm or math.inf)
        if self.config.clip_value is not None:
            clip_grad_value_(parameters, self.config.clip_value)
        return norm

    def step(self, rate: float) -> None:
        """Move the weights, unless the gradients have overflowed in float16."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model)

    def can_skip(self) -> bool:
        """Whether a smaller scale of the loss may mend a gradient that is not finite."""
        return self.scaler.is_enabled() and self.scaler.get_scale() > SMALLEST_SCALE

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, content: dict[str, Any]) -> None:
        self.model.load_state_dict(content["model"])
        if self.average is not None:
            self.average.load_state_dict(content["average"])
        self.optimiser.load_state_dict(content["optimiser"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(content["scaler"])
