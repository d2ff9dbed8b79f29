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
onload = () => {
  const page = frames[0].document, found = {};
  for (const one of page.querySelectorAll("article [data-metric]"))
    found[one.dataset.metric] = [one.dataset.value, one.innerText];
  const charts = [...page.querySelectorAll("svg")].map(one => one.getBoundingClientRect());
  document.body.dataset.found = JSON.stringify({
    metrics: found,
    width: page.documentElement.scrollWidth,
    charts: charts.map(box => [box.left, box.right, box.height]),
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


@pytest.mark.parametrize(("width", "dark"), [(380, False), (1200, True)])
def test_page_fits_the_screen(folder, make_run, width, dark):
    frame = folder / f"{width}.html"
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
