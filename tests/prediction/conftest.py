import pytest
import torch

from seqcells.lab.model_config import ModelConfig
from seqcells.lab.text.corpus import make_corpus
from seqcells.lab.training import Config, Run, TrainingConfig, task_of
from seqcells.lab.training.checkpoints import save_checkpoint

SMALL = {"embedding_size": 6, "hidden_size": 5, "dropout": 0.3, "embedding_dropout": 0.3}


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Return a function that creates a run with an untrained model."""
    texts = {part: reviews[:60] for part, reviews in make_corpus().items()}
    monkeypatch.setattr("seqcells.lab.training.tasks.reviews.make_corpus", lambda: texts)

    def make(task="sentiment", **model):
        folder = str(tmp_path / "run")
        config = Config(
            task=task,
            model=ModelConfig(**(SMALL | model)),
            training=TrainingConfig(threads=1),
            run=folder,
        )
        run = Run.create(config, "unused")
        vocabulary = task_of(run.config).load().vocabulary
        torch.manual_seed(3)
        network = task_of(run.config).build(vocabulary)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.mul_(4.0)
        run.begin(vocabulary)
        save_checkpoint(run.best, run.config, {"model": network.state_dict()})
        return folder

    return make
