"""Random cells, shapes and settings against the readable loop.

python -m tests.fuzz [SECONDS] [SEED]

Each case is drawn from a seed of its own, computed by the default backend and by the readable loop
in float64, and compared: outputs, final states and all gradients, at first, after a constant of the
cell has changed, and again. A case that differs is printed with its seed and what it is made of;
`python -m tests.fuzz 0 SEED` runs it alone. The exit status is 1 if there was one.
"""

import random
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

import seqcells
from seqcells.state import flat_state, form_state, map_state

SECONDS, TOLERANCE, LARGE = 60.0, 1e-7, 1e8

UNARY = ("tanh", "sigmoid", "relu", "abs", "neg", "softplus", "silu", "logsigmoid", "elu")
UNARY += ("leaky_relu", "hardtanh", "clamp", "clamp_min", "square", "exp", "sqrt", "rsqrt")
UNARY += ("reciprocal", "layer_norm", "mean", "sum", "scale", "listed", "gain")
BINARY = ("add", "sub", "mul", "div", "maximum", "minimum")
BUILT_IN = {
    "RNNCell": {},
    "GRUCell": {},
    "GRUCell, reset before": {"reset_after": False},
    "LSTMCell": {},
    "PeepholeLSTMCell": {},
    "CoupledLSTMCell": {},
    "LightLSTMCell": {},
    "MGUCell": {},
    "IndRNNCell": {},
    "MinGRUCell": {},
    "MinLSTMCell": {},
    "LayerNormLSTMCell": {},
    "LayerNormGRUCell": {},
}


class Random(seqcells.GatedCell):
    """A cell whose `activate` computes a `recipe`: operations, with their operands by number."""

    def __init__(self, *sizes, gates, parts, recipe, results, **options):
        self.gates = tuple(f"gate{n}" for n in range(gates))
        super().__init__(*sizes, **options)
        self.parts, self.recipe, self.results = parts, recipe, results
        self.scale, self.listed = 0.7, [0.6, {"inner": 1.3}]
        self.gain = nn.Parameter(torch.rand(self.hidden_size, dtype=self.weight_ih.dtype))

    def initial_state(self, batch_size, **options):
        zero = super().initial_state(batch_size, **options)
        return zero if self.parts == 1 else (zero,) * self.parts

    def activate(self, from_input, from_hidden, state):
        parts = (state,) if self.parts == 1 else state
        count = len(self.gates)
        values = [*from_input.chunk(count, dim=-1), *from_hidden.chunk(count, dim=-1), *parts]
        for name, first, second in self.recipe:
            values = [*values, self.apply(name, values[first], values[second])]
        new = tuple(values[result] for result in self.results)
        return (new[0] if self.parts == 1 else new), tuple(values[:count])

    def apply(self, name, a, b):
        # One by one: a table of functions cannot be followed, and the cell would not be recorded.
        width = a.shape[-1:]
        if name == "add":
            return a + b
        if name == "sub":
            return a - b
        if name == "mul":
            return a * b
        if name == "div":
            return a / (b * b + 1.5)
        if name == "maximum":
            return torch.maximum(a, b)
        if name == "minimum":
            return torch.minimum(a, b)
        if name == "tanh":
            return torch.tanh(a)
        if name == "sigmoid":
            return torch.sigmoid(a)
        if name == "relu":
            return torch.relu(a)
        if name == "abs":
            return a.abs()
        if name == "neg":
            return -a
        if name == "softplus":
            return F.softplus(a)
        if name == "silu":
            return F.silu(a)
        if name == "logsigmoid":
            return F.logsigmoid(a)
        if name == "elu":
            return F.elu(a, self.scale)
        if name == "leaky_relu":
            return F.leaky_relu(a, 0.2)
        if name == "hardtanh":
            return F.hardtanh(a)
        if name == "clamp":
            return a.clamp(-self.scale, 2 * self.scale)
        if name == "clamp_min":
            return a.clamp(min=self.listed[0])
        if name == "square":
            return a * a
        if name == "exp":
            return torch.exp(a.clamp(max=4.0))
        if name == "sqrt":
            return torch.sqrt(a * a + 1e-3)
        if name == "rsqrt":
            return torch.rsqrt(a * a + 0.1)
        if name == "reciprocal":
            return 1 / (a.abs() + 0.5)
        if name == "layer_norm":
            return F.layer_norm(a, width, self.gain, None, 1e-2)
        if name == "mean":
            return a - a.mean(-1, keepdim=True)
        if name == "sum":
            return a + 0.1 * a.sum(-1, keepdim=True)
        if name == "scale":
            return a * self.scale
        if name == "listed":
            return a * self.listed[1]["inner"]
        return a * self.gain

    def change(self, draw):
        self.scale = draw.uniform(0.1, 1.0)
        self.listed[0] = draw.uniform(-0.5, 0.5)
        self.listed[1]["inner"] = draw.uniform(-1.5, 1.5)


def random_cell(draw, features, units):
    if draw.random() < 0.3:
        name = draw.choice(list(BUILT_IN))
        kind = getattr(seqcells, name.partition(",")[0])
        return kind(features, units, dtype=torch.float64, **BUILT_IN[name]), name
    gates, parts = draw.randint(1, 4), draw.randint(1, 2)
    known = 2 * gates + parts
    recipe = []
    for _ in range(draw.randint(1, 14)):
        name = draw.choice(UNARY if draw.random() < 0.5 else BINARY)
        recipe.append((name, draw.randrange(known), draw.randrange(known)))
        known += 1
    recipe.append(("tanh", known - 1, known - 1))  # so that states stay within bounds
    results = (known, *(draw.randrange(known + 1) for _ in range(parts - 1)))
    made = {"gates": gates, "parts": parts, "recipe": tuple(recipe), "results": results}
    return Random(features, units, dtype=torch.float64, **made), f"Random {made}"


