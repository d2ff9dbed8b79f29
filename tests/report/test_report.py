"""The HTML report."""

import html
import json
import re

import numpy as np
import pytest
import torch

from seqcells.lab.cli import main
from seqcells.lab.report.formatting import ENVIRONMENT
from seqcells.lab.training import Run, encode, load_best

BOTH = {"bidirectional": True, "ngrams": 2}


def logits_of(run, reviews):
    """Return the logits of reviews, one at a time."""
    vocabulary = run.load_vocabulary()
    model = load_best(run, vocabulary)
    with torch.no_grad():
        texts = [encode(review.text, vocabulary, run.config.data) for review in reviews]
        logits = [
            model(torch.tensor(text).unsqueeze(1), torch.tensor([len(text)])) for text in texts
        ]
    return torch.cat(logits).numpy()


def test_metrics_equal_those_of_the_run(make_run, report):
    run = make_run("lstm")
    result = json.loads((run.folder / "metrics.json").read_text())
    page = report(run)
    shown = page.values("data-metric")
    numbers = {name: value for name, value in result.items() if name not in ENVIRONMENT}
    assert {name: shown["lstm", name] for name in numbers} == {
        name: str(value) for name, value in numbers.items()
    }
    table = page.rows()
    assert table["test accuracy"] == f"{result['test_accuracy']:.2%}"
    assert table["training speed"] == f"{result['tokens_per_second']:,.0f} tokens/s"
    assert re.fullmatch(r"\d+\.\d s", table["training time"])
    assert table["selected epoch"] == str(result["best_epoch"])


@pytest.mark.parametrize("split", ["test", "validation"])
def test_confusion_and_calibration_equal_those_of_the_model(make_run, report, small_corpus, split):
    run = make_run("lstm")
    page = report(run, options=["--split", split])
    reviews = small_corpus[split]
    labels = np.array([review.label for review in reviews])
    logits = logits_of(run, reviews)
    cells = {
        (attributes["data-label"], attributes["data-predicted"]): int(attributes["data-value"])
        for _, attributes in page.tags
        if "data-predicted" in attributes
    }
    assert cells == {
        (str(label), str(prediction)): int(((labels == label) & ((logits > 0) == prediction)).sum())
        for label in (0, 1)
        for prediction in (0, 1)
    }
    probabilities = 1 / (1 + np.exp(-logits.astype(float)))
    bins = np.minimum(probabilities * 10, 9).astype(int)
    gaps = np.bincount(bins, probabilities - labels)
    error = float(page.values("data-metric")["lstm", "calibration_error"])
    assert error == pytest.approx(np.abs(gaps).sum() / len(labels), abs=1e-6)
    assert f"Predictions on the {split} reviews" in page.source


def test_page_is_self_contained(make_run, report):
    page = report(make_run("lstm"), make_run("window", kind="window"))
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "img", "object", "base")
        assert not attributes.keys() & {"src", "srcset", "data", "action", "xlink:href"}
        assert attributes.get("href", "#").startswith("#")
    assert "http:" not in page.source
    assert "https:" not in page.source
    assert not re.search(r"url\(|@import", page.source)
    assert "default-src 'none'" in page.source


@pytest.mark.parametrize(
    ("name", "model", "gates"),
    [
        ("lstm", {}, ["input", "forget", "output"]),
        ("both", BOTH, ["input", "forget", "output"]),
        ("stack", {"cell": "mgu", "num_layers": 2, "bidirectional": True}, ["gate"]),
        ("torch", {"cell": "gru", "backend": "torch"}, ["reset", "update"]),
        ("rnn", {"cell": "rnn"}, None),
        ("pooled", {"kind": "pooled"}, None),
        ("words", {"kind": "words"}, None),
        ("window", {"kind": "window"}, None),
    ],
)
def test_charts_of_every_classifier(make_run, report, name, model, gates):
    run = make_run(name, **model)
    page = report(run)
    titles = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    assert titles.count("Running probability") >= 2
    assert titles.count("Gates") == (titles.count("Running probability") if gates else 0)
    assert ("Gradient norm by time step" in titles) == (run.config.model.kind == "recurrent")
    for gate in gates or []:
        assert f">{gate}</span>" in page.source


def test_explanations_and_errors_show_the_texts(make_run, report, small_corpus):
    run = make_run("lstm")
    page = report(run)
    logits = logits_of(run, small_corpus["test"])
    wrong = [
        (abs(logit), review.text)
        for logit, review in zip(logits, small_corpus["test"])
        if (logit > 0) != review.label
    ]
    most_confident = max(wrong)[1]
    vocabulary = run.load_vocabulary()
    (shown,) = re.findall(r'<p class="text">(.*?)</p>', page.source.split("<li>")[1], re.DOTALL)
    beginning, *rest = html.unescape(shown).split(" … ")
    assert most_confident.startswith(beginning)
    assert most_confident.endswith(rest[0] if rest else beginning)
    words = [
        html.unescape(text)
        for title, text in re.findall(r'<span [^>]*title="([^"]*)">([^<]*)</span>', page.source)
        if ", then " in title
    ]
    assert any(word[0].isupper() for word in words)
    tokens = [encode(review.text, vocabulary, run.config.data) for review in small_corpus["test"]]
    read = " ".join(str(vocabulary.number(word.lower())) for word in words)
    assert sum(" ".join(map(str, text)) in read for text in tokens) >= 3


