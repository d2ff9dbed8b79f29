"""The C source of a model: `NAME.c`."""

from __future__ import annotations

import torch

from seqcells.lab.export.c.elementwise import blend, elementwise, operations_of
from seqcells.lab.export.c.functions import functions
from seqcells.lab.export.c.layers import STATES, Layer
from seqcells.lab.export.c.model import Model, function
from seqcells.lab.export.c.products import block_widths, multiply_add
from seqcells.lab.export.c.readout import CALLED, readout_function, readout_reset
from seqcells.lab.export.c.softmax import log_probabilities
from seqcells.lab.export.c.weights import (
    ALIGNMENT,
    FORMAT,
    HEADER,
    initialiser,
    layout,
    members,
)
from seqcells.lab.export.c.words import read_word, word_reset, word_vectors


def source(model: Model, title: str) -> str:
    """Return the text of `NAME.c`."""
    kinds = model.readout.kinds if model.readout else ()
    names = {name for layer in model.layers for name in operations_of(layer)}
    names = names.union(*(CALLED[kind] for kind in kinds))
    names |= {"log_softmax"} if model.clusters else set()
    math = names & {"sqrt", "rsqrt", "abs", "log_softmax"} or {"max", "attention"} & {*kinds}
    includes = [*(["math.h"] if math else []), "stdint.h", "string.h"]
    parts = [
        f"// {title}",
        f'#include "{model.name}.h"\n\n' + "\n".join(f"#include <{name}>" for name in includes),
        _weights(model),
        functions(names, _widths(model)).rstrip(),
        *([word_vectors(model, model.words)] if model.words else []),
        *(_layer(model, layer) for layer in model.layers),
        *([readout_function(model, model.pooling)] if model.pooling else []),
        _reset(model),
        *([] if model.embedded else [_open(model)]),
        _step(model),
        _run(model),
    ]
    return model.prefixed("\n\n".join(parts)) + "\n"


def _widths(model: Model) -> list[tuple[torch.dtype, int]]:
    """Return the types and rows per block of all products."""
    products = [product for layer in model.layers for product in layer.products.values()]
    products += [product for product in (model.score, model.head) if product]
    products += [product for cluster in model.clusters for product in cluster[1:]]
    return [(product.dtype, width) for product in products for width in block_widths(product)]


def _weights(model: Model) -> str:
    text = (
        f"// The sizes are multiples of {ALIGNMENT} bytes, so that all arrays have the same "
        f"alignment.\ntypedef struct {{\n{members(model.arrays)}\n}} @_weights;"
    )
    if not model.embedded:
        return text
    return (
        f"{text}\n\n#if defined(__GNUC__)\n__attribute__((aligned({ALIGNMENT})))\n#endif\n"
        f"static const @_weights @_constants = {initialiser(model.arrays)};"
    )


def _layer(model: Model, layer: Layer) -> str:
    name, products, total = layer.name, layer.products, layer.slots.total * layer.units
    pointers = [f"*const {part} = state->{name}_{part}" for part in STATES[: layer.program.states]]
    body = [
        f"enum {{ units = {layer.units} }};",
        model.weights_pointer,
        f"float {', '.join(pointers)};",
        f"float sums[{total}];",
    ]
    if layer.program.parameters:
        body.insert(2, f"const float *const parameters = weights->{name}_parameters;")
    if "projection" in products:
        body.append("float unprojected[units];")
    body += ["", f"memcpy(sums, weights->{name}_bias, sizeof sums);"]
    body += multiply_add(products["input"], "sums", "x")
    if "recurrent" in products:
        body += multiply_add(products["recurrent"], "sums", "hidden")
    body += ["", *elementwise(layer)]
    if "projection" in products:
        body += ["", *_project(layer)]
    gates = f"gates {', '.join(layer.gates)}"
    comment = f"// {layer.title}({layer.inputs}, {layer.units}): {gates}.\n"
    return comment + function(f"static void @_{name}(@_state *state, const float *x)", body)


