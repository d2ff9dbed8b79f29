"""Test what a training run prints in a terminal of 80 columns."""

import fcntl
import functools
import os
import pty
import re
import struct
import termios
import threading
from contextlib import contextmanager, redirect_stderr, suppress

import pytest
from tqdm import tqdm

from seqcells.lab.training.metrics import Progress


@contextmanager
def terminal():
    """Replace standard error with a terminal of 80 columns; yield a list of all that it shows."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    chunks = []

    def read():
        with suppress(OSError):  # the other end is closed
            while True:
                chunks.append(os.read(reader, 4096).decode(errors="replace"))

    thread = threading.Thread(target=read)
    thread.start()
    with os.fdopen(writer, "w", encoding="utf-8") as file, redirect_stderr(file):
        yield chunks
    thread.join(timeout=10)
    os.close(reader)


def test_the_progress_bar_fits(make_trainer, monkeypatch):
    trainer = make_trainer(epochs=1, batch_size=4)
    monkeypatch.setattr("seqcells.lab.training.loop.tqdm", functools.partial(tqdm, mininterval=0))
    with terminal() as chunks:
        trainer.fit()
    shown = re.split(r"[\r\n]+", "".join(chunks))
    full = [line for line in shown if "loss" in line]
    assert len(full) >= 3, shown
    for line in full:
        assert len(line) <= 80
        bar = re.fullmatch(
            r"epoch 1/1 \|(.+)\| \d\d:\d\d left, accuracy \d+\.\d\d%, loss \d\.\d{4}, \S+ tokens/s",
            line.rstrip(),
        )
        assert bar is not None, line
        assert len(bar[1]) >= 10


@pytest.mark.parametrize("scores", [("accuracy", 1.0, "100.00%"), ("perplexity", 22026.4, "22026")])
def test_the_line_of_an_epoch_fits(scores, make_trainer, monkeypatch):
    name, value, text = scores
    trainer = make_trainer(epochs=100)
    trainer.progress = Progress(epoch=100)
    values = {name: value, "loss": 10.0}
    monkeypatch.setattr(trainer, "train_scores", lambda: values)
    line = trainer._describe_epoch(values, better=True)
    assert len(line) <= 80
    assert line.startswith("epoch 100/100: ")
    assert line.endswith("; best")
    assert line.count(text) == 2


def test_an_epoch_prints_one_line(make_trainer, capsys):
    trainer = make_trainer(epochs=2)
    trainer.fit()
    lines = capsys.readouterr().out.splitlines()
    pattern = r"epoch {}/2: accuracy \S+%, loss \S+; validation \S+%, \d\.\d{{4}}(; best)?"
    assert len(lines) == 2
    for number, line in enumerate(lines, 1):
        assert re.fullmatch(pattern.format(number), line), line
    epochs = trainer.run.read_epochs()
    assert {"gradient_norm", "learning_rate", "tokens_per_second"} <= set(epochs[0])