def test_coloured_reviews_are_texts_of_the_data(make_run, report, small_corpus):
    page = report(make_run("lstm"))
    reviews = {" ".join(review.text.split()) for review in small_corpus["test"]}
    examples = page.source.split('<div class="example">')[1:]
    assert len(examples) >= 4
    for example in examples:
        (text,) = re.findall(r'<p class="text">(.*?)</p>', example, re.DOTALL)
        parts = html.unescape(re.sub("<[^>]*>", "", text)).split(" … ")
        assert any(review.startswith(parts[0]) and review.endswith(parts[-1]) for review in reviews)


def test_copies_of_a_review_are_shown_once(make_run, report, small_corpus, monkeypatch):
    reviews = small_corpus["test"]
    copies = [review._replace(text=review.text + "  ") for review in reviews]
    changed = small_corpus | {"test": reviews + copies}
    monkeypatch.setattr("seqcells.lab.training.tasks.reviews.make_corpus", lambda: changed)
    page = report(Run.open(make_run("lstm").folder))
    assert "on 120 reviews" in page.source
    mistakes = page.source.split("<h3>Explanations</h3>")[0].split("<li>")[1:]
    found = [re.findall(r'<p class="text">(.*?)</p>', one, re.DOTALL)[0] for one in mistakes]
    assert len(found) == 10
    assert len({" ".join(text.split()) for text in found}) == 10


def test_comparison_of_several_runs(make_run, report):
    runs = [make_run("lstm"), make_run("both", **BOTH), make_run("window", kind="window")]
    page = report(*runs)
    shown = page.values("data-metric")
    for run in runs:
        assert shown[run.folder.name, "test_loss"] == str(run.read_result()["test_loss"])
    titles = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    assert titles[:3] == ["Validation accuracy", "Validation loss", "Gradient norm"]
    assert page.count("article") == 3
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"}
    assert links <= ids
    assert len(links) == 3


def test_other_tasks_have_curves_and_metrics(make_run, report):
    run = make_run("adding", task="adding")
    page = report(run)
    titles = [attributes["aria-label"] for tag, attributes in page.tags if tag == "svg"]
    assert titles == ["Accuracy", "Loss", "Gradient norm"]
    shown = page.values("data-metric")
    assert {name for _, name in shown} == run.read_result().keys() - {*ENVIRONMENT}


def test_default_output(make_run, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    first, second = make_run("adding", task="adding"), make_run("adding again", task="adding")
    capfd.readouterr()
    assert main(["report", str(first.folder)]) == 0
    assert capfd.readouterr().out == f"report: {first.folder / 'report.html'}\n"
    assert (first.folder / "report.html").is_file()
    assert main(["report", str(first.folder), str(second.folder)]) == 0
    path = "runs/report-adding-adding again.html"
    assert capfd.readouterr().out == f"report: {path}\n"
    assert [str(found.relative_to(tmp_path)) for found in tmp_path.rglob("*.*")] == [path]


def test_only_a_report_is_replaced(make_run, tmp_path, capfd):
    folder, path = str(make_run("adding", task="adding").folder), tmp_path / "page.html"
    arguments = ["report", folder, "--output", str(path)]
    for content in ("<!DOCTYPE html><title>My page</title>", "# On seqcells report"):
        path.write_text(content)
        capfd.readouterr()
        assert main(arguments) == 2
        error = capfd.readouterr().err
        assert f"--output: expected a new file or an earlier report, got {path}" in error
        assert path.read_text() == content
    path.unlink()
    assert [main(arguments), main(arguments)] == [0, 0]
    assert main(["report", folder, "--output", str(tmp_path)]) == 2


def test_errors_are_one_line(make_run, tmp_path, capfd):
    adding, lstm = make_run("adding", task="adding"), make_run("lstm")
    (tmp_path / "unfinished").mkdir()
    settings = (lstm.folder / "config.yaml").read_text()
    (tmp_path / "unfinished" / "config.yaml").write_text(settings)
    errors = {
        "expected runs of one task, got adding, sentiment": [adding.folder, lstm.folder],
        "expected the folder of a run": [tmp_path],
        "expected a finished run": [tmp_path / "unfinished"],
        "--output: expected a file in a folder that exists": [
            lstm.folder,
            "--output",
            tmp_path / "nowhere" / "page.html",
        ],
        "data.path: expected no path": [lstm.folder, "--data.path", tmp_path],
    }
    capfd.readouterr()
    for message, arguments in errors.items():
        assert main(["report", *map(str, arguments)]) == 2
        output, error = capfd.readouterr()
        assert output == ""
        assert error.startswith(f"error: {message}")
        assert error.count("\n") == 1


def test_texts_are_escaped(make_run, report, small_corpus, monkeypatch):
    markup = '<script>alert("no")</script> & <b>'
    reviews = [review._replace(text=f"{markup} {review.text}") for review in small_corpus["test"]]
    changed = small_corpus | {"test": reviews}
    monkeypatch.setattr("seqcells.lab.training.tasks.reviews.make_corpus", lambda: changed)
    page = report(Run.open(make_run("lstm").folder))
    assert page.count("script") == 0
    assert "&lt;script&gt;alert" in page.source
