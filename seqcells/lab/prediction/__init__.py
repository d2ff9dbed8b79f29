"""Trained runs at work: texts in, probabilities out."""

from seqcells.lab.prediction.classifier import Classifier, load
from seqcells.lab.prediction.stream import Stream

__all__ = ["Classifier", "Stream", "load"]
