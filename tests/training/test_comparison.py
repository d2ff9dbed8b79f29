"""`seqcells compare`."""

import json
import shutil
import statistics
from pathlib import Path

from command_line import failure, failure_after_output, write_config

from seqcells.lab.cli import main, split_settings
from seqcells.lab.training import Run, Trainer, command


def test_compare_trains_configurations_and_reads_runs(finished, small_corpus, capfd):
    config = write_config(Path(), "words", "words")
    assert main(["compare", config, finished]) == 0
    output, progress = capfd.readouterr()
    groups, header, words, done = output.splitlines()  # the table alone
    assert groups.split() == ["validation", "test"]
    assert header.split() == ["name", *["accuracy", "loss"] * 2, "parameters", "tokens/s", "time"]
    assert len({len(line) for line in (header, words, done)}) == 1
    assert len(header) <= 80
    result = Run.open(finished).read_result()
    assert done.split() == [
        "done",
        f"{result['validation_accuracy']:.2%}",
        f"{result['validation_loss']:.4f}",
        f"{result['test_accuracy']:.2%}",
        f"{result['test_loss']:.4f}",
        f"{result['parameters']:,}",
        f"{result['tokens_per_second']:,.0f}",
        f"{result['train_seconds']:.0f}",
        "s",
    ]
    assert words.split()[0] == "words"
    (trained,) = Path("runs/compare").iterdir()
    assert f" {Run.open(trained).read_result()['parameters']:,} " in words
    assert progress.splitlines()[0] == f"1/1: {trained}"
    assert "\nepoch 2/2: " in progress


def test_items_of_one_name_have_a_row_each(finished, small_corpus, capfd):
    """Two configurations of one file name, and two runs of one folder name."""
    for folder, kind in (("one", "words"), ("two", "window")):
        Path(folder).mkdir()
        write_config(Path(folder), kind, "same")
    shutil.copytree(finished, "other/done")
    changed = Run.open("other/done").read_result() | {"parameters": 123}
    Path("other/done/metrics.json").write_text(json.dumps(changed))
    shutil.copytree("other/done", "other/same")  # of the name of the configurations
    items = ["one/same.yaml", finished, "two/same.yaml", "other/done", "other/same"]
    assert main(["compare", *items]) == 0
    _, _, *rows = capfd.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == items
    parameters = [row.split()[5] for row in rows]
    trained = [Run.open(folder).read_result() for folder in sorted(Path("runs/compare").iterdir())]
    counts = [f"{result['parameters']:,}" for result in trained]
    assert counts[0] != counts[1]
    assert [parameters[0], parameters[2]] == counts
    assert parameters[3] == parameters[4] == "123" != parameters[1]


def test_the_configuration_of_a_run_has_its_name(finished, capfd):
    assert main(["compare", f"{finished}/config.yaml"]) == 0
    output, progress = capfd.readouterr()
    assert output.splitlines()[2].split()[0] == "done"
    assert progress.startswith("1/1: runs/compare/done-seed0\n")


def test_an_item_or_a_value_given_twice_raises(finished, capfd):
    config = write_config(Path(), name="right")
    Path("link.yaml").symlink_to(config)
    for items in ([config, config], [finished, f"./{finished}"], [config, "link.yaml"]):
        message = f"expected different runs and configurations, got {items[1]} twice"
        assert message in failure(capfd, ["compare", *items])
    error = failure(capfd, ["compare", config, "--model.cell", "gru,lstm,gru"])
    assert "--model.cell: expected different values, got gru,lstm,gru" in error
    error = failure(capfd, ["compare", config, "--seeds", "2", "--training.seed=0,1"])
    assert "--seeds: expected no --seeds together with --training.seed" in error
    paths = ["a/x.yaml", "b/x.yaml", "a-x.yaml"]
    for path in paths:
        Path(path).parent.mkdir(exist_ok=True)
        shutil.copy(config, path)
    error = failure(capfd, ["compare", *paths])
    assert "expected a different folder for each trial, got runs/compare/a-x-seed0 for 2" in error
    assert not Path("runs/compare").exists()


def test_runs_of_several_tasks_have_the_columns_of_all(finished, train_main, capfd):
    arguments = ["--task=adding", "--run=add", "--data.steps=4", "--data.examples=8"]
    arguments += ["--training.epochs=1", "--model.hidden_size=3", "--training.threads=1"]
    assert command(train_main, arguments) == 0
    result = Run.open("add").read_result()
    assert {"test_loss", "test_accuracy"} <= result.keys()
    renamed = {name.replace("accuracy", "perplexity"): value for name, value in result.items()}
    Path("add/metrics.json").write_text(json.dumps(renamed))
    capfd.readouterr()
    assert main(["compare", finished, "add"]) == 0
    _, header, done, add = capfd.readouterr().out.splitlines()
    assert header.split()[1:4] == ["accuracy", "loss", "perplexity"]
    assert len(add.split()) == len(done.split())
    assert add.rstrip()[header.index("accuracy") :].startswith(" " * 8)
    assert f" {result['test_accuracy']:.2f} " in add


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
    output, error = capfd.readouterr()
    assert output == ""
    assert "run the same command again" in error
    assert trained == ["grid-rnn-3-seed0", "grid-rnn-3-seed1", "grid-rnn-5-seed0"]
    assert main(command_line) == 0
    assert trained[3] == trained[2]
    assert len(trained) == 9
    _, header, *rows, note = capfd.readouterr().out.splitlines()
    assert header.split()[:2] == ["cell", "hidden_size"]
    variants = [["rnn", "3"], ["rnn", "5"], ["gru", "3"], ["gru", "5"]]
    assert [row.split()[:2] for row in rows] == variants
    results = [
        Run.open(f"runs/compare/grid-gru-5-seed{seed}").read_result()["test_accuracy"]
        for seed in (0, 1)
    ]
    mean, spread = statistics.fmean(results), statistics.stdev(results)
    assert rows[-1].split()[4] == f"{mean * 100:.2f}±{spread:.2%}"
    assert note == "Means over 2 seeds; ± is the spread, their standard deviation."
    assert main(command_line) == 0
    assert len(trained) == 9
    other = write_config(Path(), "recurrent", "grid", extra="run: null\n")
    Path(other).write_text(Path(other).read_text().replace("max_tokens: 20", "max_tokens: 21"))
    assert "data.max_tokens: expected 20" in failure_after_output(capfd, command_line)
