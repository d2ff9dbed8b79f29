"""Random cells: built-in ones, and user cells of random operations."""

import torch
import torch.nn.functional as F
from torch import nn

import seqcells

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
    """A cell whose `activate` computes a `recipe`: operations and the numbers of operands."""

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
        # No table of functions: recording cannot follow it.
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


def random_cell(draw, features, units, dtype):
    """A cell, and how to write it down."""
    if draw.random() < 0.3:
        name = draw.choice(list(BUILT_IN))
        kind = getattr(seqcells, name.partition(",")[0])
        return kind(features, units, dtype=dtype, **BUILT_IN[name]), name
    gates, parts = draw.randint(1, 6), draw.randint(1, 2)
    known = 2 * gates + parts
    recipe = []
    for _ in range(draw.randint(1, 14)):
        name = draw.choice(UNARY if draw.random() < 0.5 else BINARY)
        recipe.append((name, draw.randrange(known), draw.randrange(known)))
        known += 1
    recipe.append(("tanh", known - 1, known - 1))  # so that states stay within bounds
    results = (known, *(draw.randrange(known + 1) for _ in range(parts - 1)))
    made = {"gates": gates, "parts": parts, "recipe": tuple(recipe), "results": results}
    return Random(features, units, dtype=dtype, **made), f"Random {made}"


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
