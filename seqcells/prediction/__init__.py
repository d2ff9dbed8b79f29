"""Trained runs at work: texts in, probabilities out."""

from seqcells.prediction.classifier import Classifier, load
from seqcells.prediction.stream import Stream

__all__ = ["Classifier", "Stream", "load"]
