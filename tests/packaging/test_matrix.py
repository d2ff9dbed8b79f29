"""The table of `make matrix`: its rows, constraints and counts."""

import argparse
import sys

import pytest

from tests import matrix


def test_rows_are_read():
    assert matrix.parse_row("3.11:2.7.1") == ("python3.11", "3.11", "2.7.1")
    assert matrix.parse_row("3.13=/opt/python:2.13.0") == ("/opt/python", "3.13", "2.13.0")


@pytest.mark.parametrize("text", ["2.7.1", "3.11", "3.11:2.7", "4.0:2.7.1", "3.11=:2.7.1"])
def test_other_rows_raise(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected PYTHON:TORCH"):
        matrix.parse_row(text)


def test_default_rows_are_the_oldest_and_the_pinned_torch():
    rows = matrix.default_rows(["torchtext==0.6.0", "torch==2.13.0"])
    assert [row.torch for row in rows] == [matrix.OLDEST, "2.13.0"]
    assert {row.interpreter for row in rows} == {sys.executable}


def test_constraints_replace_torch_and_what_depends_on_it():
    lines = ["numpy==2.4.6", "six==1.17.0", "torch==2.13.0", "torchtext==0.6.0", "triton==3.7.1"]
    old = matrix.constraints_for(matrix.parse_row("3.11:2.7.1"), lines)
    assert old == ["six==1.17.0", "torchtext==0.6.0", "torch==2.7.1", "numpy<2.4", ""]
    new = matrix.constraints_for(matrix.parse_row("3.11:2.13.0"), lines)
    assert new == ["numpy==2.4.6", "six==1.17.0", "torchtext==0.6.0", "torch==2.13.0", ""]


def test_counts_are_those_of_the_last_summary():
    output = "1 failed in 2s\n12 failed, 5755 passed, 10 skipped, 9 deselected, 1 error in 261.98s"
    counts = {"passed": 5755, "failed": 12, "errors": 1, "skipped": 10}
    assert matrix.counts_of(output) == counts
    with pytest.raises(ValueError, match="expected a summary"):
        matrix.counts_of("collected nothing")


def test_table():
    counts = {"passed": 5755, "failed": 0, "errors": 0, "skipped": 10}
    assert matrix.table([(matrix.parse_row("3.11:2.7.1"), counts)]).splitlines() == [
        "| Python | torch | passed | failed | errors | skipped |",
        "|---|---|---:|---:|---:|---:|",
        "| 3.11 | 2.7.1 | 5,755 | 0 | 0 | 10 |",
    ]
