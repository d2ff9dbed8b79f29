"""What goes on inside a trained recurrence: its gates word by word, and how far gradients reach."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from seqcells import Recurrent, Stack, Trace, gradient_flow, trace
from seqcells.lab.prediction import Classifier
from seqcells.lab.report.outcome import Outcome
from seqcells.lab.text.reviews import Review
from seqcells.lab.text.vocabulary import Vocabulary
from seqcells.lab.training.tasks.sentiment import Sentiment

NO_GATES = ("candidate", "hidden")  # values between -1 and 1, which let nothing through
LONG = 0.75  # the quantile of length whose reviews gradients are measured on
REVIEWS = 64


@torch.no_grad()
def gate_activity(classifier: Classifier, words: Sequence[str]) -> dict[str, list[float]]:
    """By the gate's name how open it is at each of the words, the mean over units.

    Those are the gates of the first layer as it reads forward; where there are none, nothing.
    """
    if classifier.config.model.kind != "recurrent":
        return {}
    model = _with_own_layers(classifier)
    tokens = torch.tensor([classifier.vocabulary.number(word) for word in words])
    gates = _first_trace(model.recurrent, model.inputs(tokens.unsqueeze(1))).gates
    return {
        name: activity[:, 0].mean(-1).tolist()
        for name, activity in gates.items()
        if name not in NO_GATES
    }


def _with_own_layers(classifier: Classifier) -> nn.Module:
    """The same model on our layers, which can be looked into."""
    config = classifier.config
    if config.model.backend == "seqcells":
        return classifier.model
    own = Sentiment(replace(config, model=replace(config.model, backend="seqcells")))
    twin = own.build(classifier.vocabulary)
    twin.load_state_dict(classifier.model.state_dict())
    return twin.eval()


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
    outcome: Outcome,
) -> dict[str, list[float]]:
    """By the recurrence's name the gradient of the logit by its input, the last word's first.

    It is the median of the norms over up to 64 reviews about the upper quartile of length, of as
    many words as all of them have. Without a recurrence there is none.
    """
    if task.config.model.kind != "recurrent":
        return {}
    order = np.argsort(outcome.lengths, kind="stable")
    first = max(0, min(int(LONG * len(order)), len(order) - REVIEWS))
    chosen = [reviews[place] for place in order[first : first + REVIEWS]]
    (batch,) = task.to_evaluate(chosen, vocabulary).epoch(0)
    shortest = int(batch.lengths.min())
    back = batch.lengths - 1 - torch.arange(shortest).unsqueeze(1)
    flows = gradient_flow(model, batch.inputs, batch.lengths)
    return {name: norms.gather(0, back).median(1).values.tolist() for name, norms in flows.items()}
