"""Tasks: data, losses, training and answers on small examples."""

import re
from dataclasses import replace
from datetime import date

import pytest
import torch

from seqcells.lab.text import Review, Vocabulary
from seqcells.lab.text.batches import IGNORED
from seqcells.lab.training import (
    Config,
    DataConfig,
    InterruptedRunError,
    ModelConfig,
    Run,
    TrainingConfig,
    evaluate,
    task_of,
)
from seqcells.lab.training.config import TASK_NAMES
from seqcells.lab.training.tasks import TASKS, reviews
from seqcells.lab.training.tasks.capitals import CAPITALISED, LOWER, UPPER, tag_of
from seqcells.lab.training.tasks.copying import BLANK, LENGTH, SIGNAL
from seqcells.lab.training.tasks.dates import MONTHS, format_date

SMALL = {"embedding_size": 8, "hidden_size": 12, "cell": "gru"}


def config_of(task, folder=None, *, model=None, **data):
    return Config(
        task=task,
        data=DataConfig(**({"steps": 6, "examples": 96} | data)),
        model=ModelConfig(**(SMALL | (model or {}))),
        training=TrainingConfig(epochs=2, batch_size=16, threads=1, learning_rate=0.01),
        run=None if folder is None else str(folder),
    )


def test_every_task_has_a_name():
    assert set(TASKS) == set(TASK_NAMES)


def as_numbers(batches, number):
    return [[part.tolist() for part in batch[:4]] for batch in batches.epoch(number)]


@pytest.mark.parametrize("name", TASK_NAMES)
def test_epochs_are_reproducible_from_any_batch(name, small_corpus):
    data = task_of(config_of(name)).load()
    again = task_of(config_of(name)).load()
    whole = as_numbers(data.train, 1)
    assert len(whole) == len(data.train)
    assert whole == as_numbers(again.train, 1)
    assert whole != as_numbers(data.train, 2)
    rest = [[part.tolist() for part in batch[:4]] for batch in data.train.epoch(1, start=2)]
    assert rest == whole[2:]
    assert as_numbers(data.validation, 0) == as_numbers(again.validation, 0)
    for start in (-1, len(whole) + 1):
        with pytest.raises(ValueError, match="expected start between 0 and"):
            data.train.epoch(1, start=start)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_correct_answers_are_at_most_the_labels(name, small_corpus):
    task = task_of(config_of(name))
    data = task.load()
    model = task.build(data.vocabulary)
    for batch in data.train.epoch(1):
        judgement = task.judge(model, batch)
        assert task.count(batch) > 0
        assert judgement.correct is None or 0 <= judgement.correct <= task.count(batch)


@pytest.mark.parametrize("name", TASK_NAMES)
def test_training_resumes_exactly(name, small_corpus, prepare_run, reopen, tmp_path):
    whole, broken = (
        prepare_run(Run.create(config_of(name, tmp_path / part), "x")) for part in ("a", "b")
    )
    whole.fit()
    calls = iter(range(1000))
    with pytest.raises(InterruptedRunError):
        broken.fit(lambda: next(calls) >= 3)
    resumed = reopen(broken.run.folder)
    resumed.fit()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key


