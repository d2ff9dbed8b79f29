"""The page in a browser: layout on small and large screens, printing, no network access."""

import html
import json
import re
import shutil
import subprocess

import pytest

from seqcells.lab.cli import main

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--allow-file-access-from-files",
)
FRAME = """<!DOCTYPE html>
<iframe src="report.html" style="width: WIDTHpx; height: 900px; border: 0"></iframe>
<script>
const numbers = colour => [...colour.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
const mix = (top, below) => [0, 1, 2].map(n => top[n] * top[3] + below[n] * (1 - top[3]));
const luminance = colour => {
  const [r, g, b] = colour.map(one => one / 255)
    .map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const background = element => {
  if (!element) return [255, 255, 255];
  const own = numbers(frames[0].getComputedStyle(element).backgroundColor);
  return own[3] == 1 ? own.slice(0, 3) : mix(own, background(element.parentElement));
};
const contrast = element => {
  const style = frames[0].getComputedStyle(element), below = background(element);
  const colour = mix(numbers(element.closest("svg") ? style.fill : style.color), below);
  const [low, high] = [luminance(colour), luminance(below)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
onload = () => {
  const page = frames[0].document, found = {}, contrasts = {}, overlaps = [], sizes = [];
  for (const one of page.querySelectorAll("article [data-metric]"))
    found[one.dataset.metric] = [one.dataset.value, one.innerText];
  for (const one of page.querySelectorAll("details")) one.open = true;
  const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.tagName == "title") continue;
    const name = `${element.tagName} ${element.getAttribute("class") || ""}`;
    contrasts[name] = Math.min(contrasts[name] || 99, contrast(element));
    const scale = element.closest("svg")?.getScreenCTM().a || 1;
    sizes.push(parseFloat(frames[0].getComputedStyle(element).fontSize) * scale);
  }
  for (const chart of page.querySelectorAll("svg")) {
    const texts = [...chart.querySelectorAll("text")];
    const boxes = texts.map(one => one.getBoundingClientRect());
    boxes.forEach((a, i) => boxes.slice(0, i).forEach((b, j) => {
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (across > 0 && down > 3)  // boxes are higher than letters
        overlaps.push([chart.ariaLabel, texts[i].textContent, texts[j].textContent]);
    }));
  }
  const charts = [...page.querySelectorAll("svg")].map(one => one.getBoundingClientRect());
  const labels = [...page.querySelectorAll("svg text, .key, figcaption, dd, h1, h2, h3, h4")];
  document.body.dataset.found = JSON.stringify({
    metrics: found,
    width: page.documentElement.scrollWidth,
    charts: charts.map(box => [box.left, box.right, box.height]),
    right: Math.max(...labels.map(one => one.getBoundingClientRect().right)),
    left: Math.min(...labels.map(one => one.getBoundingClientRect().left)),
    contrasts: contrasts,
    smallest: Math.min(...sizes),
    overlaps: overlaps,
    requests: frames[0].performance.getEntriesByType("resource").length,
    background: frames[0].getComputedStyle(page.body).backgroundColor,
  });
};
</script>
"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"needs one of {', '.join(NAMES)}")


def browse(folder, page, *flags):
    command = [BROWSER, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, page.as_uri()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def folder(make_run, tmp_path_factory):
    """Return a folder with the report of two runs."""
    folder = tmp_path_factory.mktemp("browser")
    runs = [str(make_run(name).folder) for name in ("lstm", "lstm again")]
    assert main(["report", *runs, "--output", str(folder / "report.html")]) == 0
    return folder


@pytest.mark.parametrize(
    ("width", "dark"),
    [
        (390, False),
        pytest.param(390, True, marks=pytest.mark.slow),
        pytest.param(1280, False, marks=pytest.mark.slow),
        (1280, True),
    ],
)
def test_page_fits_the_screen(folder, make_run, width, dark):
    frame = folder / f"{width}-{dark}.html"
    frame.write_text(FRAME.replace("WIDTH", str(width)))
    scheme = [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    dumped = browse(folder, frame, "--dump-dom", *scheme)
    found = json.loads(html.unescape(re.search(r'data-found="(.*?)"', dumped)[1]))
    assert found["width"] <= width
    assert len(found["charts"]) > 20
    for left, right, height in found["charts"]:
        assert 0 <= left < right <= width
        assert right - left > 200
        assert height > 100
    assert 0 <= found["left"] < found["right"] <= width
    assert found["overlaps"] == []
    assert found["smallest"] >= 9
    low = {name: contrast for name, contrast in found["contrasts"].items() if contrast < 4.5}
    assert low == {}
    names = {"SPAN p", "SPAN n", "SPAN key c0", "text x", "TD hit", "TD miss", "SMALL ", "DT "}
    assert names <= found["contrasts"].keys()
    result = make_run("lstm again").read_result()
    value, text = found["metrics"]["test_accuracy"]
    assert float(value) == result["test_accuracy"]
    assert text == f"{result['test_accuracy']:.2%}"
    assert found["requests"] == 0
    assert found["background"] == ("rgb(20, 24, 31)" if dark else "rgb(255, 255, 255)")


@pytest.mark.slow
def test_page_prints(folder):
    browse(folder, folder / "report.html", f"--print-to-pdf={folder / 'report.pdf'}")
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF")