def modified(draw, cell):
    """The cell, in some cases with a modifier around it, and its name."""
    kinds = [
        "Zoneout",
        "LearnedState",
        *["VariationalDropout"] * (cell.weights().weight_hh is not None),
    ]
    kind = draw.choice([None] * 6 + kinds)
    if kind is None:
        return cell, ""
    share = () if kind == "LearnedState" else (0.3,)
    return getattr(seqcells, kind)(cell, *share), f"{kind} "


class Case:
    """All that a seed decides."""

    def __init__(self, seed):
        draw = self.draw = random.Random(seed)
        torch.manual_seed(seed)
        T, B = draw.choice([0, 1, 2, 5, 9]), draw.choice([0, 1, 2, 3, 7, 17])
        features, units = draw.choice([1, 3, 8]), draw.choice([1, 2, 5, 16, 17])
        self.own, name = random_cell(draw, features, units)
        cell, around = modified(draw, self.own)
        self.recurrent = seqcells.Recurrent(cell, reverse=draw.random() < 0.3)
        self.recurrent.train(draw.random() < 0.7)
        self.inputs = draw.choice([0.5, 2.0, 20.0]) * torch.randn(T, B, features).double()
        if draw.random() < 0.2:  # another layout
            self.inputs = self.inputs.transpose(0, 1).contiguous().transpose(0, 1)
        self.options = {}
        if draw.random() < 0.4:
            lengths = [draw.randint(0, T) for _ in range(B)]
            self.options["lengths"] = torch.tensor(lengths, dtype=torch.int64)
        if draw.random() < 0.3:
            self.options["resets"] = torch.rand(T, B) < 0.3
        if draw.random() < 0.2:
            self.options["all_states"] = True
        self.state = None
        if draw.random() < 0.5:
            self.state = map_state(torch.randn_like, cell.initial_state(B))
        self.needs_inputs = draw.random() < 0.8
        self.words = f"{around}{name}, T={T} B={B} I={features} H={units}, {self.options}"

    def compute(self, backend: str, seed: int) -> list[Tensor | None]:
        """Outputs, final states and gradients."""
        torch.manual_seed(seed)  # of the masks
        self.recurrent.zero_grad()
        inputs = self.inputs.clone().requires_grad_(self.needs_inputs)
        start, parts = None, []
        if self.state is not None:
            parts = [part.clone().requires_grad_() for part in flat_state(self.state)]
            start = form_state(self.state, parts)
        with seqcells.backend(backend):
            outputs, final = self.recurrent(inputs, start, **self.options)
            results = [*flat_state(outputs), *flat_state(final)]
            weights = torch.Generator().manual_seed(seed)
            total = sum(
                (part * torch.rand(part.shape, generator=weights).double()).sum()
                for part in results
            )
            if total.requires_grad:
                total.backward()
        grads = [source.grad for source in (inputs, *parts, *self.recurrent.parameters())]
        return [part.detach() for part in results] + grads

    def differences(self) -> str:
        """What differs, or nothing."""
        for turn in range(3):
            if turn and isinstance(self.own, Random):
                self.own.change(self.draw)
            ours, loop = (self.compute(name, turn) for name in ("auto", "reference"))
            for number, (found, expected) in enumerate(zip(ours, loop)):
                if differ(found, expected):
                    where = f"turn {turn}, result {number} of {len(ours)}"
                    if found is None or expected is None or found.shape != expected.shape:
                        return f"{where}: {found} instead of {expected}"
                    worst = (found - expected).abs().max().item()
                    return f"{where}: off by {worst:.1e} of {expected.abs().max().item():.1e}"
        return ""


def differ(found: Tensor | None, expected: Tensor | None) -> bool:
    if found is None or expected is None:
        one = expected if found is None else found
        return one is not None and bool(one.any())
    if found.shape != expected.shape:
        return True
    if not expected.numel():
        return False
    largest = expected.abs().max()
    if not largest <= LARGE:
        return False  # where rounding decides, nothing is to be compared
    return not bool(((found - expected).abs() <= TOLERANCE * (1 + largest)).all())


def fuzz(seconds: float, seed: int, progress: bool = True) -> tuple[int, list[str]]:
    """How many cases were run, and what was found; with 0 seconds the one case of the seed."""
    started, count, findings = time.monotonic(), 0, []
    with tqdm(unit=" cases", disable=not progress or None) as bar:
        while count == 0 or time.monotonic() - started < seconds:
            case = Case(seed + count)
            try:
                found = case.differences()
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
            if found:
                findings.append(f"seed {seed + count}: {case.words}\n  {found[:600]}")
                tqdm.write(findings[-1])
            count += 1
            bar.update()
    return count, findings


def main(argv: list[str]) -> int:
    seconds = float(argv[0]) if argv else SECONDS
    seed = int(argv[1]) if len(argv) > 1 else random.SystemRandom().randrange(1 << 40)
    count, findings = fuzz(seconds, seed)
    print(f"{count} cases from seed {seed}: {len(findings)} differ from the readable loop.")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
