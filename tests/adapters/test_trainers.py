"""Lightning and Accelerate train modules with layers of seqcells, save checkpoints and resume."""

import pytest
import torch
from torch import nn

import seqcells

pytestmark = pytest.mark.slow
T, I, H, CLASSES = 5, 4, 8, 2  # noqa: E741


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent = seqcells.LSTM(I, H, num_layers=2, batch_first=True, bidirectional=True)
        self.stack = seqcells.Stack([seqcells.GRUCell(2 * H, H)], batch_first=True)
        self.head = nn.Linear(H, CLASSES)

    def forward(self, inputs):
        outputs, _ = self.recurrent(inputs)
        _, (state,) = self.stack(outputs)
        return self.head(state)


def made(seed=1):
    torch.manual_seed(seed)
    return Classifier()


def batches(size=4):
    torch.manual_seed(0)
    inputs, labels = torch.randn(16, T, I), torch.randint(CLASSES, (16,))
    data = torch.utils.data.TensorDataset(inputs, labels)
    return torch.utils.data.DataLoader(data, batch_size=size)


def plain_training(epochs):
    model = made()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(epochs):
        for inputs, labels in batches():
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
    return model


def same_weights(found, expected):
    torch.testing.assert_close(dict(found.state_dict()), dict(expected.state_dict()))


@pytest.mark.filterwarnings("ignore")  # of Lightning: workers, loggers, deprecated names of torch
def test_lightning_trains_and_resumes(tmp_path):
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.model = made()

        def training_step(self, batch, _):
            inputs, labels = batch
            return nn.functional.cross_entropy(self.model(inputs), labels)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=0.01)

    def fit(epochs, resume=None):
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            devices=1,
            default_root_dir=tmp_path,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        module = Module()
        trainer.fit(module, batches(), ckpt_path=resume)
        return trainer, module.model

    trainer, model = fit(1)
    same_weights(model, plain_training(1))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    _, resumed = fit(2, tmp_path / "last.ckpt")
    same_weights(resumed, plain_training(2))


@pytest.mark.filterwarnings("ignore")
def test_accelerate_trains_and_resumes(tmp_path):
    accelerate = pytest.importorskip("accelerate")

    def epoch(accelerator, model, optimizer, loader):
        for inputs, labels in loader:
            optimizer.zero_grad()
            accelerator.backward(nn.functional.cross_entropy(model(inputs), labels))
            optimizer.step()

    def prepared(seed):
        accelerator = accelerate.Accelerator(cpu=True)
        model = made(seed)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        return accelerator, *accelerator.prepare(model, optimizer, batches())

    accelerator, *training = prepared(1)
    epoch(accelerator, *training)
    same_weights(accelerator.unwrap_model(training[0]), plain_training(1))
    accelerator.save_state(tmp_path / "state")

    accelerator, *training = prepared(2)
    accelerator.load_state(tmp_path / "state")
    epoch(accelerator, *training)
    same_weights(accelerator.unwrap_model(training[0]), plain_training(2))
