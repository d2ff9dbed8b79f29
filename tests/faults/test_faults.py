"""The list of deliberate faults matches the code."""

import pytest

from tests.faults.__main__ import ROOT
from tests.faults.catalogue import FAULTS


@pytest.mark.parametrize("path", sorted({fault.path for fault in FAULTS}))
def test_each_fault_applies_once(path):
    text = (ROOT / "seqcells" / path).read_text()
    for fault in FAULTS:
        if fault.path == path:
            assert text.count(fault.original) == 1, fault.original
            assert fault.original != fault.replacement


def test_faults_are_many_and_distinct():
    assert len(set(FAULTS)) == len(FAULTS) >= 40
