"""Draw the table of ratios as bars."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.shapes import Shape
from benchmarks.table import Row

COLOURS = {"RNN": "#E69F00", "GRU": "#009E73", "LSTM": "#0072B2"}  # of Okabe and Ito
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
STYLE = {"font.size": 9, "svg.hashsalt": "seqcells", "svg.fonttype": "none"}


def draw(rows: Sequence[Row], path: Path, setting: str) -> None:
    """Write an SVG: a panel for inference and one for training, a group of bars per shape."""
    shapes = list(dict.fromkeys(row.shape for row in rows))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 1.3 + 0.52 * len(shapes)), layout="constrained")
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes, train in zip(panels, (False, True)):
            _draw_mode(axes, [row for row in rows if row.train == train], shapes)
            axes.set_title("training" if train else "inference", fontsize=10)
        _set_scales(panels[0], [row.ratio for row in rows], len(shapes))
        _name(panels[0], shapes)
        figure.suptitle(f"How many times as fast as torch.nn ({setting})", fontsize=11)
        handles, names = panels[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _draw_mode(axes: Axes, rows: Sequence[Row], shapes: list[Shape]) -> None:
    """Draw bars from 1.0, to the right if ours is faster."""
    for number, (cell, colour) in enumerate(COLOURS.items()):
        bars = [row for row in rows if row.cell == cell]
        heights = [shapes.index(row.shape) + 0.27 * (number - 1) for row in bars]
        widths = [row.ratio - 1 for row in bars]
        axes.barh(heights, widths, height=0.25, left=1, color=colour, label=cell, zorder=2)
        for height, row in zip(heights, bars):
            right = row.ratio >= 1
            axes.annotate(
                f"{row.ratio:.1f}" if row.ratio >= 10 else f"{row.ratio:.2f}",
                (row.ratio, height),
                xytext=(3 if right else -3, 0),
                textcoords="offset points",
                ha="left" if right else "right",
                va="center_baseline",
                fontsize=7,
            )
    axes.axvline(1, color="black", linewidth=1, zorder=3)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _set_scales(axes: Axes, ratios: Sequence[float], groups: int) -> None:
    axes.set_xscale("log")
    axes.set_xlim(min(0.8, min(ratios) / 1.7), max(2.0, max(ratios) * 1.7))
    axes.set_ylim(groups - 0.5, -0.5)
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}"))


def _name(axes: Axes, shapes: Sequence[Shape]) -> None:
    """Write each group's name and sizes."""
    for place, shape in enumerate(shapes):
        name, _, sizes = str(shape).partition(": ")
        label_left(axes, place, name, (-4, 5), fontsize=9, fontweight="bold")
        label_left(axes, place, sizes, (-4, -6), fontsize=7, color="#555555")


def label_left(
    axes: Axes, place: float, line: str, offset: tuple[float, float], **style: Any
) -> None:
    """Write a line left of the axis. Each line is separate, since fonts differ by viewer."""
    axes.annotate(
        line,
        (0, place),
        xycoords=("axes fraction", "data"),
        xytext=offset,
        textcoords="offset points",
        ha="right",
        va="center_baseline",
        **style,
    )
