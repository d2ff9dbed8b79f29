"""Charts as inline SVG, styled by the CSS of the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH, HEIGHT, LOW_HEIGHT = 360, 200, 140
LEFT, RIGHT, TOP, BOTTOM = 54, 16, 8, 38  # margins; LEFT is wider if tick labels need it
LABEL = 22  # width of the rotated label of the y axis, and of the gaps around the tick labels
COLOURS = 6  # classes c0 to c5 in style.css
TICKS = 4
CHARACTER, CHARACTERS = 7.0, {",": 3.5, ".": 3.5, "%": 10.5}  # widths in the widest usual font
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Axis:
    """An axis from `low` to `high`, with ticks at multiples of `step` or at powers of ten."""

    label: str
    low: float
    high: float
    step: float
    percent: bool = False
    log: bool = False

    @classmethod
    def around(
        cls, label: str, values: Sequence[float], *, percent: bool = False, whole: bool = False
    ) -> "Axis":
        """Create an axis with round limits that include all values."""
        low, high = min(values), max(values)
        step = _round_step((high - low or abs(high) or 1) / TICKS)
        step = max(1, round(step)) if whole else step
        ends = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        low, high = (low, max(high, low + 1)) if whole else ends
        while whole and math.floor(high / step) <= math.ceil(low / step):  # fewer than two ticks
            step = round(_round_step(step * 0.4))
        if low == high:
            low, high = low - step, high + step
        if percent:
            low, high = max(low, 0.0), min(high, 1.0)
        return cls(label, low, high, step, percent)

    @classmethod
    def logarithmic(cls, label: str, values: Sequence[float]) -> "Axis":
        """Create a logarithmic axis between powers of ten."""
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        high = max(high, low + 1)
        step = math.ceil((high - low) / (TICKS + 1))
        return cls(label, 10.0**low, 10.0**high, step, log=True)

    def position(self, value: float) -> float:
        """Return the relative position of a value: 0 at `low`, 1 at `high`."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(value)
        return (value - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        if self.log:
            powers = range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)
            return [
                (10.0**n, "10" + str(n).translate(SUPERSCRIPT)) for n in powers[:: int(self.step)]
            ]
        first, last = math.ceil(self.low / self.step - 1e-9), self.high / self.step + 1e-9
        values = [number * self.step for number in range(first, math.floor(last) + 1)]
        return [(value, self._format(value)) for value in values]

    def _format(self, value: float) -> str:
        scale = 100 if self.percent else 1
        digits = max(0, -math.floor(math.log10(self.step * scale) + 1e-9))
        return f"{abs(value) * scale:,.{digits}f}{'%' if self.percent else ''}"


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(one * power for one in (1, 2, 5, 10) if one * power >= rough * 0.999)


def _text_width(text: str) -> float:
    """Estimate the width of a tick label in pixels, from above."""
    return sum(CHARACTERS.get(one, CHARACTER) for one in text)


