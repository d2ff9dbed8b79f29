"""The C header of a model: `NAME.h`."""

from __future__ import annotations

from seqcells.lab.export.c.layers import STATES
from seqcells.lab.export.c.source import Model
from seqcells.lab.export.c.weights import file_size

_HEADER = """\
// {title}
//
{description}
//
// C99 or C++, without allocation and global variables. Compile with -O3, so that the loops are
// vectorised, and with -ffp-contract=fast where the target has fused multiply-add. Do not use
// -ffast-math, which ignores NaN.
#ifndef {guard}
#define {guard}
{includes}
#ifdef __cplusplus
extern "C" {{
#endif

enum {{
  @_input_size = {inputs},  // numbers that a step reads
  @_output_size = {outputs}{comma}  // numbers that a step writes
{sizes}}};

// One stream. Streams that run in parallel need a state each.
typedef struct {{
{members}
}} @_state;
{open}
// Set the initial state. Call it before the first step of every sequence.
void @_reset(@_state *state);

// Run one step. `input` and `output` must not overlap.
void @_step(@_state *state, const float *input, float *output);

// Run consecutive steps: inputs [steps][{inputs}], outputs [steps][{outputs}].
void @_run(@_state *state, const float *inputs, long steps, float *outputs);

#ifdef __cplusplus
}}
#endif

#endif
"""

_OPEN = """
// Results of @_open.
enum {
  @_bad_machine = 1,  // the machine is big-endian
  @_bad_address = 2,  // `file` is NULL or is not aligned to 4 bytes
  @_bad_size = 3,     // `size` is not @_file_size
  @_bad_format = 4,   // not a file of weights, or of another version
  @_bad_layout = 5,   // the weights of a model with other layers or sizes
  @_bad_check = 6     // the file is damaged
};

// Use the weights in @.bin and set the initial state; the other functions need it. `file` has the
// contents of the file, is aligned to 4 bytes (64 are faster), and must stay in memory. Returns 0,
// or a code from above.
int @_open(@_state *state, const void *file, size_t size);
"""


def header(model: Model, title: str) -> str:
    """Return the text of `NAME.h`."""
    sizes, open_text, includes = "", "", ""
    if not model.embedded:
        sizes = f"  @_file_size = {file_size(model.arrays)}  // bytes of @.bin\n"
        open_text, includes = _OPEN, "\n#include <stddef.h>\n"
    members = [
        f"  float {layer.name}_{part}[{width}];"
        for layer in model.layers
        for part, width in zip(STATES, layer.widths)
    ]
    members += [] if model.embedded else ["  const void *weights;"]
    text = _HEADER.format(
        title=title,
        description="\n".join(f"// {line}" for line in description(model)),
        guard=f"{model.name.upper()}_H",
        includes=includes,
        inputs=model.layers[0].inputs,
        outputs=model.outputs,
        comma="" if model.embedded else ",",
        sizes=sizes,
        members="\n".join(members),
        open=open_text,
    )
    return model.prefixed(text)


def description(model: Model) -> list[str]:
    """Return a line per layer, and the number of weights."""
    lines = []
    for number, layer in enumerate(model.layers):
        notes = [f"{layer.inputs} inputs", f"{layer.units} units"]
        if "projection" in layer.products:
            notes.append(f"projected to {layer.width}")
        if any(name.endswith("_share") for name in layer.arrays):
            notes.append("zoneout")
        if layer.starts is not None:
            notes.append("an initial state")
        if layer.residual:
            notes.append("a residual connection")
        lines.append(f"Layer {number}: {layer.title}, {', '.join(notes)}.")
    if model.head:
        lines.append(f"Head: linear, {model.head.columns} inputs, {model.head.rows} outputs.")
    return [*lines, f"{model.parameters} weights in float32."]
