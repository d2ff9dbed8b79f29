"""Axes include all values, and ticks are at the positions of their labels."""

import re

import pytest

from seqcells.lab.report.svg import LEFT, RIGHT, TOP, WIDTH, Axis, Chart

SHARES = [[0.9151, 0.847, 0.9851], [0.0, 0.69], [1.0, 1.0], [0.0, 0.0], [0.993, 1.0]]
OTHERS = [[0.00021, 0.00019], [-70, 0], [3.1, 303.2], [45_000.0, 64_000.0]]
AXES = [*((values, True) for values in SHARES), *((values, False) for values in SHARES + OTHERS)]


@pytest.mark.parametrize(("values", "percent"), AXES)
def test_tick_labels_equal_values(values, percent):
    axis = Axis.around("anything", values, percent=percent)
    assert axis.low - 1e-12 <= min(values) <= max(values) <= axis.high + 1e-12
    assert not percent or 0 <= axis.low < axis.high <= 1
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 7
    for value, text in ticks:
        assert axis.low - 1e-9 <= value <= axis.high + 1e-9
        labelled = float(text.rstrip("%").replace(",", "")) / (100 if percent else 1)
        assert labelled == pytest.approx(abs(value), abs=1e-9)


@pytest.mark.parametrize(("last", "most"), [(1, 2), (2, 2), (12, 12), (167, 167)])
def test_whole_axes_have_whole_ticks(last, most):
    axis = Axis.around("epoch", [1, last], whole=True)
    assert (axis.low, axis.high) == (1, most)
    assert all(text == str(round(value)) for value, text in axis.ticks())


def test_whole_axes_have_several_ticks():
    for last in range(1, 1200):
        assert 2 <= len(Axis.around("word", [1, last], whole=True).ticks()) <= 7, last
        assert 2 <= len(Axis.around("words back", [-last, -1], whole=True).ticks()) <= 7, last


@pytest.mark.parametrize(
    "y",
    [
        Axis.logarithmic("gradient norm", [3e-12, 0.7]),
        Axis.logarithmic("gradient norm", [1e-107, 0.7]),
        Axis.around("accuracy", [0, 1], percent=True),
        Axis.around("perplexity", [0, 4.2e7]),
        Axis.around("loss", [0, 0.0000042]),
    ],
    ids=lambda y: f"{y.low} to {y.high}",
)
def test_tick_labels_do_not_reach_the_label_of_the_axis(y):
    page = Chart("title", Axis.around("x", [0, 1]), y).__html__()
    labels = re.findall(r'<text class="y" x="([^"]*)"[^>]*>([^<]*)</text>', page)
    assert len(labels) >= 2
    (baseline,) = re.findall(r"translate\((\S+) \S+\) rotate", page)
    for right, text in labels:
        digits = len(re.sub(r"[,.]", "", text))
        assert float(right) - 6.9 * digits > float(baseline) + 3


def test_powers_of_ten():
    axis = Axis.logarithmic("norm", [3e-12, 0.7])
    assert (axis.low, axis.high) == (1e-12, 1)
    assert [text for _, text in axis.ticks()] == ["10⁻¹²", "10⁻⁹", "10⁻⁶", "10⁻³", "10⁰"]
    assert axis.position(1e-6) == pytest.approx(0.5)


def test_points_follow_the_axes():
    x, y = Axis.around("x", [0, 10]), Axis.around("y", [0, 1])
    page = Chart("title", x, y).line([0, 10], [0, 1], "<name>", titles=["a & b", "c"]).__html__()
    (first, last) = re.search(r'points="(.*?)"', page)[1].split()
    assert float(first.split(",")[0]) == LEFT
    assert [float(one) for one in last.split(",")] == [WIDTH - RIGHT, TOP]
    assert "&lt;name&gt;" in page
    assert "<title>a &amp; b</title>" in page
