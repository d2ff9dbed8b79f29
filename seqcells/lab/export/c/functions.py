"""C functions that the exported code calls. `@` stands for the prefix of the model's names."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from seqcells.lab.export.c.narrow import TO_BFLOAT16, TO_INT8, narrow_products

INLINE = """\
// A loop with a call is not vectorised, so calls in loops are always inlined.
#if defined(__GNUC__)
#define @_INLINE static inline __attribute__((always_inline))
#else
#define @_INLINE static inline
#endif
"""

_PRODUCTS = """\
// The floats of a vector register, for gcc: wider vectors would be stored in memory at every
// column. Elsewhere the products are plain loops, which clang keeps in registers.
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX512F__)
#define @_LANES 16
#elif defined(__GNUC__) && !defined(__clang__) && defined(__AVX__)
#define @_LANES 8
#endif
#ifdef @_LANES
typedef float @_vector __attribute__((vector_size(@_LANES * sizeof(float))));
#endif

// sums += W x for a number of rows. W is stored column after column. Its rows are independent, so
// no sum is reordered.
"""

_HEAD = "static void @_add_WIDTH(float *sums, const float *weights, const float *x, int columns) {"

_LOOPS = """\
  float totals[WIDTH];
  for (int row = 0; row < WIDTH; ++row) totals[row] = sums[row];
  for (int column = 0; column < columns; ++column, weights += WIDTH)
    for (int row = 0; row < WIDTH; ++row) totals[row] += weights[row] * x[column];
  for (int row = 0; row < WIDTH; ++row) sums[row] = totals[row];"""

# Lines with the suffix REST are left out if the vectors cover all rows. The loops over `totals` are
# unrolled, so that it stays in registers.
_VECTORS = """\
  enum { vectors = WIDTH / @_LANES, rest = vectors * @_LANES };
  @_vector totals[vectors], weight;
  float last[@_LANES];  REST
#pragma GCC unroll 16
  for (int n = 0; n < vectors; ++n) memcpy(&totals[n], sums + n * @_LANES, sizeof weight);
  for (int row = rest; row < WIDTH; ++row) last[row - rest] = sums[row];  REST
  for (int column = 0; column < columns; ++column, weights += WIDTH) {
    const float value = x[column];
#pragma GCC unroll 16
    for (int n = 0; n < vectors; ++n) {
      memcpy(&weight, weights + n * @_LANES, sizeof weight);
      totals[n] += weight * value;
    }
    for (int row = rest; row < WIDTH; ++row) last[row - rest] += weights[row] * value;  REST
  }
#pragma GCC unroll 16
  for (int n = 0; n < vectors; ++n) memcpy(sums + n * @_LANES, &totals[n], sizeof weight);
  for (int row = rest; row < WIDTH; ++row) sums[row] = last[row - rest];  REST"""

WIDEST = 16  # floats per vector


def _add(width: int) -> str:
    """Return the product with a block of rows."""
    body = _LOOPS
    if width >= WIDEST:
        lines = [line for line in _VECTORS.splitlines() if width % WIDEST or "REST" not in line]
        vectors = "\n".join(line.removesuffix("  REST") for line in lines)
        if width % WIDEST == 0:
            vectors = vectors.replace(", rest = vectors * @_LANES", "")
        body = f"#ifdef @_LANES\n{vectors}\n#else\n{_LOOPS}\n#endif"
    return f"{_HEAD}\n{body}\n}}\n".replace("WIDTH", str(width))


_FUNCTIONS = {
    "bits": """\
@_INLINE uint32_t @_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

@_INLINE float @_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
""",
    "select": """\
// condition ? a : b, without a branch: gcc does not vectorise one on a comparison, which may trap.
@_INLINE float @_select(int condition, float a, float b) {
  const uint32_t mask = 0u - (uint32_t)condition;
  return @_float((@_bits(a) & mask) | (@_bits(b) & ~mask));
}
""",
    "where_positive": """\
@_INLINE float @_where_positive(float a, float b, float c) { return @_select(a > 0.0f, b, c); }
""",
    "power": """\
// 2^n for n from -126 to 127.
@_INLINE float @_power(int32_t n) { return @_float((uint32_t)(n + 127) << 23); }

// y, or a NaN if x is one; without a branch.
@_INLINE float @_keep_nan(float x, float y) {
  return @_float(@_bits(y) | (0u - (uint32_t)(x != x)));
}
""",
    "reduced": """\
// x between -limit and limit; a NaN becomes +-limit. The bits are compared as integers, because gcc
// turns comparisons of floats into branches here, and does not vectorise them.
@_INLINE float @_clamp(float x, float limit) {
  const uint32_t size = @_bits(x) & 0x7fffffffu, most = @_bits(limit);
  return @_float((size < most ? size : most) | (@_bits(x) & 0x80000000u));
}

