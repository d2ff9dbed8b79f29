"""A report states units, versions, machine and command, without paths."""

import html
import os
import platform
import re
import shutil
from dataclasses import replace

import pytest
import torch

import seqcells
from seqcells.lab.report import formatting
from seqcells.lab.training import Run, parse
from seqcells.lab.training.config import flatten
from seqcells.lab.training.parsing import save_config


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("train_seconds", 0.04, "0.0 s"),
        ("train_seconds", 59.96, "1 min 0 s"),
        ("total_seconds", 230.2, "3 min 50 s"),
        ("total_seconds", 3725, "1 h 2 min"),
        ("tokens_per_second", 33744.8, "33,745 tokens/s"),
        ("test_accuracy", 0.89648, "89.65%"),
        ("test_loss", 0.2530141, "0.253"),
        ("test_loss", 0.00002004, "0.00002004"),
        ("test_perplexity", 12345.6, "12,346"),
        ("parameters", 3085449, "3,085,449"),
    ],
)
def test_values_have_units(name, value, expected):
    assert formatting.metric(value, name) == expected


def test_environment_of_the_training(make_run, report):
    run = make_run("lstm")
    result, page = run.read_result(), report(run)
    table = page.rows()
    training = page.source[page.source.index("<h3>Training</h3>") :]
    training, written = training.split("<h3>This page</h3>")
    for part in (training, written):
        assert re.search(r">20\d\d-\d\d-\d\d \d\d:\d\d UTC<", part)
        versions = f"seqcells {seqcells.__version__}, PyTorch {torch.__version__}, Python "
        assert f"{versions}{platform.python_version()}<" in part
        assert f"{os.cpu_count()} cores" in part
        assert platform.platform() in part
        assert html.escape(result["processor"]) in part
    assert table["command to repeat"] == "python train.py lstm/config.yaml"
    assert (table["device"], table["threads"], table["processes"]) == ("cpu", "1", "1")


def test_command_repeats_the_run(make_run, report, tmp_path, monkeypatch):
    run = make_run("lstm")
    monkeypatch.chdir(run.folder.parent)
    page = report(Run.open("lstm"))
    _, script, *arguments = page.rows()["command to repeat"].split()
    assert script == "train.py"
    config, _, _ = parse([*arguments, "--run", str(tmp_path / "again")])
    assert replace(config, run=None) == Run.open("lstm").config


def test_command_and_device_of_several_gpus(make_run, report, tmp_path):
    run = Run.open(shutil.copytree(make_run("lstm").folder, tmp_path / "two gpus"))
    run.write_result(run.read_result() | {"device": "cuda:0", "gpu": "H100", "processes": 2})
    table = report(run).rows()
    command = "torchrun --nproc-per-node 2 train.py 'two gpus/config.yaml'"
    assert (table["device"], table["processes"]) == ("cuda:0 (H100)", "2")
    assert table["command to repeat"] == command


def test_runs_of_earlier_versions(make_run, report, tmp_path):
    old = Run.open(shutil.copytree(make_run("lstm").folder, tmp_path / "old"))
    result = old.read_result()
    added = ("date", "seqcells", "python", "platform", "processor", "cores")
    old.write_result({name: value for name, value in result.items() if name not in added})
    page = report(old)
    training = page.source.split("<h3>Training</h3>")[1].split("<h3>This page</h3>")[0]
    assert training.count("not recorded") == 2  # date and machine
    assert f"PyTorch {torch.__version__}" in training


def test_page_has_no_absolute_path(make_run, report, tmp_path):
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("good " + "0.1 " * 6)
    copies = []
    for name in ("one", "two"):
        run = Run.open(shutil.copytree(make_run("lstm").folder, tmp_path / name / "same"))
        run.config = replace(run.config, data=replace(run.config.data, vectors=str(vectors)))
        save_config(run.config, run.settings)
        for path in (run.best, run.last):
            content = torch.load(path, weights_only=True)
            torch.save(content | {"config": flatten(run.config)}, path)
        copies.append(Run.open(run.folder))
    page = report(*copies)
    assert page.source.count("vectors.txt") == 2
    assert "one/same" in page.source
    assert not re.search(r"""[\s"'>=,(]/\w""", re.sub(r"</?\w+", "<", page.source))
    assert str(tmp_path) not in page.source
