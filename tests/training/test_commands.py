import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import failure, write_config

from seqcells.lab.cli import main
from seqcells.lab.models.inputs import HashedNgrams
from seqcells.lab.text.neighbours import Neighbours
from seqcells.lab.training import Run, command, deferred_signals
from seqcells.lab.training.tasks import reviews
from seqcells.lab.training.tasks.sentiment import Sentiment

ROOT = Path(__file__).parents[2]


def test_training_writes_a_run_and_prints_its_folder(train_main, small_corpus, in_folder, capfd):
    assert command(train_main, [write_config(in_folder)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["epoch 1/2", "epoch 2/2"]
    assert lines[2].startswith("test accuracy ")
    (folder,) = (in_folder / "runs").iterdir()
    assert folder.name.startswith("small-20")
    assert lines[4] == f"run: runs/{folder.name}"
    assert f"predict runs/{folder.name}" in lines[6]
    files = ["best.pt", "config.yaml", "last.pt", "metrics.json", "metrics.jsonl"]
    assert sorted(path.name for path in folder.iterdir()) == [*files, "vocabulary.json"]
    result = json.loads((folder / "metrics.json").read_text())
    assert f"{result['test_accuracy']:.2%}" in lines[2]
    assert result["threads"] == 1
    assert result["torch"] == torch.__version__
    best = torch.load(folder / "best.pt", weights_only=True)
    assert result["parameters"] == sum(value.numel() for value in best["model"].values())
    assert result["best_epoch"] == best["epoch"]
    assert result["tokens_per_second"] > 0
    assert 0 < result["train_seconds"] < result["total_seconds"]


def test_test_split_is_loaded_once_at_the_end(
    train_main, small_corpus, in_folder, monkeypatch, capfd
):
    calls = []
    monkeypatch.setattr(Sentiment, "load_split", lambda *args: calls.append(args))
    monkeypatch.setattr("seqcells.lab.training.results.evaluate", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_main([write_config(in_folder), "--run", "run"])
    assert [args[2] for args in calls] == ["test"]
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) == 2
    assert not Path("run/metrics.json").exists()


def test_evaluate_repeats_the_test(finished, small_corpus, capfd):
    result = Run.open(finished).read_result()
    assert main(["evaluate", finished]) == 0
    expected = f"test accuracy {result['test_accuracy']:.2%}, loss {result['test_loss']:.4f}\n"
    assert capfd.readouterr().out == expected
    assert main(["evaluate", finished, "--split", "validation"]) == 0
    assert f"loss {result['validation_loss']:.4f}" in capfd.readouterr().out


def test_predict_reads_arguments_or_stdin(finished, capfd, monkeypatch):
    texts = ["It is good, not bad.", "It is bad, not good."]
    assert main(["predict", finished, *texts]) == 0
    output = capfd.readouterr().out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\n".join(texts).encode())))
    assert main(["predict", finished]) == 0
    assert capfd.readouterr().out == output
    for line, text in zip(output.splitlines(), texts, strict=True):
        probability, label, shown = line.split("  ")
        assert shown == text
        assert label == ("positive" if float(probability) > 0.5 else "negative")


def test_predictions_do_not_depend_on_the_batch(finished, capfd):
    main(
        [
            "predict",
            finished,
            "It is good.",
            "A much longer text in the same batch, not bad at all.",
        ]
    )
    batched = capfd.readouterr().out.splitlines()[0]
    main(["predict", finished, "It is good."])
    assert capfd.readouterr().out.splitlines() == [batched]


def test_empty_text_raises(finished, capfd, monkeypatch):
    assert "expected at least one word, got ' ' at index 1" in failure(
        capfd, ["predict", finished, "fine", " "]
    )
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    assert "expected texts" in failure(capfd, ["predict", finished])


def test_errors_are_one_line(finished, in_folder, capfd):
    assert "COMMAND" in failure(capfd, [])
    assert "'TEST'" in failure(capfd, ["evaluate", finished, "--split", "TEST"])
    assert "nowhere" in failure(capfd, ["evaluate", "nowhere"])
    assert "nowhere" in failure(capfd, ["compare", "nowhere"])


def test_changed_configuration_raises(finished, capfd):
    settings = Path(finished, "config.yaml")
    settings.write_text(settings.read_text().replace("hidden_size: 6", "hidden_size: 7"))
    assert "model.hidden_size: expected 6" in failure(capfd, ["predict", finished, "good"])


def test_missing_or_damaged_file_raises(finished, capfd):
    for name in ("best.pt", "vocabulary.json"):
        path = Path(finished, name)
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert name in failure(capfd, ["predict", finished, "good"])
        path.unlink()
        assert name in failure(capfd, ["predict", finished, "good"])
        path.write_bytes(content)


def test_resuming_a_finished_run_raises(finished, train_main, capfd):
    error = failure(capfd, ["--resume", finished], lambda argv: command(train_main, argv))
    assert "unfinished" in error
    error = failure(capfd, ["--resume", "nowhere"], lambda argv: command(train_main, argv))
    assert "nowhere" in error


def test_vectors_of_another_size_raise(train_main, small_corpus, in_folder, capfd):
    Path("vectors.txt").write_text("good 1 2 3\nbad -1 -2 -3\n")
    arguments = [write_config(in_folder), "--data.vectors=vectors.txt", "--run=mine"]
    error = failure(capfd, arguments, lambda argv: command(train_main, argv))
    assert "model.embedding_size: expected 3" in error


def test_training_starts_from_vectors(train_main, small_corpus, in_folder, capfd):
    Path("vectors.txt").write_text("good 1 2 3\nbad -1 -2 -3\n")
    arguments = [write_config(in_folder, "words"), "--data.vectors=vectors.txt", "--run=mine"]
    arguments += ["--model.embedding_size=3", "--training.learning_rate=1e-9"]
    assert command(train_main, arguments) == 0
    run = Run.open("mine")
    words = run.load_vocabulary().words
    weights = torch.load(run.best, weights_only=True)["model"]["inputs.words.weight"]
    expected = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(weights[words.index("good")], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(weights[words.index("bad")], -expected, rtol=0, atol=1e-5)


def test_training_starts_from_counted_vectors(train_main, small_corpus, in_folder, capfd):
    """Words and pairs of the texts have vectors; other buckets are zero."""
    arguments = [write_config(in_folder), "--data.vectors=counted", "--run=mine"]
    arguments += ["--model.ngrams=2", "--model.ngram_buckets=5000", "--model.embedding_size=7"]
    assert command(train_main, [*arguments, "--training.learning_rate=1e-9"]) == 0
    run = Run.open("mine")
    vocabulary = run.load_vocabulary()
    weights = torch.load(run.best, weights_only=True)["model"]
    texts = [vocabulary.encode(review.text) for review in reviews.make_corpus()["train"]]
    assert f"starting from vectors of {len(vocabulary) - 2} words" in capfd.readouterr().out

    vectors = Neighbours(texts, len(vocabulary), 7, progress=False).words[2:]
    expected = vectors * 0.1 / vectors.std()
    torch.testing.assert_close(weights["inputs.words.weight"][2:], expected, rtol=0, atol=1e-5)
    pairs = weights["inputs.ngrams.vectors.weight"]
    tokens = torch.tensor(texts[0]).unsqueeze(1)
    seen = HashedNgrams(2, 5000, 7).buckets(tokens)[0].squeeze(1)[1:]
    assert (pairs[seen].norm(dim=1) > 0.01).all()
    assert (pairs.norm(dim=1) < 1e-5).sum() > 2000


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_only_the_first_signal_is_deferred(number):
    before = signal.getsignal(number)
    with deferred_signals() as interrupted:
        assert not interrupted()
        signal.raise_signal(number)
        assert interrupted()
        assert signal.getsignal(number) == before
    assert signal.getsignal(number) == before


# In separate processes, with real signals.


def start(*arguments, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


@pytest.mark.slow
def test_interrupted_process_resumes_in_another(in_folder):
    script, config = str(ROOT / "train.py"), write_config(in_folder, "recurrent")
    unbroken = start(script, config, "--run=unbroken")
    broken = start(script, config, "--run=broken")
    assert broken.stdout.readline().startswith("epoch 1/2")
    broken.send_signal(signal.SIGINT)
    output, error = broken.communicate(timeout=60)
    assert broken.returncode == 130
    assert error.count("\n") == 1
    python, *words = error.rpartition("continue with: ")[2].split()
    assert words == ["train.py", "--resume", "broken"]
    assert shutil.which(python)
    assert "epoch 2/2" not in output

    resumed = start(script, "--resume", "broken")
    output, error = resumed.communicate(timeout=120)
    assert resumed.returncode == 0, error
    assert "test accuracy" in output
    unbroken.communicate(timeout=120)
    for name in ("best.pt", "last.pt"):
        first, second = (
            torch.load(Path(run, name), weights_only=True)["model"]
            for run in ("unbroken", "broken")
        )
        for key, value in first.items():
            assert torch.equal(value, second[key]), key


def test_saved_model_predicts_without_torchtext(finished):
    code = (
        "import sys; sys.modules['torchtext'] = None; "
        "from seqcells.lab.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    process = start("-c", code, "predict", finished, "It is good, not bad.")
    output, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    assert output.endswith("It is good, not bad.\n")


@pytest.mark.slow
def test_script_error_is_one_line(in_folder):
    process = start(str(ROOT / "train.py"), "--training.epochs=-1")
    output, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert output == ""
    assert error == "error: training.epochs: expected a whole number of at least 1, got -1\n"
