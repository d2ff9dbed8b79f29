"""Test the picture of speed: the committed file is what RESULTS.md gives."""

import pytest

from benchmarks import overview

TEXT = overview.RESULTS.read_text(encoding="utf-8")


def test_the_committed_picture_is_up_to_date(tmp_path):
    overview.draw(TEXT, tmp_path / "speed.svg")
    expected = (tmp_path / "speed.svg").read_text(encoding="utf-8")
    # Not `==` in the assertion: pytest would print both files.
    same = overview.PICTURE.read_text(encoding="utf-8") == expected
    assert same, "docs/speed.svg differs from RESULTS.md: run `python -m benchmarks.overview`"


def test_the_picture_labels_every_ratio():
    picture = overview.PICTURE.read_text(encoding="utf-8")
    ratios = [
        ratio
        for groups in overview.read(TEXT).values()
        for group in groups
        for ratio in group.ratios.values()
    ]
    assert len(ratios) == 12
    for ratio in ratios:
        assert f">{ratio:.1f}\N{MULTIPLICATION SIGN}<" in picture
    assert overview.setting(TEXT) in picture


def test_a_changed_ratio_is_read():
    changed = TEXT.replace("| 269.98 | 162.64 | 1.66 |", "| 269.98 | 162.64 | 2.66 |")
    assert changed != TEXT
    assert overview.read(changed)["Training, padded batches"][1].ratios["LSTM"] == 2.66


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("## Layers against torch.nn\n", "## Layers\n", "expected a section"),
        ("| small: ", "| tiny: ", "expected small, training"),
        ("Machine: ", "Computer: ", "expected 'Machine"),
    ],
)
def test_missing_parts_raise(tmp_path, old, new, message):
    with pytest.raises(ValueError, match=message):
        overview.draw(TEXT.replace(old, new), tmp_path / "speed.svg")


def test_the_command_writes_the_picture(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(overview, "PICTURE", tmp_path / "speed.svg")
    overview.main([])
    assert capsys.readouterr().out == f"Picture: {tmp_path / 'speed.svg'}\n"
    assert (tmp_path / "speed.svg").read_text(encoding="utf-8").startswith("<?xml")
