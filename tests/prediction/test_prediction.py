"""Prediction with a loaded run: texts, files and streams."""

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import seqcells
from seqcells.lab.cli import main
from seqcells.lab.model_config import ModelConfig
from seqcells.lab.text.corpus import make_corpus
from seqcells.lab.training import Config, Run, TrainingConfig, task_of
from seqcells.lab.training.checkpoints import save_checkpoint

PAGE = Path(__file__).parents[2] / "docs" / "prediction.md"
SMALL = {"embedding_size": 6, "hidden_size": 5, "dropout": 0.3, "embedding_dropout": 0.3}
TEXTS = ["It is good, not bad.", "Bad!", "A film of many words, and all of them are of no use."]


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Return a function that creates a run with an untrained model."""
    texts = {part: reviews[:60] for part, reviews in make_corpus().items()}
    monkeypatch.setattr("seqcells.lab.training.tasks.reviews.make_corpus", lambda: texts)

    def make(task="sentiment", **model):
        folder = str(tmp_path / "run")
        config = Config(
            task=task,
            model=ModelConfig(**(SMALL | model)),
            training=TrainingConfig(threads=1),
            run=folder,
        )
        run = Run.create(config, "unused")
        vocabulary = task_of(run.config).load().vocabulary
        torch.manual_seed(3)
        network = task_of(run.config).build(vocabulary)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(4.0)
        run.begin(vocabulary)
        save_checkpoint(run.best, run.config, {"model": network.state_dict()})
        return folder

    return make


def test_predict(make_run):
    classifier = seqcells.load(make_run(bidirectional=True))
    probabilities = classifier.predict(TEXTS)
    assert (probabilities.shape, probabilities.dtype) == ((3,), torch.float32)
    assert probabilities.std() > 0.01
    for text, probability in zip(TEXTS, probabilities):
        tokens = torch.tensor(classifier.vocabulary.encode(text)).unsqueeze(1)
        with torch.no_grad():
            alone = classifier.model(tokens, torch.tensor([len(tokens)])).sigmoid()
        torch.testing.assert_close(alone, probability.view(1))
        torch.testing.assert_close(classifier.predict([text])[0], probability)
    assert classifier.predict([]).shape == (0,)
    assert not classifier.model.training


def test_invalid_texts_raise(make_run):
    classifier = seqcells.load(make_run())
    with pytest.raises(TypeError, match="expected a list of texts, got one string"):
        classifier.predict("It is good.")
    with pytest.raises(TypeError, match="expected texts, got int at index 1"):
        classifier.predict(["good", 3])
    with pytest.raises(ValueError, match="expected at least one word, got ' ' at index 1"):
        classifier.predict(["good", " "])


def test_loading_another_task_raises(make_run, tmp_path):
    with pytest.raises(ValueError, match="expected the folder of a run, got"):
        seqcells.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="expected a run of the task sentiment"):
        seqcells.load(make_run("capitals"))


def test_missing_extra_error_suggests_pip_install():
    code = "import sys; sys.modules['tqdm'] = None; import seqcells; seqcells.load('runs/NAME')"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "pip install 'seqcells[train]'" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "model",
    [
        {"cell": "rnn", "readout": ["last"]},
        {"cell": "gru", "num_layers": 2, "readout": ["mean", "max"]},
        {"cell": "lstm", "ngrams": 3, "ngram_buckets": 50, "readout": ["attention", "last"]},
        {"cell": "layer_norm_lstm", "num_layers": 2, "readout": ["max", "attention"]},
        {"cell": "peephole_lstm", "modifiers": {"zoneout": 0.2}},
        {"cell": "gru", "backend": "torch", "readout": ["mean", "last"]},
    ],
    ids=lambda model: model["cell"],
)
def test_stream_equals_prediction_at_every_word(make_run, model):
    classifier = seqcells.load(make_run(**model))
    words = " ".join(TEXTS).split()
    prefixes = [" ".join(words[:count]) for count in range(1, len(words) + 1)]
    stream = classifier.stream()
    read = torch.tensor([stream.read(word) for word in words])
    torch.testing.assert_close(read, classifier.predict(prefixes), atol=1e-6, rtol=1e-5)
    assert read.std() > 0.001


def test_stream_memory_is_constant(make_run):
    stream = seqcells.load(make_run(ngrams=3, readout=["attention", "mean", "max"])).stream()

    def stored():
        values = [*vars(stream).values(), *vars(stream._readout).values(), *stream._state]
        return [(type(v), v.numel() if isinstance(v, torch.Tensor) else 0) for v in values]

    stream.read("good bad good bad")
    before, tokens = stored(), len(stream._last)
    stream.read("good bad " * 50)
    assert stored() == before
    assert len(stream._last) == tokens == 3


def test_streams_are_independent(make_run):
    classifier = seqcells.load(make_run())
    one, other = classifier.stream(), classifier.stream()
    assert one.probability is None
    with pytest.raises(ValueError, match="expected at least one word, got"):
        one.read(" ")
    one.read("bad")
    other.read("good film")
    one.read("film")
    assert one.read(" ") == one.probability
    expected = classifier.predict(["bad film", "good film"])
    torch.testing.assert_close(torch.tensor([one.probability, other.probability]), expected)


def test_streaming_a_bidirectional_model_raises(make_run):
    with pytest.raises(ValueError, match=r"unidirectional.*model\.bidirectional false"):
        seqcells.load(make_run(bidirectional=True)).stream()


def test_streaming_a_model_without_recurrence_raises(make_run):
    with pytest.raises(ValueError, match="expected a recurrent model"):
        seqcells.load(make_run(kind="words")).stream()


def test_code_of_the_page_runs(make_run, tmp_path, monkeypatch, capsys):
    (tmp_path / "runs").mkdir()
    Path(make_run()).rename(tmp_path / "runs" / "NAME")
    monkeypatch.chdir(tmp_path)
    names = {"seqcells": seqcells}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, names)
    lines = capsys.readouterr().out.splitlines()
    explained, streamed = lines[:-5], lines[-5:]
    assert [line.split("  ")[1] for line in explained] == names["explanation"].words
    assert float(streamed[-1].split("  ")[0]) == pytest.approx(
        names["classifier"].predict(["It is good, not bad."]).item(), abs=0.006
    )


# Files.


def predictions(run, texts):
    return [f"{probability:.4f}" for probability in seqcells.load(run).predict(texts).tolist()]


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_txt_has_one_text_per_line(make_run, tmp_path, capfd, end):
    run = make_run()
    file = write(tmp_path / "texts.txt", "\ufeff" + end.join(TEXTS) + end)
    assert main(["predict", run, "--file", file]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == predictions(run, TEXTS)
    assert [line.split("  ")[2] for line in lines] == TEXTS


def test_csv_gets_columns(make_run, tmp_path, capfd):
    run = make_run()
    rows = [["id", "review"], *[[str(n), text + '\n"more"'] for n, text in enumerate(TEXTS)]]
    buffer = io.StringIO()
    csv.writer(buffer).writerows(rows)
    file = write(tmp_path / "texts.csv", buffer.getvalue())
    output = tmp_path / "answers.csv"
    arguments = ["predict", run, "--file", file, "--column", "review", "--output", str(output)]
    assert main(arguments) == 0
    assert capfd.readouterr().out == ""
    answers = list(csv.DictReader(io.StringIO(output.read_text(), newline="")))
    assert [[answer["id"], answer["review"]] for answer in answers] == rows[1:]
    probabilities = [f"{float(answer['probability']):.4f}" for answer in answers]
    assert probabilities == predictions(run, [row[1] for row in rows[1:]])
    for answer in answers:
        assert answer["label"] == ("positive" if float(answer["probability"]) > 0.5 else "negative")


def test_jsonl_gets_fields(make_run, monkeypatch, capfd):
    run = make_run()
    objects = [{"text": text, "stars": n} for n, text in enumerate(TEXTS)]
    content = "".join(json.dumps(item) + "\n" for item in objects).encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert main(["predict", run, "--file", "-", "--format", "jsonl"]) == 0
    answers = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [{key: answer[key] for key in ("text", "stars")} for answer in answers] == objects
    assert [f"{answer['probability']:.4f}" for answer in answers] == predictions(run, TEXTS)


INVALID = {
    "txt": (b"good\n\nvery b\xe4d\n ! \nfine film", [2, 3], ["good", " ! ", "fine film"]),
    "csv": (
        b"text,id\ngood,1\nno id\nvery b\xe4d,2\n,3\nbad,4,5\nfine film,6\n",
        [3, 4, 5, 6],
        ["good", "fine film"],
    ),
    "jsonl": (
        b'{"text": "good"}\n{"text"\n{"body": "bad"}\n["text"]\n{"text": 3}\n'
        b'{"text": "b\xe4d"}\n{"text": ""}\n{"text": "\\ud800"}\n\n{"text": "fine film"}\n',
        [2, 3, 4, 5, 6, 7, 8, 9],
        ["good", "fine film"],
    ),
}


@pytest.mark.parametrize("kind", INVALID)
def test_invalid_records_are_listed_and_the_others_predicted(make_run, tmp_path, capfd, kind):
    run = make_run()
    content, invalid, valid = INVALID[kind]
    file = write(tmp_path / f"texts.{kind}", content)
    assert main(["predict", run, "--file", file]) == 2
    captured = capfd.readouterr()
    errors = captured.err.splitlines()
    assert [line.split(": ")[0] for line in errors[:-1]] == [f"{file}:{n}" for n in invalid]
    assert all("expected" in line for line in errors[:-1])
    total = len(invalid) + len(valid)
    assert f"expected {total} valid texts in {file}, got {len(invalid)} invalid" in errors[-1]
    answered = [line for line in captured.out.splitlines() if not line.startswith("text,")]
    assert len(answered) == len(valid)
    assert all(text in line for text, line in zip(valid, answered))


def test_csv_is_read_up_to_a_syntax_error(make_run, tmp_path, capfd):
    file = write(tmp_path / "texts.csv", 'text\ngood\n"bad\nand never closed\n')
    assert main(["predict", make_run(), "--file", file]) == 2
    captured = capfd.readouterr()
    assert "good," in captured.out
    assert f"{file}:3: expected valid CSV, got an error here" in captured.err


def test_missing_column_error_lists_the_columns(make_run, tmp_path, capfd):
    file = write(tmp_path / "texts.csv", "id,review\n1,good\n")
    assert main(["predict", make_run(), "--file", file]) == 2
    assert "expected a column 'text', got ['id', 'review']; name it with --column" in (
        capfd.readouterr().err
    )


def test_invalid_files_raise(make_run, tmp_path, capfd):
    run = make_run()
    for arguments, message in [
        (["--file", "texts.parquet"], "expected a file with a suffix of .txt, .csv, .jsonl"),
        (["--file", str(tmp_path / "none.txt")], "none.txt"),
        (["--file", write(tmp_path / "empty.txt", "")], "expected texts in "),
        (["good", "--file", "-"], "--file: expected no --file together with texts"),
        (["good", "--output", "answers.txt"], "--output: expected no --output together with texts"),
        (
            ["--explain", "good", "--file", "-"],
            "--file: expected no --file together with texts or --explain",
        ),
    ]:
        assert main(["predict", run, *arguments]) == 2
        assert message in capfd.readouterr().err


def test_failed_write_keeps_the_previous_output(make_run, tmp_path, monkeypatch):
    run, output = make_run(), tmp_path / "answers.txt"
    output.write_text("before")
    file = write(tmp_path / "texts.txt", "good\n")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    assert main(["predict", run, "--file", file, "--output", str(output)]) == 2
    assert output.read_text() == "before"
    assert sorted(path.name for path in tmp_path.glob("answers*")) == ["answers.txt"]