def _project(layer: Layer) -> list[str]:
    product, share = layer.products["projection"], f"{layer.name}_hidden_share"
    lines = [f"float projected[{product.rows}] = {{0.0f}};"]
    lines += multiply_add(product, "projected", "unprojected")
    zoned = share in layer.arrays
    stores = blend("hidden", "n", "projected[n]", 9, share if zoned else "")
    if zoned:
        stores.insert(0, "const float old_hidden = hidden[n];")
    lines.append(f"for (int n = 0; n < {product.rows}; ++n) {{")
    return [*lines, *(f"  {line}" for line in stores), "}"]


def _reset(model: Model) -> str:
    learned = any(layer.starts is not None for layer in model.layers)
    body = [model.weights_pointer] if learned else []
    for layer in model.layers:
        for part in STATES[: layer.program.states]:
            target = f"state->{layer.name}_{part}"
            if layer.starts is None:
                length = layer.widths[STATES.index(part)]
                body.append(f"for (int u = 0; u < {length}; ++u) {target}[u] = 0.0f;")
            else:
                start = f"weights->{layer.name}_{part}_start"
                body.append(f"memcpy({target}, {start}, sizeof {target});")
    if model.words:
        body += word_reset(model.words)
    if model.readout:
        body += readout_reset(model.readout, model.layers[-1].width)
    return function("void @_reset(@_state *state)", body)


def _step(model: Model) -> str:
    declare = [model.weights_pointer] if model.head else []
    body, signal = (read_word(model, model.words), "vector") if model.words else ([], "input")
    # The readout `last` is the last layer's state, without a residual connection.
    plain = model.layers[-1] if model.readout and not model.pooling else None
    for layer in model.layers:
        body.append(f"@_{layer.name}(state, {signal});")
        after = f"state->{layer.name}_hidden"
        if layer.residual and layer is not plain:
            total = f"{layer.name}_output"
            declare.append(f"float {total}[{layer.width}];")
            body.append(
                f"for (int u = 0; u < {layer.width}; ++u) {total}[u] = {after}[u] + {signal}[u];"
            )
            after = total
        signal = after
    if model.pooling:
        declare.append(f"float features[{model.layers[-1].width * len(model.readout.kinds)}];")
        body.append(f"@_readout(state, {signal}, features);")
        signal = "features"
    if model.head and model.clusters:
        body += log_probabilities(model.head, model.clusters, signal)
    elif model.head:
        body.append(f"memcpy(output, weights->head_bias, {model.outputs} * sizeof *output);")
        body += multiply_add(model.head, "output", signal)
    else:
        body.append(f"memcpy(output, {signal}, {model.outputs} * sizeof *output);")
    head = f"void @_step(@_state *state, {model.step_input}, float *output)"
    return function(head, [*declare, *body])


def _run(model: Model) -> str:
    inputs = "words[n]" if model.words else "inputs + n * @_input_size"
    body = [
        "for (long n = 0; n < steps; ++n)",
        f"  @_step(state, {inputs}, outputs + n * @_output_size);",
    ]
    head = f"void @_run(@_state *state, {model.run_inputs}, long steps, float *outputs)"
    return function(head, body)


def _open(model: Model) -> str:
    return (
        _OPEN.replace("FORMAT", str(FORMAT))
        .replace("LAYOUT", f"{layout(model.arrays)}u")
        .replace("HEADER", str(HEADER))
    )


_OPEN = """\
static uint32_t @_read(const unsigned char *bytes) {
  return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

// CRC-32, as in zlib and PNG.
static uint32_t @_crc(const unsigned char *bytes, size_t size) {
  uint32_t table[256], crc = 0xffffffffu;
  for (uint32_t n = 0; n < 256; ++n) {
    uint32_t value = n;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (0xedb88320u & (0u - (value & 1u)));
    table[n] = value;
  }
  for (size_t n = 0; n < size; ++n) crc = (crc >> 8) ^ table[(crc ^ bytes[n]) & 0xffu];
  return ~crc;
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
  if (@_crc(bytes + HEADER, size - HEADER) != @_read(bytes + 16)) return @_bad_check;
  state->weights = bytes + HEADER;
  @_reset(state);
  return 0;
}"""
