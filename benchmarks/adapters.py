"""Compare the adapters with the libraries' own modules: largest difference, and time.

Forward and backward passes with the same weights and the same data, in turn. Needs the extra
`adapters`.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import opacus.grad_sample
import opacus.layers
import sb3_contrib.ppo_recurrent
import torch
import torchrl.modules
from sb3_contrib.common.recurrent.buffers import RecurrentRolloutBuffer
from sb3_contrib.common.recurrent.type_aliases import RNNStates
from tensordict import TensorDict
from torch import Tensor, nn
from tqdm import tqdm

import seqcells
import seqcells.adapters.opacus
import seqcells.adapters.sb3
import seqcells.adapters.torchrl
from benchmarks.options import at_least_one, parser_of
from benchmarks.table import markdown
from benchmarks.timing import in_turn
from seqcells.lab.machine import processor

Step = Callable[[], list[Tensor]]


@dataclass(frozen=True)
class Case:
    """A training step by a library's own module and by ours."""

    library: str
    module: str
    sizes: str
    theirs: Step
    ours: Step

    def difference(self) -> float:
        """Return the largest difference of results and gradients, relative to the largest value."""
        differences = [
            ((one - other).abs().max() / other.abs().max().clamp_min(1e-30)).item()
            for one, other in zip(self.ours(), self.theirs(), strict=True)
        ]
        return max(differences)


def policies(envs: int, batch: int, units: int, share: float = 0.05) -> Case:
    """Evaluate a minibatch of a rollout of 1024 steps, in the layout of sb3-contrib's buffer."""
    features, steps = 8, 1024 // envs
    observations, actions = gymnasium.spaces.Box(-1, 1, (features,)), gymnasium.spaces.Discrete(4)
    shape = steps, 1, envs, units
    buffer = RecurrentRolloutBuffer(steps, observations, actions, shape, "cpu", n_envs=envs)
    random = np.random.default_rng(0)
    for _ in range(steps):
        hidden = [torch.from_numpy(random.normal(size=(1, envs, units))).float() for _ in range(4)]
        buffer.add(
            random.normal(size=(envs, features)),
            random.integers(4, size=(envs, 1)),
            random.normal(size=envs),
            random.random(envs) < share,
            torch.zeros(envs),
            torch.zeros(envs),
            lstm_states=RNNStates(tuple(hidden[:2]), tuple(hidden[2:])),
        )
    np.random.seed(0)
    data = next(iter(buffer.get(batch)))
    made: list[Any] = []
    for library in (sb3_contrib.ppo_recurrent, seqcells.adapters.sb3):
        torch.manual_seed(0)
        kind = library.MlpLstmPolicy
        made.append(kind(observations, actions, lambda _: 1e-3, lstm_hidden_size=units))

    def step(policy: Any) -> list[Tensor]:
        policy.zero_grad()
        taken = data.actions.long().flatten()
        results = policy.evaluate_actions(
            data.observations, taken, data.lstm_states, data.episode_starts
        )
        sum(part.mean() for part in results).backward()
        return [*results, *gradients(policy)]

    rows = data.lstm_states.pi[0].shape[1]
    sizes = f"{rows} sequences of up to {len(data.mask) // rows} steps, {units} units"
    theirs, ours = made
    return Case("sb3-contrib", "MlpLstmPolicy", sizes, lambda: step(theirs), lambda: step(ours))


def rollouts(kind: str, rows: int, steps: int, units: int, share: float = 0.05) -> Case:
    """Run rollouts in which episodes start."""
    states = ["h", "c"] if kind == "LSTM" else ["h"]
    out_keys = ["y", *[("next", key) for key in states]]
    made = []
    for library in (torchrl.modules, seqcells.adapters.torchrl):
        torch.manual_seed(0)
        module = getattr(library, f"{kind}Module")
        made.append(module(units, units, in_keys=["x", *states], out_keys=out_keys))
    data = {"x": torch.randn(rows, steps, units), "is_init": torch.rand(rows, steps, 1) < share}
    data |= {key: torch.zeros(rows, steps, 1, units) for key in states}
    batch = TensorDict(data, (rows, steps))

    def step(module: nn.Module) -> list[Tensor]:
        module.zero_grad()
        with torchrl.modules.set_recurrent_mode(True):
            found = module(batch.clone(False))
        results = [found[key] for key in out_keys]
        sum(part.square().mean() for part in results).backward()
        return [*results, *gradients(module)]

    theirs, ours = made
    sizes = f"B={rows} T={steps} I=H={units}"
    return Case("TorchRL", f"{kind}Module", sizes, lambda: step(theirs), lambda: step(ours))


def per_sample(kind: str, rows: int, steps: int, inputs: int, units: int) -> Case:
    """Compute the gradients of each row of a batch."""
    made = []
    own = getattr(seqcells, kind)(inputs, units)
    theirs = getattr(opacus.layers, f"DP{kind}")(inputs, units)
    theirs.load_state_dict(own.state_dict())
    for layer in (theirs, own):
        wrapped = opacus.grad_sample.GradSampleModule(layer, batch_first=False)
        made.append(wrapped)
    sequence = torch.randn(steps, rows, inputs, requires_grad=True)

    def step(module: Any) -> list[Tensor]:
        module.zero_grad()  # of each row too
        sequence.grad = None
        outputs, _ = module(sequence)
        outputs.square().mean().backward()
        named = sorted(module.named_parameters())
        return [outputs, sequence.grad, *[parameter.grad_sample for _, parameter in named]]

    first, second = made
    sizes = f"B={rows} T={steps} I={inputs} H={units}"
    return Case("Opacus", f"DP{kind}", sizes, lambda: step(first), lambda: step(second))


def gradients(module: nn.Module) -> list[Tensor]:
    return [part.grad for part in module.parameters() if part.grad is not None]


def cases() -> Iterator[Callable[[], Case]]:
    for envs, batch, units in ((8, 128, 64), (8, 128, 256), (8, 1024, 64), (1, 1024, 256)):
        yield lambda sizes=(envs, batch, units): policies(*sizes)
    for kind in ("LSTM", "GRU"):
        for sizes in ((32, 100, 64), (8, 400, 128)):
            yield lambda kind=kind, sizes=sizes: rollouts(kind, *sizes)
    for kind in ("RNN", "GRU", "LSTM"):
        for sizes in ((32, 50, 64, 64), (64, 100, 50, 128)):
            yield lambda kind=kind, sizes=sizes: per_sample(kind, *sizes)


def main(argv: Sequence[str]) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=at_least_one, default=7, help="default: %(default)s")
    parser.add_argument("--threads", type=at_least_one, default=1, help="default: %(default)s")
    parser.add_argument("--only", default="", help="a part of the name of a library")
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    seqcells.adapters.opacus.register()
    rows = []
    for make in tqdm(list(cases()), leave=False, disable=None):
        case = make()
        if options.only.lower() not in case.library.lower():
            continue
        difference = case.difference()
        theirs, ours = in_turn([case.theirs, case.ours], options.rounds, lambda: None)
        times = f"{1e3 * theirs:.1f}", f"{1e3 * ours:.1f}", f"{theirs / ours:.1f}"
        rows.append((case.library, case.module, case.sizes, *times, f"{difference:.0e}"))
    print(
        f"{processor()}; torch {torch.__version__}, {options.threads} thread(s), "
        f"{options.rounds} rounds\n"
    )
    figures = "theirs, ms", "seqcells, ms", "theirs / seqcells", "difference"
    print("\n".join(markdown(("library", "module", "sizes"), figures, rows)))


if __name__ == "__main__":
    main(sys.argv[1:])
