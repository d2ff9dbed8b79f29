"""Pseudo-labels of unlabelled reviews from earlier runs."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from seqcells.lab.text.corpus import make_corpus
from seqcells.lab.training import Run, Trainer, command, load_best, task_of
from seqcells.lab.training.tasks import reviews as review_tasks
from seqcells.lab.training.tasks import sentiment
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


@pytest.fixture
def trained(monkeypatch):
    """Return the folders in which training starts or resumes, in order."""
    folders = []
    fit = Trainer.fit

    def recorded_fit(trainer, interrupted):
        folders.append(str(trainer.run.folder))
        return fit(trainer, interrupted)

    monkeypatch.setattr(Trainer, "fit", recorded_fit)
    return folders


TEACHERS = ["--training.teachers=[teacher.yaml, one]", "--training.teacher_seeds=2"]
FOLDERS = [f"runs/teachers/teacher-seed{seed}" for seed in (0, 1)]


def test_configurations_of_teachers_are_trained_first(train_main, student, trained, capfd):
    assert command(train_main, ["student.yaml", "--run=both", *TEACHERS]) == 0
    assert trained == [*FOLDERS, "both"]
    assert [Run.open(folder).config.training.seed for folder in FOLDERS] == [0, 1]
    printed = capfd.readouterr().out
    assert f"teacher 1/2: {FOLDERS[0]}\n" in printed
    assert f"teacher 2/2: {FOLDERS[1]}\n" in printed
    assert "student: both\n" in printed

    assert command(train_main, ["teacher.yaml", "--run=alone", "--training.seed=1"]) == 0
    losses = [Run.open(folder).read_result()["test_loss"] for folder in (FOLDERS[1], "alone")]
    assert losses[0] == losses[1]

    run = Run.open("both")
    data = task_of(run.config).load(run.load_vocabulary())
    texts = review_tasks.read_reviews(run.config.data, ("train",))
    index = len(texts["train"]) + 5
    (label,) = [
        batch.labels[row].item()
        for batch in data.train.epoch(1)
        for row in (batch.indices == index).nonzero().flatten()
    ]
    text = texts["unsupervised"][5].text
    mean = sum(predict(Run.open(teacher), text) for teacher in [*FOLDERS, "one"]) / 3
    assert label == pytest.approx(mean, abs=1e-5)

    assert command(train_main, ["student.yaml", "--run=again", *TEACHERS]) == 0
    assert trained[3:] == ["alone", "again"]


def test_interrupted_teacher_is_resumed_by_the_same_command(
    train_main, student, trained, monkeypatch, capfd
):
    fit, batches = Trainer.fit, iter(range(100))

    def interrupted_fit(trainer, interrupted):
        second = str(trainer.run.folder) == FOLDERS[1]
        return fit(trainer, (lambda: next(batches) == 2) if second else interrupted)

    monkeypatch.setattr(Trainer, "fit", interrupted_fit)
    line = ["student.yaml", "--run=both", *TEACHERS]
    assert command(train_main, line) == 130
    message = f"interrupted in {FOLDERS[1]}; run the same command again to continue"
    assert message in capfd.readouterr().err
    assert not Path("both").exists()
    assert command(train_main, line) == 0
    assert trained == [*FOLDERS, FOLDERS[1], "both"]
    assert Run.open(FOLDERS[1]).read_result()["epochs"] == 1


def test_predictions_are_kept_when_the_next_teacher_is_interrupted(
    train_main, student, monkeypatch, capfd
):
    for name in ("one", "two"):
        (student.folder.parent / name / "predictions.pt").unlink()
    predict_labels, predicted = sentiment.predict, []

    def recorded(run, *arguments):
        predicted.append(run.folder.name)
        if predicted == ["one", "two"]:
            os.kill(os.getpid(), signal.SIGTERM)
        return predict_labels(run, *arguments)

    monkeypatch.setattr(sentiment, "predict", recorded)
    line = ["student.yaml", "--run=next"]
    assert command(train_main, line) == 130
    assert "interrupted before training; run the same command again" in capfd.readouterr().err
    assert not Path("next").exists()
    assert command(train_main, line) == 0
    assert predicted == ["one", "two", "two"]
    losses = [Run.open(name).read_result()["test_loss"] for name in ("student", "next")]
    assert losses[0] == losses[1]


def test_predictions_of_another_model_are_not_reused(train_main, student):
    before = torch.load("one/predictions.pt")["predictions"]
    content = torch.load("one/best.pt")
    content["model"]["head.bias"] += 1
    torch.save(content, "one/best.pt")
    assert command(train_main, ["student.yaml", "--run=next"]) == 0
    after = torch.load("one/predictions.pt")["predictions"]
    assert torch.allclose(after.logit(), before.logit() + 1, atol=1e-4)


def test_teacher_without_a_model_raises(train_main, student, capfd):
    Path("two/best.pt").unlink()
    assert command(train_main, ["student.yaml", "--run=next"]) == 2
    expected = "training.teachers: expected trained runs, got two, which has no best.pt"
    assert expected in capfd.readouterr().err


@pytest.mark.parametrize(
    ("teachers", "message"),
    [
        ("[tags.yaml]", "expected configurations of the task sentiment, got tags.yaml"),
        ("[teacher.yaml, ./teacher.yaml]", "expected configurations with different file names"),
        ("[missing.yaml]", "expected a YAML file, got missing.yaml, which does not exist"),
    ],
)
def test_invalid_configurations_of_teachers_raise(train_main, in_folder, capfd, teachers, message):
    (in_folder / "tags.yaml").write_text("task: capitals\n")
    assert command(train_main, ["student.yaml", f"--training.teachers={teachers}"]) == 2
    assert message in capfd.readouterr().err
    assert not list(in_folder.glob("runs/*"))
