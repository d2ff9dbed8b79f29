"""One optimiser step: learning rate, gradients, clipping, update, and averaged weights."""

import copy
import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_, clip_grad_value_

from seqcells.lab.text.batches import Batch
from seqcells.lab.training import processes
from seqcells.lab.training.config import TrainingConfig
from seqcells.lab.training.tasks import Judgement, Task
from seqcells.state import detach_state

FINAL_RATE = 0.01  # final learning rate relative to its peak
SMALLEST_SCALE = 2.0**-24  # smallest loss scale for float16: below it every gradient underflows


def learning_rate(step: int, total: int, config: TrainingConfig) -> float:
    """Return the learning rate of `step`, from 0 to `total - 1`: linear warm-up, then decay."""
    warmup = round(config.warmup * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    elapsed = (step - warmup) / max(total - 1 - warmup, 1)
    factor = {
        "none": 1.0,
        "linear": 1 - elapsed,
        "cosine": (1 + math.cos(math.pi * elapsed)) / 2,
    }[config.decay]
    return config.learning_rate * (FINAL_RATE + (1 - FINAL_RATE) * factor)


class AveragedModel:
    """The exponential moving average of a model's weights (Polyak & Juditsky 1992).

    The decay starts small, which limits the influence of the initial weights. Steps are counted on
    the host: `torch.optim.swa_utils` synchronises with the GPU at each step.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Average in the weights after a step; copy the buffers."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.steps else 0.0
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for average, new in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(new)
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "steps": self.steps}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        self.model.load_state_dict(content["model"])
        self.steps = content["steps"]


class TaskModule(nn.Module):
    """A task's judgement of its model as one module, which DistributedDataParallel can wrap."""

    def __init__(self, task: Task, model: nn.Module, config: TrainingConfig):
        super().__init__()
        self.task, self.model, self.config = task, model, config

    def forward(self, batch: Batch, state: Any) -> Judgement:
        dtype = getattr(torch, self.config.precision)
        mixed = dtype != torch.float32
        with torch.autocast(batch.inputs.device.type, dtype) if mixed else nullcontext():
            return self.task.judge(self.model, batch, state, self.config.label_smoothing)


class Learner:
    """AdamW with clipping, on the gradients of one batch or the sum over several.

    Each process computes the loss of its shard of a batch. Gradients are reduced to those of the
    whole batch and equal those of a single process up to rounding.
    """

    def __init__(self, task: Task, model: nn.Module, config: TrainingConfig):
        self.task, self.model, self.config = task, model, config
        self.optimiser = torch.optim.AdamW(
            model.parameters(), weight_decay=config.weight_decay, fused=True
        )
        self.device = next(model.parameters()).device
        # Small gradients underflow in float16 unless the loss is scaled.
        scaled = config.precision == "float16"
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        self.average = None if config.average is None else AveragedModel(model, config.average)
        self.state: Any = None  # the final state of the last batch
        if config.compile:
            model.compile(dynamic=True)
        self.task_module = TaskModule(task, model, config)
        if processes.is_distributed():
            self.task_module = DistributedDataParallel(
                self.task_module, find_unused_parameters=not task.uses_all_parameters
            )

    @property
    def evaluated_model(self) -> nn.Module:
        """The model to validate and save: the averaged model if averaging is configured."""
        return self.model if self.average is None else self.average.model

    def accumulate(self, batch: Batch, scale: float, *, first: bool, last: bool) -> Judgement:
        """Add the gradients of `scale` times a batch's loss; return the batch's judgement.

        A step accumulates over one or more batches, from the `first` to the `last`.
        """
        if first:
            self.optimiser.zero_grad()
        local = processes.is_distributed() and not last
        with self.task_module.no_sync() if local else nullcontext():
            judgement = self.task_module(batch, self.state)
            self.scaler.scale((judgement.loss + judgement.penalty) * scale).backward()
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
        """Update the weights, unless the gradients have overflowed in float16."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.model)

    def can_skip(self) -> bool:
        """Return whether a smaller loss scale may make the gradients finite again."""
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
