"""Draw docs/speed.svg, the picture of speed in the README, from the tables in RESULTS.md.

python -m benchmarks.overview

Measures nothing. Run it after changing the section "Layers against torch.nn"; a test compares
the committed picture with a new one.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.options import parser_of
from benchmarks.picture import COLOURS, STYLE, label_left

RESULTS = Path(__file__).with_name("RESULTS.md")
PICTURE = Path(__file__).parents[1] / "docs" / "speed.svg"
SECTION = "Layers against torch.nn"
# Panels with their groups: a title, the shape's name in the table, the mode.
PANELS = {
    "Training, padded batches": [
        ("small", "small", "training"),
        ("medium", "medium", "training"),
    ],
    "Ragged batches, packed for torch.nn": [
        ("training", "ragged", "training"),
        ("inference", "ragged", "inference"),
    ],
}
TEXT, MUTED, GRID = "#24292f", "#57606a", "#e4e7eb"


@dataclass(frozen=True)
class Group:
    """The ratios of one shape in one mode, by layer; above 1 seqcells is faster."""

    title: str
    sizes: str
    ratios: dict[str, float]


def section(text: str, title: str) -> str:
    """Return the text between a heading of the second level and the next one.

    Raises:
        ValueError: there is no such heading.
    """
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    if found is None:
        raise ValueError(f"RESULTS.md: expected a section {title!r}, got none; restore the heading")
    return found[1]


def first_table(text: str) -> list[dict[str, str]]:
    """Return the rows of the first Markdown table, each as a dict from column to cell."""
    lines = re.search(r"(?:^\|.*\n)+", text, re.MULTILINE)
    header, _, *rows = (_cells(line) for line in lines[0].splitlines()) if lines else ([], [])
    return [dict(zip(header, row)) for row in rows]


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def read(text: str) -> dict[str, list[Group]]:
    """Return the groups of each panel.

    Raises:
        ValueError: a shape that the picture needs is not in the table.
    """
    rows = first_table(section(text, SECTION))
    panels: dict[str, list[Group]] = {}
    for panel, groups in PANELS.items():
        panels[panel] = []
        for title, shape, mode in groups:
            own = [row for row in rows if row["shape"].startswith(f"{shape}: ")]
            own = [row for row in own if row["mode"] == mode]
            ratios = {row["layer"]: float(row["torch.nn / seqcells"]) for row in own}
            if set(ratios) != set(COLOURS):
                expected = ", ".join(COLOURS)
                raise ValueError(
                    f"RESULTS.md: expected {shape}, {mode} of {expected}, got {list(ratios)}"
                )
            panels[panel].append(Group(title, own[0]["shape"].partition(": ")[2], ratios))
    return panels


def setting(text: str) -> str:
    """Return the machine and the version of torch.

    Raises:
        ValueError: RESULTS.md does not state them.
    """
    prose = " ".join(text.split())  # line breaks may stand anywhere
    machine = re.search(r"Machine: (.*?), \d+ GiB", prose)
    version = re.search(r"torch (\d+\.\d+\.\d+)", prose)
    threads = re.search(r"\d+ threads", " ".join(section(text, SECTION).split()))
    if not (machine and version and threads):
        raise ValueError(
            "RESULTS.md: expected 'Machine: NAME, N GiB', 'torch X.Y.Z' and, in the section "
            f"{SECTION!r}, 'N threads'; restore what is missing"
        )
    return f"{machine[1]}, {threads[0]}, float32, torch {version[1]}"


def draw(text: str, path: Path) -> None:
    """Write the picture; the same text makes the same file."""
    panels = read(text)
    with matplotlib.rc_context(STYLE | {"text.color": TEXT, "font.size": 10}):
        figure = Figure(figsize=(6.4, 4.9))
        both = figure.subplots(len(panels), 1)
        figure.subplots_adjust(left=0.215, right=0.97, top=0.81, bottom=0.12, hspace=0.52)
        for axes, (title, groups) in zip(both, panels.items()):
            _draw_panel(axes, groups)
            axes.set_title(title, fontsize=10.5, fontweight="bold", loc="left", pad=18)
        figure.text(0.02, 0.94, "Speed on a CPU relative to torch.nn", fontsize=13, weight="bold")
        note = f"{setting(text)}. The scales of the panels differ."
        figure.text(0.02, 0.03, note, fontsize=8.5, color=MUTED)
        handles, names = both[0].get_legend_handles_labels()
        figure.legend(
            handles,
            names,
            loc="upper right",
            bbox_to_anchor=(1.0, 0.995),
            ncols=len(names),
            frameon=False,
            handlelength=1.0,
            handleheight=1.0,
            columnspacing=1.1,
        )
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _draw_panel(axes: Axes, groups: Sequence[Group]) -> None:
    """Draw bars from 0, with a line at the speed of torch.nn."""
    for number, (layer, colour) in enumerate(COLOURS.items()):
        places = [place + 0.27 * (number - 1) for place in range(len(groups))]
        ratios = [group.ratios[layer] for group in groups]
        axes.barh(places, ratios, height=0.24, color=colour, label=layer, zorder=2)
        for place, ratio in zip(places, ratios):
            axes.annotate(
                f"{ratio:.1f}\N{MULTIPLICATION SIGN}",
                (ratio, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center_baseline",
                fontsize=9.5,
            )
    axes.axvline(1, color=TEXT, linewidth=1.2, linestyle=(0, (4, 2)), zorder=3)
    axes.annotate(
        "torch.nn = 1",
        (1, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        fontsize=8.5,
        color=MUTED,
    )
    axes.set_xlim(0, 1.13 * max(ratio for group in groups for ratio in group.ratios.values()))
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_yticks([])
    for place, group in enumerate(groups):
        sizes = group.sizes.replace(" I=100", "")
        label_left(axes, place, group.title, (-7, 6), fontsize=10)
        label_left(axes, place, sizes, (-7, -7), fontsize=8, color=MUTED)
    axes.tick_params(axis="x", length=0, labelsize=8.5, labelcolor=MUTED)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color(MUTED)


def main(argv: Sequence[str]) -> None:
    parser_of(__doc__).parse_args(argv)
    draw(RESULTS.read_text(encoding="utf-8"), PICTURE)
    print(f"Picture: {PICTURE}")


if __name__ == "__main__":
    main(sys.argv[1:])
