"""Policies for sb3-contrib's RecurrentPPO equal its own."""

import pytest
import torch

import seqcells

pytest.importorskip("sb3_contrib")
gymnasium = pytest.importorskip("gymnasium")
from sb3_contrib import RecurrentPPO  # noqa: E402
from sb3_contrib import ppo_recurrent as theirs  # noqa: E402
from sb3_contrib.common.recurrent.type_aliases import RNNStates  # noqa: E402

from seqcells.adapters import sb3 as ours  # noqa: E402

pytestmark = pytest.mark.slow
ROWS, STEPS, FEATURES, H = 3, 20, 4, 8
LAYERS = 2


def policies(**options):
    """Return the policy of sb3-contrib and ours, of one seed."""
    observations = gymnasium.spaces.Box(-1, 1, (FEATURES,))
    made = []
    for kind in (theirs.MlpLstmPolicy, ours.MlpLstmPolicy):
        torch.manual_seed(4)
        actions = gymnasium.spaces.Discrete(3)
        sizes = {"lstm_hidden_size": H, "n_lstm_layers": LAYERS}
        made.append(kind(observations, actions, lambda _: 1e-3, **sizes, **options))
        made[-1].after = torch.rand(1)
    return made


def rollout(steps=STEPS, share=0.3):
    torch.manual_seed(5)
    states = [tuple(torch.randn(2, LAYERS, ROWS, H)) for _ in range(2)]
    starts = (torch.rand(ROWS * steps) < share).float()
    actions = torch.randint(3, (ROWS * steps,))
    return torch.randn(ROWS * steps, FEATURES), actions, RNNStates(*states), starts


def close(found, expected, tolerance=2e-5):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


KINDS = pytest.mark.parametrize(
    "options",
    [{}, {"shared_lstm": True, "enable_critic_lstm": False}, {"enable_critic_lstm": False}],
    ids=["two", "shared", "actor"],
)


@KINDS
def test_initial_weights_names_and_optimizer_are_those_of_sb3(options):
    reference, policy = policies(**options)
    assert isinstance(policy.lstm_actor, seqcells.LSTM)
    torch.testing.assert_close(dict(policy.state_dict()), dict(reference.state_dict()))
    assert torch.equal(policy.after, reference.after)
    optimized = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}
    assert optimized == {id(parameter) for parameter in policy.parameters()}


@KINDS
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_values_and_gradients_equal_those_of_sb3(options, share):
    observations, actions, states, starts = rollout(share=share)
    weights = torch.randn(len(actions))
    results = []
    for policy in policies(**options):
        for parts in states:
            for part in parts:
                part.grad = None
                part.requires_grad_()
        values, log_probs, entropy = policy.evaluate_actions(observations, actions, states, starts)
        (values.flatten() * weights + log_probs * weights + entropy).sum().backward()
        gradients = {name: parameter.grad for name, parameter in policy.named_parameters()}
        gradients["states"] = [part.grad for parts in states for part in parts]
        results.append((values, log_probs, entropy, gradients))
    close(results[1], results[0])


@KINDS
def test_single_steps_equal_those_of_sb3(options):
    observations, _, states, starts = rollout(steps=1, share=0.5)
    with torch.no_grad():
        found = [
            policy(observations, states, starts, deterministic=True)
            for policy in policies(**options)
        ]
        close(found[1], found[0])
        found = [policy.predict_values(observations, states.vf, starts) for policy in policies()]
        close(found[1], found[0])


def test_training_saving_and_loading(tmp_path):
    trained = []
    for kind in (theirs.MlpLstmPolicy, ours.MlpLstmPolicy):
        model = RecurrentPPO(
            kind,
            "CartPole-v1",
            n_steps=64,
            batch_size=32,
            n_epochs=2,
            seed=1,
            device="cpu",
            policy_kwargs={"lstm_hidden_size": H},
        )
        trained.append(model.learn(128))
    close(dict(trained[1].policy.state_dict()), dict(trained[0].policy.state_dict()), 1e-3)

    trained[1].save(tmp_path / "model.zip")
    loaded = RecurrentPPO.load(tmp_path / "model.zip", device="cpu")
    assert type(loaded.policy) is ours.MlpLstmPolicy
    observation = trained[1].env.reset()
    action, state = loaded.predict(observation, deterministic=True)
    expected, expected_state = trained[1].predict(observation, deterministic=True)
    assert (action == expected).all()
    assert all((one == other).all() for one, other in zip(state, expected_state))
    trained[0].policy.load_state_dict(loaded.policy.state_dict())


@pytest.mark.parametrize("name", ["CnnLstmPolicy", "MultiInputLstmPolicy"])
def test_other_policies_have_our_layers(name):
    image = gymnasium.spaces.Box(0, 255, (3, 36, 36), dtype="uint8")
    space = image if name == "CnnLstmPolicy" else gymnasium.spaces.Dict({"image": image})
    made = []
    for module in (theirs, ours):
        torch.manual_seed(4)
        policy = getattr(module, name)(space, gymnasium.spaces.Discrete(2), lambda _: 1e-3)
        made.append(policy)
    assert isinstance(made[1].lstm_critic, seqcells.LSTM)
    torch.testing.assert_close(dict(made[1].state_dict()), dict(made[0].state_dict()))
