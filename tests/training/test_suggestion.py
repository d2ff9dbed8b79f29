"""The nearest known name."""

import pytest

from seqcells.lab.suggestion import nearest

KNOWN = [
    "model.hidden_size",
    "model.cell",
    "training.seed",
    "training.epochs",
    "--top-k",
    "--help",
    "Dates",
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.hiden_size", "model.hidden_size"),
        ("hidden_size", "model.hidden_size"),
        ("model.h", "model.hidden_size"),
        ("MODEL.CELL", "model.cell"),
        ("trainig.seed", "training.seed"),
        ("--topk", "--top-k"),
        ("date", "Dates"),
        ("quantum", None),
        ("--deep", None),
        ("", None),
    ],
)
def test_nearest_name(name, expected):
    assert nearest(name, KNOWN) == expected


def test_nothing_is_near_without_names():
    assert nearest("name", []) is None
