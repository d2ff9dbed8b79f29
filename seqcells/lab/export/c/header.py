"""The C header of a model: `NAME.h`."""

from __future__ import annotations

import torch

from seqcells.lab.export.c.layers import STATES
from seqcells.lab.export.c.model import Model
from seqcells.lab.export.c.readout import readout_state
from seqcells.lab.export.c.weights import file_size
from seqcells.lab.export.c.words import word_state
from seqcells.lab.models.inputs import UNKNOWN, WordInputs

_HEADER = """\
// {title}
//
{description}
//
// C99 or C++, without allocation and global variables. Compile with -O3, so that the loops are
// vectorised, and with -ffp-contract=fast where the target has fused multiply-add. Do not use
// -ffast-math, which ignores NaN.{intrinsics}
#ifndef {guard}
#define {guard}
{includes}
#ifdef __cplusplus
extern "C" {{
#endif

enum {{
{inputs}
  @_output_size = {outputs}{comma}  // numbers that a step writes
{sizes}}};

// One stream. Streams that run in parallel need a state each.
typedef struct {{
{members}
}} @_state;
{open}
// Set the initial state. Call it before the first step of every sequence.
void @_reset(@_state *state);

// {step}
void @_step(@_state *state, {step_input}, float *output);

// Run consecutive steps: {shape}, outputs [steps][{outputs}].
void @_run(@_state *state, {run_inputs}, long steps, float *outputs);

#ifdef __cplusplus
}}
#endif

#endif
"""

_INTRINSICS = """ -D@_INTRINSICS multiplies int8 numbers with instructions
// of SSE2, AVX2, AVX-512 or the dot products of Arm, as the compiler's target has them."""

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
    sizes, open_text, includes = "", "", []
    if not model.embedded:
        sizes = f"  @_file_size = {file_size(model.arrays)}  // bytes of @.bin\n"
        open_text, includes = _OPEN, ["stddef.h"]
    inputs, step, shape = _describe_inputs(model)
    if model.words or (model.readout and "mean" in model.readout.kinds):
        includes.append("stdint.h")
    text = _HEADER.format(
        title=title,
        description="\n".join(f"// {line}" for line in description(model)),
        intrinsics=_INTRINSICS if model.sizes[torch.int8] else "",
        guard=f"{model.name.upper()}_H",
        includes="".join(f"\n#include <{name}>" for name in includes) + "\n" * bool(includes),
        inputs=f"  {inputs}",
        outputs=model.outputs,
        comma="" if model.embedded else ",",
        sizes=sizes,
        members="\n".join(f"  {member}" for member in _members(model)),
        open=open_text,
        step=step,
        step_input=model.step_input,
        run_inputs=model.run_inputs,
        shape=shape,
    )
    return model.prefixed(text)


def _describe_inputs(model: Model) -> tuple[str, str, str]:
    """Return the constant of the inputs, the comment of a step, and the inputs of several steps."""
    if model.words is None:
        size = model.layers[0].inputs
        constant = f"@_input_size = {size},  // numbers that a step reads"
        return (
            constant,
            "Run one step. `input` and `output` must not overlap.",
            f"inputs [steps][{size}]",
        )
    count = model.words.words.num_embeddings
    unknown = f"A number out of range counts as {min(UNKNOWN, count - 1)}, the unknown word."
    constant = f"@_word_count = {count},  // words are numbers from 0 to {count - 1}"
    return constant, f"Run one step. {unknown}", "words [steps]"


def _members(model: Model) -> list[str]:
    """Return the members of the state."""
    members = [] if model.words is None else word_state(model.words)
    members += [
        f"float {layer.name}_{part}[{width}];"
        for layer in model.layers
        for part, width in zip(STATES, layer.widths)
    ]
    if model.readout is not None:
        members += readout_state(model.readout, model.layers[-1].width)
    return members + ([] if model.embedded else ["const void *weights;"])


def description(model: Model) -> list[str]:
    """Return a line per layer, and the number of weights."""
    lines = [] if model.words is None else _describe_words(model.words)
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
    if model.readout:
        lines.append(f"Readout of the steps so far: {', '.join(model.readout.kinds)}.")
    if model.head and model.clusters:
        lines.append(
            f"Head: adaptive softmax, {model.head.columns} inputs, {model.outputs} outputs, "
            f"{len(model.clusters)} clusters of rare words."
        )
    elif model.head:
        lines.append(f"Head: linear, {model.head.columns} inputs, {model.head.rows} outputs.")
    if model.results:
        lines.append(f"Outputs: {model.results}.")
    weights = [
        f"{count} weights in {str(dtype).removeprefix('torch.')}"
        for dtype, count in model.sizes.items()
        if count
    ]
    return [*lines, f"{', '.join(weights)}."]


def _describe_words(words: WordInputs) -> list[str]:
    count, size = words.words.weight.shape
    lines = [f"Words: {count} vectors of {size} numbers."]
    if words.ngrams is not None:
        buckets = words.ngrams.vectors.num_embeddings
        lines.append(
            f"N-grams of up to {words.longest} words: {buckets} vectors, chosen by a hash."
        )
    return lines
