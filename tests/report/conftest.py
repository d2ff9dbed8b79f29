import functools
import html
import re
from html.parser import HTMLParser

import pytest
import torch

from seqcells.lab.cli import main
from seqcells.lab.model_config import ModelConfig
from seqcells.lab.text.corpus import make_corpus
from seqcells.lab.training import Config, DataConfig, Run, TrainingConfig, train

SMALL = {"embedding_size": 6, "hidden_size": 5, "embedding_dropout": 0.2, "dropout": 0.3}


@pytest.fixture(scope="session", autouse=True)
def small_corpus():
    """Replace the embedded corpus with a smaller one."""
    small = functools.partial(make_corpus, train=120, validation=40, test=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("seqcells.lab.training.tasks.reviews.make_corpus", small)
        yield small()


@pytest.fixture(scope="session")
def make_run(tmp_path_factory):
    """Return a function that trains a small run, cached by its arguments."""

    @functools.cache
    def make(name, task="sentiment", **model):
        config = Config(
            task=task,
            data=DataConfig(max_tokens=40, examples=40, steps=8),
            model=ModelConfig(**(SMALL | model)),
            training=TrainingConfig(epochs=2, batch_size=16, threads=1, learning_rate=0.01),
            run=str(tmp_path_factory.mktemp("runs") / name),
        )
        threads = torch.get_num_threads()
        run = Run.create(config, "unused")
        train(run)
        torch.set_num_threads(threads)
        return run

    return make


class Page(HTMLParser):
    """Parses a page into tags, their texts and the runs that they belong to."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.runs, self.texts, self._run = [], [], [], None
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self._run = attributes.get("data-run", self._run)
        self.tags.append((tag, attributes))
        self.runs.append(self._run)
        self.texts.append("")

    def handle_data(self, data):
        if self.texts:
            self.texts[-1] += data

    def values(self, key):
        """Return the `data-value` of every tag with attribute `key`, by run and attribute."""
        return {
            (run, attributes[key]): attributes["data-value"]
            for run, (_, attributes) in zip(self.runs, self.tags)
            if key in attributes
        }

    def rows(self):
        """Return the tables of labels and values as one dictionary."""
        row = r'<tr><th scope="row">([^<]*)</th>\s*<td[^>]*>([^<]*)</td></tr>'
        return {name: html.unescape(value) for name, value in re.findall(row, self.source)}

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


@pytest.fixture(scope="session")
def read_page():
    return Page


@pytest.fixture
def report(tmp_path, read_page):
    """Return a function that writes a report with the command and parses it."""

    def write(*runs, options=()):
        path = tmp_path / "page.html"
        folders = [str(run.folder) for run in runs]
        assert main(["report", *folders, "--output", str(path), *options]) == 0
        return read_page(path)

    return write