def line_style(colour: int) -> str:
    """Return the CSS classes of a line; after the last colour, lines are dashed."""
    return f"c{colour % COLOURS}" + (" dashed" if colour // COLOURS % 2 else "")


def key(name: str, colour: int) -> Markup:
    """Return a legend entry."""
    return Markup('<span class="key {}">{}</span>').format(line_style(colour), name)


class Chart:
    """A chart with title and legend, rendered by `__html__` in templates."""

    def __init__(self, title: str, x: Axis, y: Axis, height: int = HEIGHT):
        self.title, self.x, self.y, self.height = title, x, y, height
        widest = max(_text_width(text) for _, text in y.ticks())
        self.left = max(LEFT, math.ceil(widest + LABEL))
        self._keys: list[Markup] = []
        self._elements: list[Markup] = []

    def line(
        self,
        xs: Sequence[float],
        ys: Sequence[float],
        name: str = "",
        *,
        colour: int = 0,
        titles: Sequence[str] = (),
    ) -> "Chart":
        """Draw a line; with `titles`, also a marker with a tooltip at each point."""
        style = line_style(colour)
        pixels = [self._to_pixels(x, y) for x, y in zip(xs, ys)]
        points = " ".join(f"{across:.1f},{down:.1f}" for across, down in pixels)
        self._add('<polyline class="line {}" points="{}"/>', style, points)
        for (across, down), title in zip(pixels, titles):
            circle = (
                '<circle class="mark {}" cx="{:.1f}" cy="{:.1f}" r="2.6"><title>{}</title></circle>'
            )
            self._add(circle, style, across, down, title)
        if name:
            self._keys.append(key(name, colour))
        return self

    def whiskers(self, xs: Sequence[float], ends: Sequence[tuple[float, float]]) -> "Chart":
        """Draw a vertical error bar from the low to the high end at each x."""
        for x, (low, high) in zip(xs, ends):
            (across, bottom), (_, top) = self._to_pixels(x, low), self._to_pixels(x, high)
            line = '<path class="whisker" d="M{:.1f} {:.1f}V{:.1f}"/>'
            self._add(line, across, bottom, top)
        return self

    def bars(
        self, edges: Sequence[tuple[float, float]], heights: Sequence[float], titles: Sequence[str]
    ) -> "Chart":
        """Draw pale bars from the x axis up to the heights."""
        for (left, right), height, title in zip(edges, heights, titles):
            (start, top), (end, _) = self._to_pixels(left, height), self._to_pixels(right, height)
            bar = (
                '<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}">'
                "<title>{}</title></rect>"
            )
            size = end - start - 2, self.height - BOTTOM - top
            self._add(bar, start + 1, top, *size, title)
        return self

    def horizontal(self, y: float) -> "Chart":
        """Draw a thin horizontal line."""
        (left, down), (right, _) = self._to_pixels(self.x.low, y), self._to_pixels(self.x.high, y)
        self._add('<path class="rule" d="M{:.1f} {:.1f}H{:.1f}"/>', left, down, right)
        return self

    def vertical(self, x: float, title: str) -> "Chart":
        """Draw a thin vertical line with a tooltip."""
        across, down = self._to_pixels(x, self.y.low)
        line = '<path class="rule" d="M{:.1f} {:.1f}V{}"><title>{}</title></path>'
        self._add(line, across, down, TOP, title)
        return self

    def diagonal(self) -> "Chart":
        """Draw a thin line from the lower left to the upper right corner."""
        ends = *self._to_pixels(self.x.low, self.y.low), *self._to_pixels(self.x.high, self.y.high)
        self._add('<path class="rule" d="M{:.1f} {:.1f}L{:.1f} {:.1f}"/>', *ends)
        return self

    def __html__(self) -> Markup:
        picture = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
            WIDTH, self.height, self.title, self._axes(), Markup().join(self._elements)
        )
        caption = Markup("<figcaption>{} {}</figcaption>").format(
            self.title, Markup(" ").join(self._keys)
        )
        return Markup("<figure>{}{}</figure>").format(caption, picture)

    def _add(self, form: str, *values: object) -> None:
        self._elements.append(Markup(form).format(*values))

    def _to_pixels(self, x: float, y: float) -> tuple[float, float]:
        across = self.left + self.x.position(x) * (WIDTH - self.left - RIGHT)
        return across, self.height - BOTTOM - self.y.position(y) * (self.height - TOP - BOTTOM)

    def _axes(self) -> Markup:
        bottom, middle = self.height - BOTTOM, (self.height - BOTTOM + TOP) / 2
        parts = []
        for value, text in self.y.ticks():
            _, down = self._to_pixels(self.x.low, value)
            parts.append(f'<path class="grid" d="M{self.left} {down:.1f}H{WIDTH - RIGHT}"/>')
            parts.append(f'<text class="y" x="{self.left - 6}" y="{down + 3.5:.1f}">{text}</text>')
        for value, text in self.x.ticks():
            across, _ = self._to_pixels(value, self.y.low)
            parts.append(f'<text class="x" x="{across:.1f}" y="{bottom + 15}">{text}</text>')
        parts.append(f'<path class="base" d="M{self.left} {bottom}H{WIDTH - RIGHT}"/>')
        label = (
            f'<text class="x label" x="{(self.left + WIDTH - RIGHT) / 2}" y="{self.height - 5}">'
        )
        parts.append(f"{label}{escape(self.x.label)}</text>")
        turned = f'transform="translate(9 {middle}) rotate(-90)"'
        parts.append(f'<text class="x label" {turned}>{escape(self.y.label)}</text>')
        return Markup("".join(parts))