def accuracy_after(name, epochs, rate=0.01, *, model=None, smoothing=0.0, **data):
    """Train and return the accuracy on the test examples."""
    config = config_of(name, model=model, **data)
    task = task_of(config)
    torch.manual_seed(0)
    examples = task.load()
    model = task.build(examples.vocabulary)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    for epoch in range(1, epochs + 1):
        for batch in examples.train.epoch(epoch):
            judgement = task.judge(model, batch, None, smoothing)
            optimiser.zero_grad()
            (judgement.loss / task.count(batch)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
    scores = evaluate(task, model, task.load_split(examples.vocabulary, "test"))
    return scores["accuracy"], task, model, examples.vocabulary


def test_adding_is_learnt():
    accuracy, *_ = accuracy_after(
        "adding", 8, steps=8, examples=2000, model={"readout": ["last"], "hidden_size": 32}
    )
    assert accuracy > 0.4  # 0.08 by chance


@pytest.mark.slow
def test_copying_is_learnt():
    model = {"cell": "lstm", "hidden_size": 64, "forget_bias": 3.0}
    accuracy, *_ = accuracy_after("copying", 12, 0.02, steps=1, examples=2000, model=model)
    assert accuracy > 0.5  # 0.125 by chance


def test_digits_are_learnt():
    accuracy, *_ = accuracy_after("digits", 8, model={"readout": ["max"], "hidden_size": 48})
    assert accuracy > 0.5  # 0.1 by chance


def test_capitals_are_learnt(small_corpus):
    accuracy, task, model, vocabulary = accuracy_after("capitals", 20, 0.02)
    assert accuracy > 0.93  # 0.87 by always predicting lower case
    answer = task.answer(model.eval(), vocabulary, "It was good. we saw it.")
    assert answer.lower() == " ".join(vocabulary.tokenise("It was good. we saw it."))
    assert answer[0] == "I"


@pytest.mark.slow
def test_dates_are_learnt():
    model = {"hidden_size": 96, "embedding_size": 24}
    accuracy, task, model, vocabulary = accuracy_after(
        "dates", 14, 0.01, examples=6000, model=model
    )
    assert accuracy > 0.3  # none by chance
    written = task.answer(model.eval(), vocabulary, "May 3rd, 2004")
    assert re.fullmatch(r"[\d-]{8,11}", written)


def test_adding_labels_are_sums_of_marked_numbers():
    task = task_of(config_of("adding", steps=9))
    inputs, sums = task.make(50, torch.Generator().manual_seed(0))
    assert inputs.shape == (9, 50, 2)
    numbers, marks = inputs.unbind(-1)
    torch.testing.assert_close((numbers * marks).sum(0), sums)
    assert (marks[:4].sum(0) == 1).all()
    assert (marks[4:].sum(0) == 1).all()


def test_copying_labels_are_the_symbols():
    task = task_of(config_of("copying", steps=7))
    inputs, labels = task.make(5, torch.Generator().manual_seed(0))
    assert inputs.shape == labels.shape == (LENGTH + 7 + LENGTH, 5)
    assert torch.equal(labels[-LENGTH:] + 1, inputs[:LENGTH])
    assert (labels[:-LENGTH] == IGNORED).all()
    assert (inputs[LENGTH:-1].ne(BLANK).sum(0) == 1).all()
    assert (inputs[LENGTH + 6] == SIGNAL).all()


def test_digits_are_read_row_by_row():
    from sklearn.datasets import load_digits

    data = task_of(config_of("digits")).load()
    seen = {
        tuple(column) for batch in data.train.epoch(1) for column in batch.inputs[..., 0].T.tolist()
    }
    pictures = {tuple((picture / 16).flatten().tolist()) for picture in load_digits().images}
    assert seen <= pictures
    assert len(seen) > 1100


def test_splits_have_distinct_dates():
    pairs = task_of(config_of("dates", examples=5000))._pairs()
    days = {split: {full for _, full in pairs[split]} for split in pairs}
    assert sum(map(len, days.values())) == len(set.union(*days.values())) == 7000


def test_date_formats():
    import random

    rng = random.Random(0)
    for text, full in (format_date(date(2004, 5, 3), rng) for _ in range(300)):
        assert full == "2004-05-03"
        assert "2004" in text
        assert "May" in text or re.search(r"\b0?3\.0?5\.|/5/3", text)
        assert "Monday" in text or "day" not in text
    endings = {
        format_date(date(2023, 3, day), rng)[0]
        for day in (1, 2, 3, 4, 11, 12, 13, 21)
        for _ in range(200)
    }
    for ending in ("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st"):
        assert any(re.search(rf"\b{ending}\b", text) for text in endings)
    assert not any(re.search(r"1[123](st|nd|rd)", text) for text in endings)
    assert len(MONTHS.split()) == 12


@pytest.mark.parametrize(
    ("token", "tag"),
    [
        ("film", LOWER),
        ("Film", CAPITALISED),
        ("I", CAPITALISED),
        ("A", CAPITALISED),
        ("TV", UPPER),
        ("U2", CAPITALISED),
        (".", LOWER),
        ("10", LOWER),
        ("McDonald", CAPITALISED),
    ],
)
def test_tags(token, tag):
    assert tag_of(token) == tag


def test_truncated_texts_keep_their_tags():
    vocabulary = Vocabulary(["<pad>", "<unk>", "one", "two", "three"], [])
    task = task_of(config_of("capitals", max_tokens=2))
    review = type("Review", (), {"text": "one Two THREE"})
    assert task.example(review, vocabulary) == ([2, 4], [LOWER, UPPER])


def test_validation_split_by_film_or_review(monkeypatch):
    films = [Review(f"review {n}", n % 2, f"film {n // 10}") for n in range(400)]
    monkeypatch.setattr(reviews, "read_imdb", lambda *_, **__: {"train": films})
    shared = {}
    for choice in ("film", "review"):
        config = DataConfig(source="imdb", validation_by=choice, validation_share=0.2)
        split = reviews.read_reviews(config, ("train", "validation"))
        texts = [{review.text for review in split[part]} for part in ("train", "validation")]
        assert len(texts[0]) + len(texts[1]) == len(texts[0] | texts[1]) == 400
        assert len(texts[1]) == pytest.approx(80, abs=2)
        train_films = {n // 10 for n in range(400) if f"review {n}" in texts[0]}
        shared[choice] = sum(
            n // 10 in train_films for n in range(400) if f"review {n}" in texts[1]
        )
    assert shared["film"] == 0
    assert shared["review"] > 70


def test_unlabelled_reviews_extend_vocabulary_and_vectors(monkeypatch):
    labelled = [Review(f"a good film of {n} scenes", n % 2, f"film {n}") for n in range(20)]
    unlabelled = [Review("a splendid film of many scenes", None, "other")] * 5

    def read_imdb(path, *, splits, **_):
        return {split: {"train": labelled, "unsupervised": unlabelled}[split] for split in splits}

    monkeypatch.setattr(reviews, "read_imdb", read_imdb)
    config = config_of("sentiment", source="imdb", unlabelled=True, vectors="counted")
    config = replace(config, model=replace(config.model, embedding_size=4))
    task = task_of(config)
    data = task.load()
    assert {"good", "splendid", "many"} <= set(data.vocabulary.words)
    assert sum(len(batch.lengths) for batch in data.train.epoch(1)) < 20
    model = task.build(data.vocabulary)
    before = model.inputs.words.weight.detach().clone()
    assert "texts" in task.begin(model, data)
    changed = (model.inputs.words.weight - before).detach().abs().amax(1) > 0
    assert changed.tolist() == [False, False] + [True] * (len(data.vocabulary) - 2)


def test_evaluation_does_not_depend_on_the_batch_size():
    seen = []
    for size in (16, 48):
        config = config_of("adding")
        task = task_of(replace(config, training=replace(config.training, batch_size=size)))
        seen.append(as_numbers(task.load_split(None, "test"), 0))
    assert seen[0] == seen[1]


def test_adding_with_one_step_raises():
    with pytest.raises(ValueError, match=r"data\.steps: expected at least 2"):
        task_of(config_of("adding", steps=1))
