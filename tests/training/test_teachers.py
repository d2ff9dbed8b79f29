"""Pseudo-labels of unlabelled reviews from earlier runs."""

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
    """Change to a folder with configurations, and replace IMDB with a small corpus."""
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
def student(train_main, in_folder):
    for seed, name in enumerate(("one", "two")):
        arguments = ["teacher.yaml", f"--run={name}", f"--training.seed={seed}"]
        assert command(train_main, [*arguments, "--training.learning_rate=0.02"]) == 0
    assert command(train_main, ["student.yaml", "--run=student"]) == 0
    return Run.open("student")


def predict(run, text):
    """Predict one text with the vocabulary and truncation of the run."""
    vocabulary = run.load_vocabulary()
    tokens = torch.tensor(encode(text, vocabulary, run.config.data)).unsqueeze(1)
    with torch.no_grad():
        return load_best(run, vocabulary)(tokens, torch.tensor([len(tokens)])).sigmoid().item()


def test_labels_are_mean_predictions_of_the_teachers(student):
    data = task_of(student.config).load(student.load_vocabulary())
    texts = review_tasks.read_reviews(student.config.data, ("train", "validation"))
    labelled, unlabelled = len(texts["train"]), len(texts["unsupervised"])
    labels = torch.full((labelled + unlabelled,), torch.nan)
    for batch in data.train.epoch(1):
        labels[batch.indices] = batch.labels
    assert labels[:labelled].tolist() == [review.label for review in texts["train"]]
    teachers = [Run.open("one"), Run.open("two")]
    for index in (0, 17, 39):
        text = texts["unsupervised"][index].text
        mean = sum(predict(teacher, text) for teacher in teachers) / 2
        assert labels[labelled + index].item() == pytest.approx(mean, abs=1e-5)
    assert len(labels[labelled:].unique()) > unlabelled / 4


def test_validation_and_test_reviews_keep_their_labels(student):
    task, vocabulary = task_of(student.config), student.load_vocabulary()
    for split in ("validation", "test"):
        for batch in task.load_split(vocabulary, split).epoch(0):
            assert set(batch.labels.tolist()) <= {0, 1}
    assert 0 <= json.loads(student.result.read_text())["test_accuracy"] <= 1


def test_teacher_of_another_task_raises(train_main, student, capfd):
    arguments = ["student.yaml", "--training.teachers=[nowhere]", "--run=x"]
    assert command(train_main, arguments) == 2
    assert "expected the folder of a run, got nowhere" in capfd.readouterr().err
    settings = Run.open("two").settings
    settings.write_text("task: capitals\n")
    assert command(train_main, ["student.yaml", "--run=x"]) == 2
    assert "training.teachers: expected runs of the task sentiment, got two" in (
        capfd.readouterr().err
    )
