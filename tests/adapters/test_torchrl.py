"""Modules for TorchRL equal its own."""

import pytest
import torch

import seqcells

pytest.importorskip("torchrl")
import torchrl.modules as theirs
from tensordict import TensorDict

from seqcells.adapters import torchrl as ours

pytestmark = pytest.mark.slow
B, T, I, H = 3, 12, 4, 6  # noqa: E741
KEYS = {
    "LSTM": (["x", "h", "c"], ["y", ("next", "h"), ("next", "c")]),
    "GRU": (["x", "h"], ["y", ("next", "h")]),
}
KINDS = pytest.mark.parametrize("kind", KEYS)


def modules(kind, **options):
    """Return the module of TorchRL and ours with the same weights, in float64."""
    in_keys, out_keys = KEYS[kind]
    made = []
    for library in (theirs, ours):
        torch.manual_seed(2)
        module = getattr(library, f"{kind}Module")
        made.append(module(I, H, in_keys=in_keys, out_keys=out_keys, **options).double())
    return made


def rollouts(kind, layers=1, directions=1, share=0.3, restart=False, width=H, shape=(B, T)):
    torch.manual_seed(3)
    is_init = torch.rand(*shape, 1) < share
    data = {"x": torch.randn(*shape, I, dtype=torch.float64), "is_init": is_init}
    for key, size in zip(KEYS[kind][0][1:], (width, H)):
        state = torch.randn(*shape, layers * directions, size, dtype=torch.float64)
        starts = is_init.clone()
        starts[..., 0, :] = False
        data[key] = state if restart else state.masked_fill(starts.unsqueeze(-1), 0)
    return TensorDict(data, shape)


def run(module, data, kind, recurrent=True, states=False):
    """Return the results and all gradients, with `states` those of the stored states too."""
    data = data.clone()
    keys = KEYS[kind][0] if states else KEYS[kind][0][:1]
    leaves = [data[key].requires_grad_() for key in keys]
    with theirs.set_recurrent_mode(recurrent):
        found = module(data)
    results = [found[key] for key in KEYS[kind][1]]
    loss = sum((part * torch.linspace(-1, 1, part.numel()).view_as(part)).sum() for part in results)
    named = dict(module.named_parameters())
    gradients = torch.autograd.grad(loss, [*leaves, *named.values()])
    return results, dict(zip([*keys, *named], gradients, strict=True))


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@KINDS
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    "options", [{}, {"num_layers": 2, "bias": False}, {"num_layers": 2, "bidirectional": True}]
)
@pytest.mark.parametrize("restart", [False, True], ids=["zero", "stored"])
def test_rollouts_equal_those_of_torchrl(kind, share, options, restart):
    """With states stored at the start of a trajectory, these are the initial states."""
    data = rollouts(
        kind, options.get("num_layers", 1), 1 + ("bidirectional" in options), share, restart
    )
    reference, module = modules(kind, **options)
    close(run(module, data, kind), run(reference, data, kind))
    close(run(module, data, kind, states=True), run(reference, data, kind, states=True))


@KINDS
@pytest.mark.parametrize("shape", [(T,), (2, B, T)])
def test_other_batch_shapes_equal_those_of_torchrl(kind, shape):
    data = rollouts(kind, shape=shape)
    reference, module = modules(kind)
    close(run(module, data, kind), run(reference, data, kind))


def test_projections_equal_those_of_torchrl():
    data = rollouts("LSTM", 2, width=3)
    reference, module = modules("LSTM", num_layers=2, proj_size=3)
    close(run(module, data, "LSTM"), run(reference, data, "LSTM"))


@KINDS
def test_single_steps_equal_those_of_torchrl(kind):
    data = rollouts(kind)[:, 0]
    reference, module = modules(kind)
    options = {"recurrent": False, "states": True}
    close(run(module, data, kind, **options), run(reference, data, kind, **options))
    for found in (reference, module):
        with torch.no_grad():
            found(data)
            data.exclude(*KEYS[kind][0][1:], inplace=True)
            found(data)  # states are zero by default


@KINDS
@pytest.mark.parametrize("library", [torch.nn, seqcells])
def test_given_layers_share_their_parameters(kind, library):
    layers = getattr(library, kind)(I, H, 2, batch_first=True, dtype=torch.float64)
    in_keys, out_keys = KEYS[kind]
    made = getattr(ours, f"{kind}Module")
    module = made(**{kind.lower(): layers}, in_keys=in_keys, out_keys=out_keys)
    assert list(map(id, module.parameters())) == list(map(id, layers.parameters()))
    reference, _ = modules(kind, num_layers=2)
    reference.load_state_dict(module.state_dict())
    data = rollouts(kind, 2)
    close(run(module, data, kind), run(reference, data, kind))
    with pytest.raises(ValueError, match="expected None with layers"):
        made(I, H, **{kind.lower(): layers}, in_keys=in_keys, out_keys=out_keys)


@KINDS
def test_one_call_runs_all_trajectories_of_a_batch(kind, monkeypatch):
    """Rollouts whose trajectories start from zero are not padded."""
    _, module = modules(kind)
    name = f"_{kind.lower()}_pad_with_resets"
    monkeypatch.setattr(type(module), name, None)
    run(module, rollouts(kind), kind)


@KINDS
def test_a_primer_and_a_default_mode(kind):
    made = getattr(ours, f"{kind}Module"), getattr(theirs, f"{kind}Module")
    keys = {"in_key": "x", "out_key": "y", "default_recurrent_mode": True}
    module, reference = (kind(I, H, **keys) for kind in made)
    assert module.recurrent_mode
    expected = reference.make_tensordict_primer().primers
    assert module.make_tensordict_primer().primers == expected
