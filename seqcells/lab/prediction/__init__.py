"""Prediction with trained sentiment classifiers."""

from seqcells.lab.prediction.classifier import Classifier, load
from seqcells.lab.prediction.stream import Stream

__all__ = ["Classifier", "Stream", "load"]
