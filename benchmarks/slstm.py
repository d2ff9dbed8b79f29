"""sLSTM against a loop over its equations in PyTorch, and the loop with a compiled step.

The loop is written from the paper (Beck et al. 2024): block-diagonal recurrent matrices as one
`einsum`, states as tensors, the products with the inputs for all steps at once. Its step is also
compiled by `torch.compile`. Outputs and gradients are compared before they are timed.

    python -m benchmarks.slstm
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

import seqcells
from benchmarks.options import at_least_one, parser_of
from benchmarks.timing import in_turn
from seqcells import Recurrent

STEPS, ROWS, SIZE = 200, 32, 256
TOLERANCE = 1e-3  # relative; float32 over 200 steps

Step = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


def step(
    from_input: Tensor, h: Tensor, c: Tensor, n: Tensor, m: Tensor, blocks: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One step of the paper's equations. `blocks` is `(4, heads, D, D)`."""
    gates, heads, size, _ = blocks.shape
    product = torch.einsum("bkd,gkud->bgku", h.view(-1, heads, size), blocks)
    sums = from_input + product.reshape(-1, gates * heads * size)
    i, f, z, o = sums.chunk(4, dim=-1)
    kept = F.logsigmoid(f) + m
    new = torch.maximum(kept, i)
    i, f = torch.exp(i - new), torch.exp(kept - new)
    c = f * c + i * torch.tanh(z)
    n = f * n + i
    return torch.sigmoid(o) * c / n, c, n, new


def loop(run_step: Step, cell: seqcells.SLSTMCell, inputs: Tensor) -> Tensor:
    """Return the outputs of all steps."""
    size = SIZE // cell.heads
    blocks = cell.weight_hh.view(4, cell.heads, size, size)
    from_inputs = F.linear(inputs, cell.weight_ih, cell.bias_ih + cell.bias_hh)
    state: Any = cell.initial_state(inputs.shape[1])
    outputs = []
    for from_input in from_inputs:
        state = run_step(from_input, *state, blocks)
        outputs.append(state[0])
    return torch.stack(outputs)


def relative(found: list[Tensor], exact: list[Tensor]) -> float:
    return max(float((a - b).norm() / b.norm()) for a, b in zip(found, exact))


def measure(heads: int, train: bool, compiled: Step, rounds: int) -> str:
    """Return one row of the table."""
    torch.manual_seed(0)
    cell = seqcells.SLSTMCell(SIZE, SIZE, heads=heads)
    recurrent, inputs = Recurrent(cell), torch.randn(STEPS, ROWS, SIZE)
    runs: list[Callable[[], Tensor]] = [
        lambda: recurrent(inputs)[0],
        lambda: loop(step, cell, inputs),
        lambda: loop(compiled, cell, inputs),
    ]

    def once(run: Callable[[], Tensor]) -> list[Tensor]:
        if not train:
            with torch.no_grad():
                return [run()]
        outputs = run()
        return [outputs, *torch.autograd.grad(outputs.sum(), list(cell.parameters()))]

    found, exact, other = (once(run) for run in runs)
    error = max(relative(found, exact), relative(other, exact))
    if error > TOLERANCE:
        raise RuntimeError(f"expected equal results, got a relative difference of {error:.1e}")
    title = f"{heads} heads, {'training' if train else 'inference'}"
    with tqdm(total=rounds, desc=title, leave=False) as bar:
        ours, plain, fused = in_turn(
            [lambda run=run: once(run) for run in runs], rounds, bar.update
        )
    mode = "forward and backward" if train else "forward"
    return (
        f"| {heads} | {mode} | {1e3 * ours:.1f} | {1e3 * plain:.1f} | {1e3 * fused:.1f} "
        f"| {plain / ours:.1f} | {fused / ours:.1f} |"
    )


def main(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    compiled: Any = torch.compile(step)
    print(f"T={STEPS}, B={ROWS}, {SIZE} inputs and units, {options.threads} threads, float32, ms\n")
    print("| heads | | seqcells | loop | compiled step | loop / ours | compiled / ours |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for heads in options.heads:
        for train in (False, True):
            print(measure(heads, train, compiled, options.rounds), flush=True)
    print("\nAll results agree.")


if __name__ == "__main__":
    parser = parser_of(__doc__)
    parser.add_argument("--heads", type=at_least_one, nargs="+", default=[4, 1])
    parser.add_argument("--rounds", type=at_least_one, default=7)
    parser.add_argument("--threads", type=at_least_one, default=torch.get_num_threads())
    main(parser.parse_args())
