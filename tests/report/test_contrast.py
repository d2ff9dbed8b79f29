"""Contrast of every text colour of the style sheet, as defined by WCAG 2, in both schemes."""

import re
from pathlib import Path

import pytest

from seqcells.lab.report import page

CSS = (Path(page.__file__).parent / "templates" / "style.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([\w]+): ([^;]+);", block))
    for block in re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
)
RULES = re.findall(r"([^{}]+)\{([^{}]*)\}", CSS)


def rgb(colour):
    if colour.startswith("#"):
        digits = colour[1:] if len(colour) == 7 else "".join(2 * one for one in colour[1:])
        return [int(digits[n : n + 2], 16) for n in (0, 2, 4)]
    return [int(one) for one in colour.split()]


def luminance(colour):
    parts = [one / 255 for one in colour]
    parts = [one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def text_colours():
    """Return the variables of all text colours, in HTML and in charts."""
    found = set()
    for selector, body in RULES:
        found |= set(re.findall(r"(?<![-\w])color: var\(--(\w+)\)", body))
        if "text" in selector:
            found |= set(re.findall(r"fill: var\(--(\w+)\)", body))
    return found


def tints():
    """Return the colour and the largest opacity of each background that is blended."""
    return re.findall(r"background: rgb\(var\(--(\w+)\) / calc\(var\(--s\) \* ([.\d]+)\)\)", CSS)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_texts_are_readable(scheme):
    assert {"ink", "soft"} <= text_colours() <= {"ink", "soft", "c0"}  # c0: links
    paper = rgb(scheme["paper"])
    for name in text_colours():
        for background in ("paper", "raised"):
            assert contrast(rgb(scheme[name]), rgb(scheme[background])) >= 4.5, name
    assert len(tints()) == 4
    for name, opacity in tints():
        colours = zip(rgb(scheme[name]), paper)
        blended = [float(opacity) * one + (1 - float(opacity)) * other for one, other in colours]
        assert contrast(rgb(scheme["ink"]), blended) >= 4.5, name


def test_every_background_is_one_of_those_above():
    values = set(re.findall(r"background: ([^;]+);", CSS))
    plain = {value for value in values if not value.startswith("rgb(")}
    assert plain == {"var(--paper)", "var(--raised)"}
    assert not re.search(r"(?<![-\w])(background-color|color: (?!var|inherit))", CSS)
    tinted = {selector.strip() for selector, body in RULES if "background: rgb(" in body}
    assert tinted == {".hit", ".miss", ".p", ".n"}
    shared = next(body for selector, body in RULES if selector.strip() == ".p, .n")
    assert "color: var(--ink)" in shared
    small = next(body for selector, body in RULES if selector.strip() == ".confusion small")
    assert "color: inherit" in small
