"""Reports about trained runs: metrics, charts and examples in one HTML file."""

from seqcells.lab.report.page import write_report

__all__ = ["write_report"]
