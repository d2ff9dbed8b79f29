"""A C program that compares a model with recorded outputs: `NAME_test.c`."""

from __future__ import annotations

from torch import Tensor

from seqcells.lab.export.c.model import Model
from seqcells.lab.export.c.weights import integers, numbers

LIMIT = 1e-5

_PROGRAM = """\
// {title}
//
// Runs recorded inputs step by step and in one call, and prints the greatest difference from the
// outputs of the module in float64, relative to the greatest output. The exit status is 0 if the
// difference is at most {limit}, else 1.
#include "@.h"

#include <stdio.h>

enum {{ steps = {steps} }};

static const {declaration} = {{
{inputs}
}};

static const float expected[steps * @_output_size] = {{
{outputs}
}};

static double difference(const float *outputs) {{
  double greatest = 1e-30, worst = 0.0;
  for (int n = 0; n < steps * @_output_size; ++n) {{
    const double size = expected[n] < 0.0f ? -(double)expected[n] : (double)expected[n];
    double distance = (double)outputs[n] - (double)expected[n];
    if (distance < 0.0) distance = -distance;
    if (size > greatest) greatest = size;
    if (!(distance <= worst)) worst = distance;  // also a NaN
    if (worst != worst) return worst;
  }}
  return worst / greatest;
}}

static int check(const char *call, const float *outputs) {{
  const double found = difference(outputs);
  const int passed = found <= {limit};
  printf("@: %s: greatest relative difference %.2g, limit {limit}: %s\\n", call, found,
         passed ? "passed" : "failed");
  return passed;
}}

int main({arguments}) {{
  static float outputs[steps * @_output_size];
  @_state state;
{open}  @_reset(&state);
  for (int n = 0; n < steps; ++n)
    @_step(&state, {input}, outputs + n * @_output_size);
  int passed = check("step", outputs);
  @_reset(&state);
  @_run(&state, {run}, steps, outputs);
  passed &= check("run", outputs);
  return passed ? 0 : 1;
}}
"""

_OPEN = """\
  static float file[@_file_size / sizeof(float)];
  const char *const path = count > 1 ? arguments[1] : "@.bin";
  FILE *const stream = fopen(path, "rb");
  if (stream == NULL) {
    fprintf(stderr, "@: expected the path of @.bin, got %s\\n", path);
    return 1;
  }
  const size_t size = fread(file, 1, sizeof file, stream);
  fclose(stream);
  const int result = @_open(&state, file, size);
  if (result != 0) {
    fprintf(stderr, "@: %s: @_open returned %d\\n", path, result);
    return 1;
  }
"""


def self_test(model: Model, title: str, inputs: Tensor, outputs: Tensor) -> str:
    """Return the text of `NAME_test.c` for recorded inputs and outputs.

    `inputs` are words `(T,)` or vectors `(T, I)`, `outputs` are those of the model `(T, O)`.
    """
    words = model.words is not None
    text = _PROGRAM.format(
        title=title,
        limit=LIMIT,
        steps=len(inputs),
        declaration="int32_t words[steps]" if words else "float inputs[steps * @_input_size]",
        inputs=integers(inputs) if words else numbers(inputs.flatten()),
        input="words[n]" if words else "inputs + n * @_input_size",
        run="words" if words else "inputs",
        outputs=numbers(outputs.float().flatten()),
        arguments="void" if model.embedded else "int count, char **arguments",
        open="" if model.embedded else _OPEN,
    )
    return model.prefixed(text)
