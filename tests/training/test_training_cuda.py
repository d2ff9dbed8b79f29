"""Training on a GPU. `test_training_devices.py` and `test_pending_metrics.py` run without one."""

import pytest
import torch

from seqcells.lab.training import InterruptedRunError, Run, command, load_best

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

GPU = {"device": "cuda", "epochs": 2}


def test_a_run_from_a_configuration(train_main, small_corpus, tmp_path):
    (tmp_path / "small.yaml").write_text(
        "model: {embedding_size: 16, hidden_size: 16}\n"
        "training: {epochs: 2, batch_size: 16, precision: bfloat16, average: 0.9}\n"
    )
    assert command(train_main, [str(tmp_path / "small.yaml"), f"--run={tmp_path / 'run'}"]) == 0
    run = Run.open(tmp_path / "run")
    assert run.config.training.device == "cuda"
    assert run.read_result()["device"] == "cuda:0"
    model = load_best(run, run.load_vocabulary())
    assert next(model.parameters()).is_cpu
    assert model(torch.tensor([[2], [3]]), torch.tensor([2])).isfinite()


def test_training_is_close_to_the_cpu(make_trainer):
    settings = {"model": {"embedding_dropout": 0.0, "dropout": 0.0}, "epochs": 2}
    results = []
    for device in ("cpu", "cuda"):
        trainer = make_trainer(device=device, **settings)
        trainer.fit()
        results.append(trainer.progress.history[-1])
    for key in ("train_loss", "validation_loss", "gradient_norm"):
        assert results[0][key] == pytest.approx(results[1][key], rel=1e-3), key


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("count", [5, 9])
def test_interrupted_run_equals_an_uninterrupted_run(count, precision, make_trainer, reopen):
    whole = make_trainer(precision=precision, **GPU)
    whole.fit()
    broken = make_trainer(precision=precision, **GPU)
    calls = iter(range(100))
    with pytest.raises(InterruptedRunError):
        broken.fit(lambda: next(calls) >= count)
    resumed = reopen(broken.run.folder)
    resumed.fit()
    for name, value in whole.model.state_dict().items():
        assert value.is_cuda
        assert torch.equal(resumed.model.state_dict()[name], value), name


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"precision": "float16", "accumulate": 2},
        {"precision": "bfloat16", "average": 0.9, "adversarial": 0.5, "clip_value": 0.1},
        {"model": {"cell": "gru", "num_layers": 2, "bidirectional": True, "ngrams": 2}},
        {"model": {"cell": "mgu", "readout": ["last", "attention"]}},
    ],
    ids=str,
)
def test_steps_do_not_synchronise_with_the_gpu(settings, make_trainer):
    trainer = make_trainer(**GPU, **settings)
    batches = list(trainer.data.train.epoch(1))
    for batch in batches[:2]:  # initialisation may synchronise
        trainer.step(batch)
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[2:]:
            trainer.step(batch)
    finally:
        torch.cuda.set_sync_debug_mode(before)
    trainer.save()
    assert trainer.progress.sums.loss > 0
