"""A model to write as C, and the pieces of text that its functions share."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from seqcells.lab.export.c.layers import Layer, Product, block_of, layers_of, pack
from seqcells.lab.export.parts import Parts
from seqcells.lab.models.inputs import WordInputs
from seqcells.lab.models.readout import Readout
from seqcells.streams.single_steps import single_steps

Arrays = dict[str, Tensor]


@dataclass
class Model:
    """A model to write.

    Attributes:
        name: the prefix of all names in C.
        layers: the recurrent layers.
        results: the meaning of the outputs of a step, or an empty string.
        words: the inputs of a model that reads words, or None.
        readout: the readout of a model that pools the steps so far, or None.
        score: the product of the readout's attention that gives the hidden layer, or None.
        head: the product of a linear layer after the recurrence or the readout, or None.
        arrays: the weights by their names in C, flat, in float32.
        embedded: whether the weights are part of the source.
    """

    name: str
    layers: list[Layer]
    results: str = ""
    words: WordInputs | None = None
    readout: Readout | None = None
    score: Product | None = None
    head: Product | None = None
    arrays: Arrays = field(default_factory=dict)
    embedded: bool = True

    @property
    def outputs(self) -> int:
        """The number of outputs per step."""
        return self.head.rows if self.head else self.layers[-1].width

    @property
    def parameters(self) -> int:
        """The number of weights in the arrays."""
        return sum(array.numel() for array in self.arrays.values())

    @property
    def pooling(self) -> Readout | None:
        """The readout, if it reads more than the last step."""
        return self.readout if self.readout and self.readout.kinds != ("last",) else None

    @property
    def step_input(self) -> str:
        """The argument of a step for its input."""
        return "const float *input" if self.words is None else "int32_t word"

    @property
    def run_inputs(self) -> str:
        """The argument of consecutive steps for their inputs."""
        return "const float *inputs" if self.words is None else "const int32_t *words"

    @property
    def weights_pointer(self) -> str:
        """The statement that declares `weights` in a function with an argument `state`."""
        source = "&@_constants" if self.embedded else "(const @_weights *)state->weights"
        return f"const @_weights *const weights = {source};"

    def prefixed(self, text: str) -> str:
        """Replace `@` by the prefix."""
        return text.replace("@", self.name)


@torch.no_grad()
def model_of(parts: Parts, name: str, block: int) -> Model:
    """Return a model with the weights of `parts`, in blocks of `block` rows."""
    steps = single_steps(parts.recurrent, 1)
    layers = layers_of(parts.recurrent, steps.calls, steps.residual, block)
    model = Model(name, layers, parts.results)
    arrays, model.words, model.readout = model.arrays, parts.inputs, parts.readout
    if parts.inputs is not None:
        arrays["words"] = parts.inputs.words.weight.flatten()
        if parts.inputs.ngrams is not None:
            arrays["ngrams"] = parts.inputs.ngrams.vectors.weight.flatten()
    for layer in model.layers:
        arrays |= layer.arrays
    features = model.layers[-1].width
    if parts.readout is not None:
        features *= len(parts.readout.kinds)
        if (attention := parts.readout.attention) is not None:
            model.score = _linear(attention.hidden, "attention_hidden", arrays, block)
            arrays["attention_weight"] = attention.weight.weight.flatten()
    if parts.head is not None:
        if parts.head.in_features != features:
            raise ValueError(
                f"head: expected {features} input features, the module's outputs, "
                f"got {parts.head.in_features}"
            )
        model.head = _linear(parts.head, "head", arrays, block)
    return model


def _linear(linear: nn.Linear, name: str, arrays: Arrays, block: int) -> Product:
    """Add the weights of a linear layer, and return its product."""
    weight = linear.weight
    product = Product(f"{name}_weight", 0, *weight.shape, block_of(len(weight), block))
    bias = weight.new_zeros(len(weight)) if linear.bias is None else linear.bias
    arrays[f"{name}_bias"] = bias.float()
    arrays[product.array] = pack(weight.float(), product.block)
    return product


def function(head: str, body: list[str]) -> str:
    """Return the text of a function."""
    return "\n".join([f"{head} {{", textwrap.indent("\n".join(body), "  "), "}"])


def block_widths(product: Product) -> list[int]:
    """Return the distinct numbers of rows in the blocks of a product."""
    full, rest = divmod(product.rows, product.block)
    return [product.block] * (full > 0) + [rest] * (rest > 0)


def multiply_add(product: Product, target: str, vector: str) -> list[str]:
    """Return the statements that add a product to a vector."""
    full, rest = divmod(product.rows, product.block)
    block, columns = product.block, product.columns
    at = f"{target} + {product.start}" if product.start else target
    lines = []
    if full == 1:
        lines.append(f"@_add_{block}({at}, weights->{product.array}, {vector}, {columns});")
    elif full:
        call = f"weights->{product.array} + n * {block * columns}"
        lines += [
            f"for (int n = 0; n < {full}; ++n)",
            f"  @_add_{block}({at} + n * {block}, {call}, {vector}, {columns});",
        ]
    if rest:
        at, skipped = f"{target} + {product.start + full * block}", full * block * columns
        call = f"weights->{product.array} + {skipped}"
        lines.append(f"@_add_{rest}({at}, {call}, {vector}, {columns});")
    return lines
