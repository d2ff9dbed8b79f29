"""Unlabelled reviews, and what earlier runs say of them."""

import json

import pytest
import torch

from seqcells.lab.text.corpus import make_corpus
from seqcells.lab.training import Run, command, load_best, task_of
from seqcells.lab.training.tasks import reviews as review_tasks
from seqcells.lab.training.tasks.reviews import encode

SIZES = "{cell: gru, embedding_size: 6, hidden_size: 5, dropout: 0.3}"
TRAINING = "epochs: 1, batch_size: 16, threads: 1"


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    """A folder to train in, with a small stand-in for IMDB."""
    corpus = make_corpus(train=80, validation=40, test=60)
    corpus["unsupervised"] = [review._replace(label=None) for review in corpus.pop("validation")]

    def read_imdb(path, *, splits, **_):
        return {split: corpus[split] for split in splits}

    monkeypatch.setattr(review_tasks, "read_imdb", read_imdb)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teacher.yaml").write_text(
        f"data: {{source: imdb, max_tokens: 30}}\nmodel: {SIZES}\ntraining: {{{TRAINING}}}\n"
    )
    (tmp_path / "student.yaml").write_text(
        f"data: {{source: imdb, unlabelled: true}}\nmodel: {SIZES}\n"
        f"training: {{{TRAINING}, teachers: [one, two]}}\n"
    )
    return tmp_path


@pytest.fixture
def taught(train_main, in_folder):
    for seed, name in enumerate(("one", "two")):
        arguments = ["teacher.yaml", f"--run={name}", f"--training.seed={seed}"]
        assert command(train_main, [*arguments, "--training.learning_rate=0.02"]) == 0
    assert command(train_main, ["student.yaml", "--run=student"]) == 0
    return Run.open("student")


def answer(run, text):
    """One text alone, as a teacher reads it: by its own words, cut to its own length."""
    vocabulary = run.load_vocabulary()
    tokens = torch.tensor(encode(text, vocabulary, run.config.data)).unsqueeze(1)
    with torch.no_grad():
        return load_best(run, vocabulary)(tokens, torch.tensor([len(tokens)])).sigmoid().item()


def test_unlabelled_reviews_are_learned_as_the_teachers_have_them(taught):
    data = task_of(taught.config).load(taught.load_vocabulary())
    texts = review_tasks.read_reviews(taught.config.data, ("train", "validation"))
    known, unlabelled = len(texts["train"]), len(texts["unsupervised"])
    labels = torch.full((known + unlabelled,), torch.nan)
    for batch in data.train.epoch(1):
        labels[batch.indices] = batch.labels
    assert labels[:known].tolist() == [review.label for review in texts["train"]]
    teachers = [Run.open("one"), Run.open("two")]
    for place in (0, 17, 39):
        text = texts["unsupervised"][place].text
        mean = sum(answer(teacher, text) for teacher in teachers) / 2
        assert labels[known + place].item() == pytest.approx(mean, abs=1e-5)
    assert len(labels[known:].unique()) > unlabelled / 4


def test_validation_and_test_reviews_keep_their_labels(taught):
    task, vocabulary = task_of(taught.config), taught.load_vocabulary()
    for split in ("validation", "test"):
        for batch in task.load_split(vocabulary, split).epoch(0):
            assert set(batch.labels.tolist()) <= {0, 1}
    assert 0 <= json.loads(taught.result.read_text())["test_accuracy"] <= 1


def test_a_teacher_has_to_have_learned_sentiment(train_main, taught, capfd):
    arguments = ["student.yaml", "--training.teachers=[nowhere]", "--run=x"]
    assert command(train_main, arguments) == 2
    assert "expected the folder of a run, got nowhere" in capfd.readouterr().err
    settings = Run.open("two").settings
    settings.write_text("task: capitals\n")
    assert command(train_main, ["student.yaml", "--run=x"]) == 2
    assert "training.teachers: expected runs of the task sentiment, got two" in (
        capfd.readouterr().err
    )
