"""Commands that the end of a run suggests: each runs on the run that suggests it."""

import shlex
from pathlib import Path

import pytest

from seqcells.lab.cli import main
from seqcells.lab.text.corpus import make_corpus
from seqcells.lab.training import Run, command
from seqcells.lab.training.runs import program

TINY = ["--training.epochs=1", "--training.threads=1", "--training.batch_size=8"]
TINY += ["--model.hidden_size=4", "--model.embedding_size=4", "--data.examples=16"]
TINY += ["--data.max_tokens=20"]
UNLABELLED = ["--data.unlabelled=true", "--model.bidirectional=true", "--data.steps=10"]
RUNS = {
    "corpus": ([], 'predict RUN "It is good, not bad."'),
    "imdb": (["--data.source=imdb"], 'predict RUN "not bad at all"'),
    "corpus capitals": (["--task=capitals"], 'predict RUN "seen on monday with aunt ida"'),
    "imdb capitals": (
        ["--task=capitals", "--data.source=imdb"],
        'predict RUN "i saw it in new york"',
    ),
    "dates": (["--task=dates"], 'predict RUN "May 3rd, 2004"'),
    "corpus words": (["--task=language", "--data.steps=10"], 'generate RUN "it is not"'),
    "imdb characters": (
        ["--task=language", "--data.unit=characters", "--data.source=imdb"],
        'generate RUN "this fi"',
    ),
    "language in both directions": (
        ["--task=language", "--data.source=imdb", *UNLABELLED],
        "train.py RUN/config.yaml --task sentiment --training.start_from RUN "
        "--data.unlabelled false",
    ),
    "characters in both directions": (
        ["--task=language", "--data.unit=characters", "--model.bidirectional=true"],
        "train.py RUN/config.yaml --training.seed 1",
    ),
    "adding": (["--task=adding", "--data.steps=3"], "train.py RUN/config.yaml --data.steps 6"),
    "copying": (
        ["--task=copying", "--data.steps=3", "--training.seed=4"],
        "train.py RUN/config.yaml --data.steps 6",
    ),
    "digits": (["--task=digits"], "compare RUN/config.yaml --model.cell rnn,gru,lstm"),
    "digits with a bias": (
        ["--task=digits", "--model.forget_bias=1"],
        "train.py RUN/config.yaml --training.seed 1",
    ),
}


# The others cover each kind of command.
QUICK = ("corpus", "dates", "imdb characters", "adding")


@pytest.fixture
def small_reviews(monkeypatch, in_folder):
    corpus = make_corpus(train=40, validation=16, test=16)
    reviews = corpus | {"unsupervised": [one._replace(label=None) for one in corpus["test"]]}
    monkeypatch.setattr("seqcells.lab.training.tasks.reviews.make_corpus", lambda: corpus)
    read = "seqcells.lab.training.tasks.reviews.read_imdb"
    monkeypatch.setattr(read, lambda _, splits, **__: {part: reviews[part] for part in splits})


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in RUNS],
)
def test_suggested_commands_run(name, small_reviews, train_main, capfd):
    options, expected = RUNS[name]
    run = "runs/of mine"
    assert command(train_main, [*TINY, *options, "--run", run]) == 0
    _, found, rest = capfd.readouterr().out.partition("try next:\n")
    assert found
    lines = [shlex.split(line) for line in rest.splitlines()]
    assert lines[0][1:] == [part.replace("RUN", run) for part in shlex.split(expected)]
    assert lines[-1][1:] == ["report", run]
    assert len(lines) in (2, 3)
    for number, (program_of_line, *arguments) in enumerate(lines):
        if program_of_line == program("seqcells"):
            assert main(arguments) == 0
        else:
            assert (program_of_line, arguments[0]) == (program("python"), "train.py")
            new = f"--run=new-{number}"
            assert command(train_main, [*arguments[1:], new]) == 0
    settings = Run.open(run).config.training
    seeds = [line[-1] for line in lines if "--training.seed" in line]
    assert seeds in ([str(settings.seed + 1)], [])
    assert Path(run, "report.html").is_file()


@pytest.mark.parametrize("script", ["train.py", "../seqcells/train.py"])
def test_the_script_is_suggested_as_it_was_started(
    script, small_reviews, train_main, monkeypatch, capfd
):
    monkeypatch.setattr("sys.argv", [script])
    assert command(train_main, [*TINY, "--run=mine"]) == 0
    assert f" {script} mine/config.yaml --training.seed 1\n" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("options", "baseline"), [([], "corpus_words"), (["--model.kind=words"], "corpus_lstm")]
)
def test_a_run_on_the_corpus_is_compared_with_another_model(
    options, baseline, small_reviews, train_main, capfd
):
    Path("configs").mkdir()
    Path(f"configs/{baseline}.yaml").write_text("training: {epochs: 1, threads: 1}\n")
    assert command(train_main, [*TINY, *options, "--run=mine"]) == 0
    line = next(one for one in capfd.readouterr().out.splitlines() if " compare " in one)
    arguments = shlex.split(line)[1:]
    assert arguments == ["compare", f"configs/{baseline}.yaml", "mine"]
    assert main(arguments) == 0
    rows = capfd.readouterr().out.splitlines()[2:]
    assert [row.split()[0] for row in rows] == [baseline, "mine"]
