"""Gate activations and gradient flow of a trained recurrence."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from seqcells import Recurrent, Stack, Trace, gradient_flow, trace
from seqcells.lab.prediction import Classifier
from seqcells.lab.report.predictions import Predictions
from seqcells.lab.text.reviews import Review
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training.tasks.sentiment import Sentiment

NOT_GATES = ("candidate", "hidden")  # activations from -1 to 1
LENGTH_QUANTILE = 0.75  # gradients are measured on reviews of about this length
REVIEWS = 64


@torch.no_grad()
def gate_activity(classifier: Classifier, words: Sequence[str]) -> dict[str, list[float]]:
    """Return the activation of each gate at each word, by gate name, averaged over units.

    The gates are those of the forward direction of the first layer. Models without gates return an
    empty dictionary.
    """
    if classifier.config.model.kind != "recurrent":
        return {}
    model = _with_seqcells_layers(classifier)
    tokens = torch.tensor([classifier.vocabulary.number(word) for word in words])
    gates = _first_trace(model.recurrent, model.inputs(tokens.unsqueeze(1))).gates
    return {
        name: activity[:, 0].mean(-1).tolist()
        for name, activity in gates.items()
        if name not in NOT_GATES
    }


def _with_seqcells_layers(classifier: Classifier) -> nn.Module:
    """Return the model with layers of seqcells, which `seqcells.trace` supports."""
    config = classifier.config
    if config.model.backend == "seqcells":
        return classifier.model
    task = Sentiment(replace(config, model=replace(config.model, backend="seqcells")))
    model = task.build(classifier.vocabulary)
    model.load_state_dict(classifier.model.state_dict())
    return model.eval()


def _first_trace(recurrent: nn.Module, vectors: Tensor) -> Trace:
    if isinstance(recurrent, Stack):
        first = recurrent.layers[0]
        return trace(first if isinstance(first, Recurrent) else first[0], vectors)
    return trace(recurrent, vectors)["l0"]


def gradient_reach(
    task: Sentiment,
    model: nn.Module,
    vocabulary: Vocabulary,
    reviews: Sequence[Review],
    predicted: Predictions,
) -> dict[str, list[float]]:
    """Return the gradient norm of the logit at each input, by recurrence, from the last word back.

    Norms are medians over up to 64 reviews at about the upper quartile of length, cut to the
    shortest of them. Models without a recurrence return an empty dictionary.
    """
    if task.config.model.kind != "recurrent":
        return {}
    order = np.argsort(predicted.lengths, kind="stable")
    first = max(0, min(int(LENGTH_QUANTILE * len(order)), len(order) - REVIEWS))
    chosen = [reviews[index] for index in order[first : first + REVIEWS]]
    (batch,) = task.evaluation_batches(chosen, vocabulary).epoch(0)
    shortest = int(batch.lengths.min())
    back = batch.lengths - 1 - torch.arange(shortest).unsqueeze(1)
    flows = gradient_flow(model, batch.inputs, batch.lengths)
    return {name: norms.gather(0, back).median(1).values.tolist() for name, norms in flows.items()}
