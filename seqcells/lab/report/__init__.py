"""A page about trained runs: figures, charts, examples, all in one HTML file."""

from seqcells.lab.report.page import write_report

__all__ = ["write_report"]
