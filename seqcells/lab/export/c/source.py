"""The C source of a model: `NAME.c`."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from torch import Tensor

from seqcells.lab.export.c.elementwise import blend, elementwise, operations_of
from seqcells.lab.export.c.functions import functions
from seqcells.lab.export.c.layers import STATES, Layer, Product
from seqcells.lab.export.c.weights import (
    ALIGNMENT,
    FORMAT,
    HEADER,
    initialiser,
    layout,
    members,
)


@dataclass
class Model:
    """A model to write.

    Attributes:
        name: the prefix of all names in C.
        head: the product of a linear layer after the recurrence, and its bias, or None.
        embedded: whether the weights are part of the source.
    """

    name: str
    layers: list[Layer]
    head: Product | None
    arrays: dict[str, Tensor]
    embedded: bool

    @property
    def outputs(self) -> int:
        """The number of outputs per step."""
        return self.head.rows if self.head else self.layers[-1].width

    @property
    def parameters(self) -> int:
        """The number of weights in the arrays."""
        return sum(array.numel() for array in self.arrays.values())

    def prefixed(self, text: str) -> str:
        """Replace `@` by the prefix."""
        return text.replace("@", self.name)


def source(model: Model, title: str) -> str:
    """Return the text of `NAME.c`."""
    products = [product for layer in model.layers for product in layer.products.values()]
    products += [model.head] if model.head else []
    widths = [width for product in products for width in _widths(product)]
    names = {name for layer in model.layers for name in operations_of(layer)}
    includes = ["math.h"] if names & {"sqrt", "rsqrt", "abs"} else []
    includes += ["stdint.h", "string.h"]
    parts = [
        f"// {title}",
        f'#include "{model.name}.h"\n\n' + "\n".join(f"#include <{name}>" for name in includes),
        _weights(model),
        functions(names, widths).rstrip(),
        *(_layer(model, layer) for layer in model.layers),
        _reset(model),
        *([] if model.embedded else [_open(model)]),
        _step(model),
        _RUN,
    ]
    return model.prefixed("\n\n".join(parts)) + "\n"


def _weights(model: Model) -> str:
    text = (
        f"// The sizes are multiples of {4 * ALIGNMENT} bytes, so that all arrays have the same "
        f"alignment.\ntypedef struct {{\n{members(model.arrays)}\n}} @_weights;"
    )
    if not model.embedded:
        return text
    return (
        f"{text}\n\n#if defined(__GNUC__)\n__attribute__((aligned({4 * ALIGNMENT})))\n#endif\n"
        f"static const @_weights @_constants = {initialiser(model.arrays)};"
    )


def _function(head: str, body: list[str]) -> str:
    return "\n".join([f"{head} {{", textwrap.indent("\n".join(body), "  "), "}"])


def _weights_pointer(model: Model) -> str:
    source = "&@_constants" if model.embedded else "(const @_weights *)state->weights"
    return f"const @_weights *const weights = {source};"


def _widths(product: Product) -> list[int]:
    full, rest = divmod(product.rows, product.block)
    return [product.block] * (full > 0) + [rest] * (rest > 0)


def _add(product: Product, target: str, vector: str) -> list[str]:
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


def _layer(model: Model, layer: Layer) -> str:
    name, products, total = layer.name, layer.products, layer.slots.total * layer.units
    pointers = [f"*const {part} = state->{name}_{part}" for part in STATES[: layer.program.states]]
    body = [
        f"enum {{ units = {layer.units} }};",
        _weights_pointer(model),
        f"float {', '.join(pointers)};",
        f"float sums[{total}];",
    ]
    if layer.program.parameters:
        body.insert(2, f"const float *const parameters = weights->{name}_parameters;")
    if "projection" in products:
        body.append("float unprojected[units];")
    body += ["", f"memcpy(sums, weights->{name}_bias, sizeof sums);"]
    body += _add(products["input"], "sums", "x")
    if "recurrent" in products:
        body += _add(products["recurrent"], "sums", "hidden")
    if layer.late:
        body += ["", "// The candidate reads the state after the reset.", "float kept[units];"]
        body += ["for (int u = 0; u < units; ++u) kept[u] = @_sigmoid(sums[u]) * hidden[u];"]
        body += _add(products["late"], "sums", "kept")
    body += ["", *elementwise(layer)]
    if "projection" in products:
        body += ["", *_project(layer)]
    gates = f"gates {', '.join(layer.gates)}"
    comment = f"// {layer.title}({layer.inputs}, {layer.units}): {gates}.\n"
    return comment + _function(f"static void @_{name}(@_state *state, const float *x)", body)


def _project(layer: Layer) -> list[str]:
    product, share = layer.products["projection"], f"{layer.name}_hidden_share"
    add = _add(product, "projected", "unprojected")
    lines = [f"float projected[{product.rows}] = {{0.0f}};", *add]
    zoned = share in layer.arrays
    stores = blend("hidden", "n", "projected[n]", 9, share if zoned else "")
    if zoned:
        stores.insert(0, "const float old_hidden = hidden[n];")
    lines.append(f"for (int n = 0; n < {product.rows}; ++n) {{")
    return [*lines, *(f"  {line}" for line in stores), "}"]


def _reset(model: Model) -> str:
    learned = any(layer.starts is not None for layer in model.layers)
    body = [_weights_pointer(model)] if learned else []
    for layer in model.layers:
        for part in STATES[: layer.program.states]:
            target = f"state->{layer.name}_{part}"
            if layer.starts is None:
                length = layer.widths[STATES.index(part)]
                body.append(f"for (int u = 0; u < {length}; ++u) {target}[u] = 0.0f;")
            else:
                start = f"weights->{layer.name}_{part}_start"
                body.append(f"memcpy({target}, {start}, sizeof {target});")
    return _function("void @_reset(@_state *state)", body)


def _step(model: Model) -> str:
    body, signal = [], "input"
    declare = [_weights_pointer(model)] if model.head else []
    for layer in model.layers:
        body.append(f"@_{layer.name}(state, {signal});")
        after = f"state->{layer.name}_hidden"
        if layer.residual:
            total = f"{layer.name}_output"
            declare.append(f"float {total}[{layer.width}];")
            body.append(
                f"for (int u = 0; u < {layer.width}; ++u) {total}[u] = {after}[u] + {signal}[u];"
            )
            after = total
        signal = after
    if model.head:
        body.append(f"memcpy(output, weights->head_bias, {model.outputs} * sizeof *output);")
        body += _add(model.head, "output", signal)
    else:
        body.append(f"memcpy(output, {signal}, {model.outputs} * sizeof *output);")
    head = "void @_step(@_state *state, const float *input, float *output)"
    return _function(head, [*declare, *body])


def _open(model: Model) -> str:
    return (
        _OPEN.replace("FORMAT", str(FORMAT))
        .replace("LAYOUT", f"{layout(model.arrays)}u")
        .replace("HEADER", str(HEADER))
    )


_RUN = """\
void @_run(@_state *state, const float *inputs, long steps, float *outputs) {
  for (long n = 0; n < steps; ++n)
    @_step(state, inputs + n * @_input_size, outputs + n * @_output_size);
}"""

_OPEN = """\
static uint32_t @_read(const unsigned char *bytes) {
  return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

int @_open(@_state *state, const void *file, size_t size) {
  const unsigned char *const bytes = (const unsigned char *)file;
  const uint16_t probe = 1;
  unsigned char first;
  memcpy(&first, &probe, 1);
  state->weights = NULL;
  if (first != 1) return @_bad_machine;
  if (file == NULL || (uintptr_t)file % sizeof(float) != 0) return @_bad_address;
  if (size != @_file_size || size != HEADER + sizeof(@_weights)) return @_bad_size;
  if (memcmp(bytes, "seqcells", 8) != 0) return @_bad_format;
  if (@_read(bytes + 8) != FORMAT) return @_bad_format;
  if (@_read(bytes + 12) != LAYOUT) return @_bad_layout;
  uint32_t check = 2166136261u;
  for (size_t n = HEADER; n < size; ++n) check = (check ^ bytes[n]) * 16777619u;
  if (check != @_read(bytes + 16)) return @_bad_check;
  state->weights = bytes + HEADER;
  @_reset(state);
  return 0;
}"""
