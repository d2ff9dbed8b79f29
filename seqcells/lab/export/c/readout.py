"""The readout of the steps so far in C (`models.readout.RunningReadout`)."""

from __future__ import annotations

from seqcells.lab.export.c.model import Model, function
from seqcells.lab.export.c.products import multiply_add
from seqcells.lab.models.readout import Readout

# C functions that a kind of readout calls.
CALLED = {"last": set(), "max": {"select"}, "mean": set(), "attention": {"exp", "select", "tanh"}}

_LAST = "for (int u = 0; u < units; ++u) features[START + u] = state->HIDDEN[u];"

# A NaN replaces any number, as in PyTorch.
_MAX = """\
for (int u = 0; u < units; ++u) {
  const float value = output[u], old = state->largest[u];
  state->largest[u] = @_select((value > old) | (value != value), value, old);
  features[START + u] = state->largest[u];
}"""

_MEAN = """\
++state->steps;
for (int u = 0; u < units; ++u) {
  state->total[u] += output[u];
  features[START + u] = state->total[u] / (float)state->steps;
}"""

# Weights are relative to the largest score so far, which avoids overflow.
_ATTENTION = """\
const float before = state->score;
state->score = @_select((score > before) | (score != score), score, before);
const float rescale = @_exp(before - state->score), weight = @_exp(score - state->score);
state->weight = state->weight * rescale + weight;
for (int u = 0; u < units; ++u) {
  state->weighted[u] = state->weighted[u] * rescale + weight * output[u];
  features[START + u] = state->weighted[u] / state->weight;
}"""


def readout_state(readout: Readout, width: int) -> list[str]:
    """Return the members of the state."""
    members = {
        "max": [f"float largest[{width}];"],
        "mean": [f"float total[{width}];", "uint64_t steps;"],
        "attention": [f"float weighted[{width}];", "float weight;", "float score;"],
    }
    return [member for kind in readout.kinds for member in members.get(kind, [])]


def readout_reset(readout: Readout, width: int) -> list[str]:
    """Return the statements that set the state before the first step."""
    statements = {
        "max": [_fill("largest", width, "-INFINITY")],
        "mean": [_fill("total", width, "0.0f"), "state->steps = 0;"],
        "attention": [
            _fill("weighted", width, "0.0f"),
            "state->weight = 0.0f;",
            "state->score = -INFINITY;",
        ],
    }
    return [statement for kind in readout.kinds for statement in statements.get(kind, [])]


def _fill(member: str, width: int, value: str) -> str:
    return f"for (int u = 0; u < {width}; ++u) state->{member}[u] = {value};"


def readout_function(model: Model, readout: Readout) -> str:
    """Return the function that adds an output and writes the features of the steps so far."""
    texts = {"last": _LAST, "max": _MAX, "mean": _MEAN, "attention": _ATTENTION}
    layer = model.layers[-1]
    body = [f"enum {{ units = {layer.width} }};"]
    for number, kind in enumerate(readout.kinds):
        start = ("", "units + ", f"{number} * units + ")[min(number, 2)]
        text = texts[kind].replace("START + ", start).replace("HIDDEN", f"{layer.name}_hidden")
        body += ["", f"// {kind}", *(_score(model) if kind == "attention" else [])]
        body += text.split("\n")
    comment = "// The readout of the steps so far: " + ", ".join(readout.kinds) + ".\n"
    head = "static void @_readout(@_state *state, const float *output, float *features)"
    return comment + function(head, body)


def _score(model: Model) -> list[str]:
    """Return the statements that compute the score of the output."""
    assert model.score is not None
    return [
        model.weights_pointer,
        "float keys[units], score = 0.0f;",
        "memcpy(keys, weights->attention_hidden_bias, sizeof keys);",
        *multiply_add(model.score, "keys", "output"),
        "for (int u = 0; u < units; ++u) score += weights->attention_weight[u] * @_tanh(keys[u]);",
    ]