// exp(r) - 1 for x = n ln(2) + r with |r| <= ln(2) / 2, with the polynomial of Cephes' expf.
@_INLINE float @_reduced(float x, int32_t *n) {
  *n = (int32_t)(x * 1.44269504f + 192.5f) - 192;  // rounds; the sum is positive
  const float r = (x - (float)*n * 0.693359375f) - (float)*n * -2.12194440e-4f;
  float sum = 1.9875691500e-4f;
  sum = sum * r + 1.3981999507e-3f;
  sum = sum * r + 8.3334519073e-3f;
  sum = sum * r + 4.1665795894e-2f;
  sum = sum * r + 1.6666665459e-1f;
  sum = sum * r + 5.0000001201e-1f;
  return sum * r * r + r;
}
""",
    "exp": """\
// exp(x) with an error of about 1e-7, relative; 0 below -104, infinity above 89.
@_INLINE float @_exp(float x) {
  int32_t n;
  const float fraction = @_reduced(@_clamp(x, 104.0f), &n);
  // Two factors, because 2^n may be outside the range of normal numbers.
  const int32_t half = (int32_t)((uint32_t)(n + 256) >> 1) - 128;
  return @_keep_nan(x, (1.0f + fraction) * @_power(half) * @_power(n - half));
}
""",
    "sigmoid": """\
@_INLINE float @_sigmoid(float x) { return 1.0f / (1.0f + @_exp(-x)); }
""",
    "tanh": """\
// tanh(x) from exp(2x) - 1, which is accurate for small x; the result is +-1 beyond +-10.
@_INLINE float @_tanh(float x) {
  int32_t n;
  const float fraction = @_reduced(2.0f * @_clamp(x, 10.0f), &n);
  const float power = @_power(n), less_one = power * fraction + (power - 1.0f);
  return @_keep_nan(x, less_one / (less_one + 2.0f));
}
""",
    "relu": """\
// max(x, 0); a NaN stays one.
@_INLINE float @_relu(float x) { return @_select(x < 0.0f, 0.0f, x); }
""",
    "softplus": """\
// log(1 + exp(x)) = max(x, 0) + 2 artanh(u / (2 + u)) with u = exp(-|x|), by its power series.
@_INLINE float @_softplus(float x) {
  const float u = @_exp(@_float(@_bits(x) | 0x80000000u)), z = u / (u + 2.0f), square = z * z;
  float sum = 1.0f / 17.0f;
  sum = sum * square + 1.0f / 15.0f;
  sum = sum * square + 1.0f / 13.0f;
  sum = sum * square + 1.0f / 11.0f;
  sum = sum * square + 1.0f / 9.0f;
  sum = sum * square + 1.0f / 7.0f;
  sum = sum * square + 1.0f / 5.0f;
  sum = sum * square + 1.0f / 3.0f;
  sum = sum * square + 1.0f;
  return @_select(x < 0.0f, 0.0f, x) + 2.0f * z * sum;
}
""",
    "to_int8": TO_INT8,
    "to_bfloat16": TO_BFLOAT16,
    "log_softmax": """\
// Replace logits by log-probabilities, plus a number.
static void @_log_softmax(float *values, int count, float plus) {
  float largest = values[0], sum = 0.0f;
  for (int n = 1; n < count; ++n) largest = values[n] > largest ? values[n] : largest;
  for (int n = 0; n < count; ++n) sum += @_exp(values[n] - largest);
  const float shift = plus - largest - logf(sum);
  for (int n = 0; n < count; ++n) values[n] += shift;
}
""",
    "mean": """\
// The mean, from eight sums that compilers vectorise.
static float @_mean(const float *values, int count) {
  float sums[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f}, total = 0.0f;
  int n = 0;
  for (; n + 8 <= count; n += 8)
    for (int lane = 0; lane < 8; ++lane) sums[lane] += values[n + lane];
  for (; n < count; ++n) total += values[n];
  for (int lane = 0; lane < 8; ++lane) total += sums[lane];
  return total / (float)count;
}
""",
}

_CALLED = {
    "select": ("bits",),
    "where_positive": ("select",),
    "power": ("bits",),
    "reduced": ("bits",),
    "exp": ("power", "reduced"),
    "sigmoid": ("exp",),
    "tanh": ("power", "reduced"),
    "relu": ("select",),
    "softplus": ("exp", "select"),
    "log_softmax": ("exp",),
    "to_int8": ("bits",),
    "to_bfloat16": ("bits",),
}


def functions(names: Iterable[str], widths: Iterable[tuple[torch.dtype, int]]) -> str:
    """Return the definitions of these functions and of products with these types and widths."""
    by_type: dict[torch.dtype, set[int]] = {}
    for dtype, width in widths:
        by_type.setdefault(dtype, set()).add(width)
    whole = sorted(by_type.pop(torch.float32, ()))
    names = [*names, *(f"to_{str(dtype).removeprefix('torch.')}" for dtype in by_type)]
    needed: set[str] = set()
    pending = [name for name in names if name in _FUNCTIONS]
    while pending:
        needed.add(name := pending.pop())
        pending += _CALLED.get(name, ())
    parts = [INLINE] if needed - {"mean"} else []
    parts += [text for name, text in _FUNCTIONS.items() if name in needed]
    parts += [_PRODUCTS + "\n".join(map(_add, whole))] if whole else []
    parts += narrow_products(by_type)
    return "\n".join(parts)
