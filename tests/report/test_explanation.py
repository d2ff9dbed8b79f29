"""Contributions of words to a prediction."""

import pytest
import torch

from seqcells.lab import explanation
from seqcells.lab.cli import main
from seqcells.lab.explanation import Explanation, explain, format_coloured, format_table
from seqcells.lab.model_config import ModelConfig
from seqcells.lab.models import build_model

MODELS = {
    "recurrent": {"readout": ["last"]},
    "both directions": {"bidirectional": True, "ngrams": 2, "readout": ["max", "mean"]},
    "stack": {"cell": "mgu", "num_layers": 2, "modifiers": {"zoneout": 0.2}},
    "torch": {"backend": "torch", "cell": "gru", "bidirectional": True},
    "attention": {"cell": "rnn", "readout": ["attention", "last"]},
    "pooled": {"kind": "pooled", "ngrams": 3},
    "words": {"kind": "words"},
    "window": {"kind": "window", "window": 5},
}
TOKENS = torch.tensor([3, 1, 7, 7, 2, 9, 4, 1, 8])
WORDS = ["a", "word", "for", "each", "of", "those", "tokens", ",", "here"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("positions", [2**15, 12])
def test_logits_equal_those_of_each_prefix(name, positions, monkeypatch):
    monkeypatch.setattr(explanation, "MAX_POSITIONS", positions)
    torch.manual_seed(0)
    settings = {"embedding_size": 6, "hidden_size": 5, "dropout": 0.5}
    model = build_model(ModelConfig(**(settings | MODELS[name])), 10).eval()
    explained = explain(model, TOKENS, WORDS)
    with torch.no_grad():
        alone = [model(TOKENS[:n].unsqueeze(1), torch.tensor([n])) for n in range(1, 10)]
        prediction = model(TOKENS.unsqueeze(1), torch.tensor([9])).sigmoid().item()
    torch.testing.assert_close(explained.logits, torch.cat(alone), atol=1e-6, rtol=1e-5)
    assert explained.probabilities[-1].item() == pytest.approx(prediction, abs=1e-6)
    whole = (explained.logits[-1] - explained.logits[0]).item()
    assert explained.pushes.sum().item() == pytest.approx(whole, abs=1e-5)
    assert len(explained.pushes) == len(WORDS)


def test_pushes_of_an_additive_model():
    def model(tokens, lengths):
        return (tokens - 5).where(tokens > 0, 0).sum(0).float()

    explained = explain(model, TOKENS, WORDS)
    assert explained.pushes.tolist() == [0, -4, 2, 2, -3, 4, -1, -4, 3]
    assert torch.equal(explained.shades.sign(), explained.pushes.sign())


def test_long_texts_are_chunked(monkeypatch):
    shapes = []

    def model(tokens, lengths):
        shapes.append(tuple(tokens.shape))
        return lengths.float()

    monkeypatch.setattr(explanation, "MAX_POSITIONS", 1000)
    explained = explain(model, torch.ones(300, dtype=torch.int64), ["so"] * 300)
    assert explained.logits.tolist() == list(range(1, 301))
    assert all(steps * rows <= 1000 for steps, rows in shapes)
    assert len(shapes) < 120


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match=r"tokens: expected shape \(T,\) with T at least 1"):
        explain(None, TOKENS[:0], [])
    with pytest.raises(ValueError, match=r"words: expected 9, one per token, got 1"):
        explain(None, TOKENS, ["word"])


def test_colours_follow_the_pushes():
    explained = Explanation(["well", "good", "bad", "so"], torch.tensor([0.0, 3.0, 2.0, 2.01]))
    assert format_coloured(explained) == (
        "well \033[38;5;16;48;5;75mgood\033[0m \033[38;5;16;48;5;208mbad\033[0m so"
    )
    assert format_table(explained).splitlines() == [
        "    push  probability  word",
        "  +0.000       0.5000  well",
        "  +3.000       0.9526  good",
        "  -1.000       0.8808  bad",
        "  +0.010       0.8818  so",
    ]


def test_predict_explains(make_run, capfd):
    folder = str(make_run("lstm").folder)
    capfd.readouterr()
    assert main(["predict", folder, "It is good.", "--explain", "It is bad."]) == 0
    legend, *lines = capfd.readouterr().out.splitlines()
    assert legend == "push: change of the log-odds; 0 at the first word, as an empty text has none"
    assert [lines[n].split() for n in (1, 7)] == [["push", "probability", "word"]] * 2
    words = ["it", "is", "good", ".", "it", "is", "bad", "."]
    assert [line.split()[-1] for line in lines[2:6] + lines[8:]] == words
    for prediction, last in ((lines[0], lines[5]), (lines[6], lines[11])):
        assert float(prediction.split()[0]) == pytest.approx(float(last.split()[1]), abs=1e-4)
    assert [float(lines[n].split()[0]) for n in (2, 8)] == [0, 0]


def test_predict_colours_words_on_a_terminal(make_run, capsys, monkeypatch):
    folder = str(make_run("lstm").folder)
    capsys.readouterr()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main(["predict", folder, "--explain", "It is good."]) == 0
    legend, _, words = capsys.readouterr().out.splitlines()
    assert legend == (
        "\033[38;5;16;48;5;75mblue\033[0m raises, \033[38;5;16;48;5;208morange\033[0m lowers "
        "the probability; before the first word there is none"
    )
    assert [part for part in ("it", "is", "good", ".") if part not in words] == []
    assert "+0.000" not in words


def test_explaining_other_tasks_raises(make_run, capfd):
    run = make_run("capitals", task="capitals")
    capfd.readouterr()
    assert main(["predict", str(run.folder), "--explain", "in new york"]) == 2
    expected = (
        "error: --file, --output, --explain: expected a run of the task sentiment, "
        "got one of capitals\n"
    )
    assert capfd.readouterr().err == expected
