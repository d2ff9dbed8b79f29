"""`seqcells compare`."""

import statistics
from pathlib import Path

from command_line import failure, failure_after_output, write_config

from seqcells.lab.cli import main, split_settings
from seqcells.lab.training import Run, Trainer


def test_compare_trains_configurations_and_reads_runs(finished, small_corpus, capfd):
    config = write_config(Path(), "words", "words")
    assert main(["compare", config, finished]) == 0
    *_, header, words, done = capfd.readouterr().out.splitlines()
    assert header.split() == ["name", "validation", "test", "parameters", "tokens/s", "time"]
    assert len({len(line) for line in (header, words, done)}) == 1
    result = Run.open(finished).read_result()
    scores = f"accuracy {result['test_accuracy']:.2%}, loss {result['test_loss']:.4f}"
    assert f"  {scores}  " in done
    assert f"accuracy {result['validation_accuracy']:.2%}" in done
    assert words.split()[0] == "words"
    (trained,) = Path("runs/compare").iterdir()
    assert f" {Run.open(trained).read_result()['parameters']:,} " in words


def test_compare_validates_before_training(finished, small_corpus, capfd):
    wrong = write_config(Path(), name="wrong", extra="extra: 1\n")
    right = write_config(Path(), name="right")
    assert "extra" in failure(capfd, ["compare", right, wrong])
    (Path(finished) / "metrics.json").unlink()
    assert "--resume runs/done" in failure(capfd, ["compare", right, finished])
    assert not Path("runs/compare").exists()
    assert "--seeds: expected" in failure(capfd, ["compare", right, "--seeds", "0"])
    assert "model.cell" in failure(capfd, ["compare", right, "--model.cell", "gru,dru"])
    assert "expected values" in failure(capfd, ["compare", right, "--model.cell"])
    for rest in (["--seeds", "2"], ["gru", "--model.cell=rnn"]):
        arguments = ["compare", right, "--model.cell", *rest]
        assert "--model.cell: expected " in failure(capfd, arguments)
    assert not Path("runs/compare").exists()


def test_settings_are_lists():
    arguments = ["--model.readout", "[max],[max, mean]", "a.yaml", "--model.cell=gru,lstm"]
    arguments += ["--data.path", "a,b"]
    expected = {"model.readout": ["[max]", "[max, mean]"], "model.cell": ["gru", "lstm"]}
    others = ["a.yaml", "--data.path", "a,b"]
    assert split_settings(arguments, ["--data.path"]) == (expected, others)


def test_compare_trains_a_grid_and_resumes(small_corpus, in_folder, capfd, monkeypatch):
    config = write_config(Path(), "recurrent", "grid")
    command_line = ["compare", config, "--seeds", "2", "--model.cell", "rnn,gru"]
    command_line += ["--model.hidden_size=3,5"]
    trained, calls = [], iter(range(100))
    fit = Trainer.fit

    def recorded_fit(trainer, interrupted):
        trained.append(trainer.run.folder.name)
        if len(trained) > 3:
            return fit(trainer, interrupted)
        return fit(trainer, lambda: len(trained) == 3 and next(calls) >= 5)

    monkeypatch.setattr(Trainer, "fit", recorded_fit)
    assert main(command_line) == 130
    assert "run the same command again" in capfd.readouterr().err
    assert trained == ["grid-rnn-3-seed0", "grid-rnn-3-seed1", "grid-rnn-5-seed0"]
    assert main(command_line) == 0
    assert trained[3] == trained[2]
    assert len(trained) == 9
    *_, one, two, three, four = capfd.readouterr().out.splitlines()
    names = [line.split("  ")[0] for line in (one, two, three, four)]
    assert names == ["grid rnn 3", "grid rnn 5", "grid gru 3", "grid gru 5"]
    results = [
        Run.open(f"runs/compare/grid-gru-5-seed{seed}").read_result()["test_accuracy"]
        for seed in (0, 1)
    ]
    mean, spread = statistics.fmean(results), statistics.stdev(results)
    assert f"accuracy {mean:.2%}" in four
    assert f"(spread {spread:.2%}, 2 seeds)" in four
    assert main(command_line) == 0
    assert len(trained) == 9
    other = write_config(Path(), "recurrent", "grid", extra="run: null\n")
    Path(other).write_text(Path(other).read_text().replace("max_tokens: 20", "max_tokens: 21"))
    assert "data.max_tokens: expected 20" in failure_after_output(capfd, command_line)
