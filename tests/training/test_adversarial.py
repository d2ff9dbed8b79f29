import pytest
import torch

from seqcells.lab.training.tasks.sentiment import perturbation


def test_perturbation_follows_the_gradient_of_each_text():
    """Compare with the definition, for texts with independent losses."""
    torch.manual_seed(0)
    vectors = torch.randn(5, 3, 4, dtype=torch.float64)
    vectors[3:, 1] = 0.0
    vectors.requires_grad_()
    weight = torch.randn(5, 3, 4, dtype=torch.float64)
    loss = (vectors * weight).sum((0, 2)).sigmoid().sum()
    perturbed = perturbation(loss, vectors, 0.5)
    lengths = [v.norm() for v in vectors.detach().flatten(0, 1) if v.norm() > 0]
    size = 0.5 * sum(lengths) / len(lengths)
    for text in range(3):
        direction = weight[:, text] / weight[:, text].norm()
        torch.testing.assert_close(perturbed[:, text], size * direction)


def test_perturbation_is_zero_without_gradient():
    vectors = torch.ones(2, 2, 3, requires_grad=True)
    perturbed = perturbation(vectors[:, :1].sum(), vectors, 1.0)
    assert not perturbed[:, 1].any()
    assert perturbed[:, 0].norm() == pytest.approx(3**0.5)


@pytest.mark.parametrize("kind", ["recurrent", "pooled"])
def test_training_adds_the_loss_of_the_perturbed_texts(kind, make_trainer):
    settings = {"kind": kind, "embedding_dropout": 0.0, "dropout": 0.0}
    trainer = make_trainer(adversarial=0.3, model=settings)
    batch = next(trainer.data.train.epoch(1))
    model = trainer.model.train()
    judgement = trainer.task.judge(model, batch)
    assert judgement.penalty > judgement.loss
    vectors = model.inputs(batch.inputs)
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    labels = batch.labels.float()
    first = loss(model.classify(vectors, batch.lengths), labels, reduction="sum")
    perturbed = vectors + perturbation(first, vectors, 0.3)
    second = loss(model.classify(perturbed, batch.lengths), labels, reduction="sum")
    torch.testing.assert_close(judgement.loss, first)
    torch.testing.assert_close(judgement.penalty, second)
    trainer.step(batch)
    assert trainer.train_scores()["loss"] == pytest.approx(first.item() / len(labels))
    assert trainer.task.judge(model.eval(), batch).penalty == 0.0
