"""Predictions of teachers for the unlabelled reviews, kept in the folders of their runs."""

import hashlib
import warnings
from collections.abc import Callable, Sequence

from torch import Tensor

from seqcells.lab.text.reviews import Review
from seqcells.lab.training import processes
from seqcells.lab.training.checkpoints import load_checkpoint, save_checkpoint
from seqcells.lab.training.runs import Run

PREDICTIONS = "predictions.pt"


def cached_predictions(
    teacher: Run, reviews: Sequence[Review], predict: Callable[[], Tensor]
) -> Tensor:
    """Return `predict()`, the teacher's predictions for the reviews, and keep them in its folder.

    They are computed again if the teacher's model or the texts have changed.
    """
    path, source = teacher.folder / PREDICTIONS, _fingerprint(teacher, reviews)
    if path.exists():
        content = load_checkpoint(path, teacher.config)
        if content["source"] == source:
            return content["predictions"]
    predictions = predict()
    if processes.is_main():
        content = {"source": source, "predictions": predictions}
        try:
            save_checkpoint(path, teacher.config, content)
        except OSError as error:
            warnings.warn(
                f"{error.__cause__}; a later run will predict the labels of {teacher.folder} again",
                stacklevel=2,
            )
    return predictions


def _fingerprint(teacher: Run, reviews: Sequence[Review]) -> str:
    """Return a hash of the teacher's model and the texts."""
    with teacher.best.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    for review in reviews:
        digest.update(review.text.encode() + b"\0")
    return digest.hexdigest()
