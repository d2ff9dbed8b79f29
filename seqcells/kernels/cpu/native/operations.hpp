// Written by cells/write_kernels.py from equations/operations.py: `make kernels`.
#pragma once

// By its opcode, each operation and its value for the operands a, b and c.
#define SEQCELLS_OPERATIONS(_) \
  _(ADD, a[w] + b[w]) \
  _(SUB, a[w] - b[w]) \
  _(MUL, a[w] * b[w]) \
  _(DIV, a[w] / b[w]) \
  _(NEG, -a[w]) \
  _(ABS, select(a[w] < V{}, -a[w], a[w])) \
  _(EXP, exp<T>(a[w])) \
  _(SIGMOID, sigmoid<T>(a[w])) \
  _(TANH, tanh<T>(a[w])) \
  _(RELU, select(a[w] < V{}, V{}, a[w])) \
  _(SOFTPLUS, softplus<T>(a[w])) \
  _(SQRT, sqrt<T>(a[w])) \
  _(RSQRT, T(1) / sqrt<T>(a[w])) \
  _(WHERE_POSITIVE, select(a[w] > V{}, b[w], c[w]))
